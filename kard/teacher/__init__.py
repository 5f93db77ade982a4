"""The teacher: rationales from any DSPy LM or from a file, checked, and paid for once.

In reading order:

- `records`   teachers and rationales as rows of the store; loading them from files and writing them to files
- `calls`     one call: the teacher's id, its inputs, its reply with tokens and dollars
- `requests`  many calls by several workers within a budget; every reply that was paid for is stored
- `teach`     the samples that the store lacks, and the run that asks for them
- `verify`    a second opinion: another model reads a rationale and says which option it leads to

How a question travels: `teach.missing_samples` lists the samples that the store lacks for a `QuestionSet`.
`requests` hands each of them to a worker, which asks with `calls.ask`. The teacher sees the question, its options
and the gold answer (section 3.1) and writes a rationale. `records.rationale_row` reads from its text which option
it concludes on; the rationale is accepted if that is the gold answer. Only accepted rationales train students and
rerankers. Rationales from elsewhere enter through `records.load_rationales` and count the same.
"""
