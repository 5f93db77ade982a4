"""The reranker: it orders a question's passages by the question alone, as BM25 orders them by the rationale.

The teacher's rationale names what an answer rests on, so that BM25 finds needed passages by it. A new question has
no rationale. The reranker learns to do without from training questions, which have both (the paper's section 3.3).

Modules in reading order:

    candidates   what a training step sees: some passages of each question, and how its rationales rank them
    dataset      questions and candidates out of the store; passages as texts or as stored vectors
    loss         the four losses on the scores of a step
    model        the reranker itself: scores, loading, what is trained of a base and how that is written
    training     the loop, Hits@k on questions that are held out, and the reranker's row

How a training question becomes weights:

    TrainingQuestion   question, candidates of each accepted rationale, needed passages   dataset.read_dataset
    CandidateSet       the question with the passages that take part                      CandidateSet.of
    Pool               the candidates of an epoch's rationales                            CandidateSet.pool
    TrainingBatch      candidates drawn for one step, with their target                   candidates.draw
    scores             by the model as it is, with gradients                              training.score_matrix
    loss               the difference from what the rationales say                        loss.loss_of
    adapter            a folder below the store's adapters, and a row of `rerankers`      training.train_reranker

Ranking the hits of a store with a trained reranker is `kard.retrieval.rerank`.
"""
