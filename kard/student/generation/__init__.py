"""Generation: samples for rows of prompts, by any number of students over one base in memory.

    sampling           the loop over new tokens, random draws by a row's own seed, scores of options
    kv_cache           keys and values of prompts that were read in pieces; attention of one new token
    decoder            a causal model: `read` prompts, then `generate` after them or `score` options
    encoder_decoder    the same for T5's kind, where prompts are encoded
    student            `LoadedBase`, `Student`, `PromptedStudent`, `Row`; `load_student` out of the store
    batch              `generate_rows`: a sample for each row, of students with one or several adapters
    endpoint           `EndpointQueue`: the same rows, written by a server
    engine             `StudentEngine` and `EngineLM` for DSPy, over one `Queue` for each base

A row goes through it as follows. The engine queues it, with the decoding that the request asks for. `next_batch`
picks rows that are decoded alike, whatever their budgets: those of one student with many rows, or of all students
with few. `generate_rows` activates an adapter for many rows, or adds the products of several adapters to each
layer's output. Rows of like length form a batch whose keys and values fit into memory. Equal prompts are read once;
rows that end leave the batch. A sample holds the text, the answer read from it (or forced), the tokens and its
share of the time.

A row draws by its own seed, whatever its batch, and greedy decoding draws nothing. So batches change only rounding.
"""
