"""The knowledge base: passages in, a Tantivy index over them, BM25 search and scoring."""
