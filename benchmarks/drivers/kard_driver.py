"""kard beside its peers: does what the lines of its input say, which benchmarks/peers.py writes."""

from __future__ import annotations

import platform
from importlib.metadata import version
from math import log
from pathlib import Path

import tantivy
from lines import commands, read, write

from kard import __version__
from kard.config import Retrieval
from kard.db import open_store
from kard.knowledge.indexing import index_source
from kard.knowledge.knowledge_base import POSTINGS, KnowledgeBase
from kard.questions import QuestionSet
from kard.retrieval.retrieve import ground


class Base:
    """A knowledge base that is searched as shipped, and with a query's heaviest terms alone."""

    def __init__(self, folder: str) -> None:
        self.kb = KnowledgeBase.open(Path(folder))
        index = tantivy.Index.open(f"{folder}/{POSTINGS}")
        self._schema, self._searcher = index.schema, index.searcher()

    def search(self, text: str, k: int, share: float, most: int) -> list[tuple[int, float]]:
        """Return rowids and scores, by the `most` terms with the largest product of count and idf; 0 for all."""
        if not most:
            return self.kb.search_rowids(text, k, max_df=share)
        count = self.kb.count
        weighed = [
            (n * log(1 + (count - df + 0.5) / (df + 0.5)), term, n)
            for term, n in self.kb.postings.counted(text, share)
            if (df := self._searcher.doc_freq("text", term))
        ]
        parts = [self._part(term, n) for _, term, n in sorted(weighed, reverse=True)[:most]]
        return self.kb.postings.top(tantivy.Query.boolean_query([(tantivy.Occur.Should, p) for p in parts]), k)

    def _part(self, term: str, count: int) -> tantivy.Query:
        query = tantivy.Query.term_query(self._schema, "text", term, index_option="freq")
        return tantivy.Query.boost_query(query, float(count))


def main() -> None:
    base: Base | None = None
    for words in commands(f"kard {__version__}, tantivy {version('tantivy')}, Python {platform.python_version()}"):
        match words, base:
            case ["index", source, folder], _:
                index_source(Path(source), Path(folder))
            case ["open", folder], _:
                base = Base(folder)
            case ["search", queries, k, share, "text", _, _], Base():
                for query in read(queries):
                    base.kb.search(query, int(k), max_df=float(share))
            case ["search", queries, k, share, _, out, most], Base():
                found = [base.search(query, int(k), float(share), int(most)) for query in read(queries)]
                write(out, ([rowid - 1 for rowid, _ in hits] for hits in found))
            case ["ground", store, task], Base():
                ground(open_store(Path(store)), base.kb, QuestionSet(task, "train"), Retrieval())
            case _:
                raise ValueError(words)


if __name__ == "__main__":
    main()
