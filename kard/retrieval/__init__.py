"""Find passages for questions and rationales, and put them in order.

Every order of passages that a student may read is made here and kept in the store, so that it is made once.

Modules, in reading order:

* `retrieve`: BM25 with questions (`retrieve`) and with rationales (`ground`), both into `retrievals` and `hits`;
* `rankings`: writes search results and rankings to the store;
* `rerank`: scores each question's hits by the trained reranker, into `rerank_scores`;
* `fusion`: makes one order of two, and chooses on held-out questions how; BM25 with the reranker, into `rankings`;
* `dense`: exact search by vectors over the whole knowledge base, alone or with BM25 (`hybrid`), into `rankings`;
* `live`: the same retrievers for a text that is not in the store, as `kard ask` and `kard search` need them.

A question travels like this. `retrieve` finds its first kappa passages by BM25. The reranker scores these, and
`fusion` may mix both scores. Or `dense` finds the nearest passages by vectors and may mix them with BM25's. The
student reads the first k of the order that its retriever gives. Rationales of training questions are grounded: what
they find first is silver, which students are trained to read and which retrievers are measured by.

Functions take a `QuestionSet`, the first N questions of a split. Those that say what is missing (`unsearched`,
`ungrounded`, `unscored`, `unranked`) only read. Those that do the work commit a batch at a time, and add nothing
when they are called again.
"""
