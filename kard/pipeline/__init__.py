"""The steps of a run, in order.

A command (`cli/run`) calls a step (a module here), which calls the work (`teacher/teach`). A step
bears the name of the work that it calls.

- `options`: what a person chose (`RunOptions`).
- `run`: a task, its store and the options, and the rows that they mean (`Resolved`), looked up once and
  without writing.
- `step`: what a step is: when it is needed, of what kind it is, what it lacks, what deletes its results.
- `steps`: the list of all steps. `kard run`, `status`, `evaluate` and `rebuild` are loops over it.
- `load`: questions of a file into the store; every run begins with them.
- `teach`: rationales of the training questions.
- `retrieve`: passages found with each evaluated question (`retrieve`) and with each rationale (`ground`).
- `rerank`: a reranker learns from rationales (`reranker`) and orders candidates (`rerank`); its order is mixed
  with BM25's (`fuse`).
- `dense`: nearest passages by vectors (`dense`), and their order mixed with BM25's (`hybrid`).
- `students`: an adapter for each size and method (`student`), and its answers (`answer`).
- `contamination`: a warning where evaluated questions stand in training questions or passages (`screen`).
- `evaluate`: any stored students, of any settings, under many retrievers.
- `ablate`, `ablation`: settings of the reranker compared one factor at a time.
- `demo`: the whole pipeline over an invented world.

A step asks the store what is missing, commits each unit, and adds nothing on a second run. There is no
progress file: a killed run goes on where it was.
"""
