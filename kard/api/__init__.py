"""What people who write Python call; `kard` itself exports it, and `docs/python.md` shows it.

In reading order:

- `load`            `load_student` gives a student as a `dspy.LM`; `load_program` a task's program over one
- `lm`              that LM, and `with_student`: any DSPy program with predictors that a student answers
- `finetune`        trains a student for any DSPy program
- `demonstrations`  the calls that such a training learns: from labelled examples, or from a teacher's traces
- `knowledge`       `open_knowledge`: a knowledge base to search and to add to
- `reranker`        `load_reranker`: scores of passages for a question
- `retriever`       both as a retriever of DSPy, langchain or llama-index
- `measure`         nDCG@10 of a retriever on a data set in BEIR's layout
- `tables`          `connect`: a store's tables as records and data frames

How a question travels: `load_program` builds the program that the task declares. Called with a question, it
retrieves passages from the knowledge base beside the store, reranks them, and hands them to its predictor.
`lm.StudentPredict` asks the student in the form that it was trained on; the engine answers what several threads ask
in one batch. The prediction has the signature's outputs, and the passages and tokens that evaluation stores.
"""
