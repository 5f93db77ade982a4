"""What one SQLite file holds, as SQL. `kard/db.py` alone reads this folder; it is installed as `kard.store`.

* `tables.sql`: every table, index and trigger, with the meaning of each table and column beside it.
* `migrations.py`: bring a file to this form: the first runs `tables.sql`, later ones mend stores of before.
* `views.sql`: the views, which every store gets anew when they change here.
* `queries/NAME.sql`: canned queries, one statement each. `kard query` and `kard ui` list them with the sentence
  that they begin with; `kard query NAME -p PARAMETER VALUE` runs one. To add one, add a file.
* `queries/internal/NAME.sql`: the statements that kard itself runs, by `kard.db.rows(db, "internal/NAME", ...)`.

How a question travels: `kard load` writes `questions` and `evidence`; the teacher writes `rationales`. BM25
writes `retrievals` with their `hits`, once for the question and once for each rationale. A reranker writes
`rerank_scores`, other retrievers write `rankings`. Training writes `students`. Each answer is a row of
`predictions` under its condition in `evaluations`, with the `samples` that the student wrote. What a step still
has to do is a query for missing rows.
"""
