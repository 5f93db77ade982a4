"""A search of a knowledge base as a retriever: of DSPy, of langchain, of llama-index."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

import dspy

from kard.api.knowledge import Knowledge, Mode
from kard.api.reranker import PassageReranker
from kard.config import Retrieval
from kard.errors import NoExtra
from kard.records import Hit, Passage


class Retriever(dspy.Module):
    """A module that finds the `k` best passages of a query, after the reranker's order if there is one.

    `retriever(query).passages` are texts (`Title: text`), best first; `.hits` are the same with ids and scores. A
    reranker orders the first `candidates` (by default 100) of the search. Nothing in it is learnt or saved.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        k: int = 3,
        *,
        mode: Mode = "bm25",
        reranker: PassageReranker | None = None,
        candidates: int = Retrieval().kappa,
    ) -> None:
        super().__init__()
        self.knowledge, self.k = knowledge, k
        self.mode: Mode = mode
        self.reranker, self.candidates = reranker, candidates

    def find(self, query: str, k: int | None = None) -> list[Hit]:
        """Return the `k` best hits, best first."""
        k = self.k if k is None else k
        if self.reranker is None:
            return self.knowledge.search(query, k, self.mode)
        return self.reranker.rank(query, self.knowledge.search(query, max(k, self.candidates), self.mode), k)

    def forward(self, query: str, k: int | None = None) -> dspy.Prediction:
        """Return `passages` and `hits`."""
        hits = self.find(query, k)
        return dspy.Prediction(passages=[_text(hit.passage) for hit in hits], hits=hits)

    async def aforward(self, query: str, k: int | None = None) -> dspy.Prediction:
        """Return what `forward` returns, from a thread of its own."""
        return await asyncio.to_thread(self.forward, query, k)


def langchain_retriever(retriever: Retriever) -> Any:
    """Return the retriever as a langchain `BaseRetriever`. Raises NoExtra without langchain-core."""
    documents: Any = _imported("langchain_core.documents", "langchain")
    retrievers: Any = _imported("langchain_core.retrievers", "langchain")

    class KardRetriever(retrievers.BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any = None) -> list[Any]:
            return [
                documents.Document(id=hit.passage.id, page_content=hit.passage.text, metadata=_facts(hit))
                for hit in retriever.find(query)
            ]

    return KardRetriever()


def llama_index_retriever(retriever: Retriever) -> Any:
    """Return the retriever as a llama-index `BaseRetriever`. Raises NoExtra without llama-index-core."""
    retrievers: Any = _imported("llama_index.core.retrievers", "llama-index")
    schema: Any = _imported("llama_index.core.schema", "llama-index")

    class KardRetriever(retrievers.BaseRetriever):
        def _retrieve(self, query_bundle: Any) -> list[Any]:
            return [
                schema.NodeWithScore(
                    node=schema.TextNode(id_=hit.passage.id, text=hit.passage.text, metadata=_facts(hit)),
                    score=_score(hit),
                )
                for hit in retriever.find(query_bundle.query_str)
            ]

    return KardRetriever()


def _imported(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NoExtra(f"this retriever needs {extra}-core; install it with: pip install 'kard[{extra}]'") from error


def _facts(hit: Hit) -> dict[str, object]:
    passage = hit.passage
    return {"title": passage.title, "document": passage.document, "part": passage.part, "score": _score(hit)}


def _score(hit: Hit) -> float:
    """Return the score that ordered the hits."""
    return hit.bm25 if hit.score is None else hit.score


def _text(passage: Passage) -> str:
    return f"{passage.title}: {passage.text}" if passage.title else passage.text
