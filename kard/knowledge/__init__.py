"""The knowledge base: documents in, passages and a BM25 index out.

A knowledge base is a folder of its own, beside the stores that use it: one Wikipedia serves many of them. It
holds `passages.db` (SQLite: the texts) and `tantivy/` (the index: integer ids and term frequencies). Its id is a
hash of its passages and of the analyser. So the hits of one state are never taken for those of another.

Modules, in the order in which a document meets them:

* `sources`: documents out of JSON lines, CSV, parquet, a folder of texts and pages (`pages`), a MediaWiki dump
  (`mediawiki`);
* `wikitext`, `templates`: an article's markup as plain text;
* `splitting`: a document's text into passages of about a hundred words;
* `indexing`: bring both files to what a source says, whatever is killed on the way;
* `stored_sources`: list the sources, remove one, read all of them again;
* `passages_db`: the file of texts, with every statement on it: what is new, unchanged or gone of a source;
* `bm25`: the index: how a query is built, scored and written;
* `shards`: its postings in parts, so that memory does not grow and workers can help;
* `knowledge_base`: what everything else uses: search a text, score passages, read passages.

A passage goes in by `index_source`, which reads, splits, writes the text under a new rowid and indexes it under the
same rowid. A search goes the other way: a text becomes a query of its rarer terms (`Postings.query`), Tantivy gives
rowids and scores, and the texts are read by rowid.
"""
