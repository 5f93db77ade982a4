"""The reranker: learns from BM25(rationale, passage) to rank by the question alone."""
