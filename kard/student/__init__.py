"""Students: small language models that read passages, reason, and answer.

A student is a base model with one adapter (LoRA), or with trained weights of its own. A base that is only prompted
is a student as well. This folder writes what a student reads, trains it, and generates with it. It does not search
passages (`kard.retrieval`), judge answers (`kard.evaluation`) or load models (`kard.models`).

How a training question becomes weights:

    pair        a question, an accepted rationale and its passages, from the store     examples.training_pairs
    text        a prompt and a target in the student's one form                        prompt, examples.render_pair
    ids         both as token ids, cut to fit                                          tokens.Tokens
    step        the cross-entropy of the target tokens, batch by batch                 training.train.fit
    student     the adapter's folder, then its row in the store                        training.train.train_student

How a question becomes an answer:

    request     the task's DSPy program renders the same form, one request per sample  prompt.StudentAdapter
    row         waits in the queue of its base until a batch is full                   generation.engine.EngineLM
    batch       rows of one adapter, or of several in one pass                         generation.batch
    text        prompts are read, then continued token by token                        generation.decoder
    answer      the option read from the text; if none, the likeliest is added         generation.batch
    outputs     rationale and answer as the signature's fields                         prompt.StudentAdapter

Modules in reading order, each after those that it imports:

    prompt          fields of a signature to prompt and target, and a text back to fields; the DSPy adapter
    tokens          text to token ids; lists of ids to padded batches
    examples        training questions with rationale and passages; the worked examples for a prompted base
    records         rows of the table `students`: add one, find one, read its settings
    training/       loss, checkpoint, train
    generation/     sampling, kv_cache, decoder, encoder_decoder, student, batch, engine

Training and generation share `prompt` and `tokens`, so that a student sees the very ids that it was trained on.
They do not import each other: an adapter's folder and a row of the store are all that passes between them.
"""
