"""Knowledge-augmented reasoning distillation (KARD, arXiv 2305.18395) over one SQLite store.

A command (`cli/teach.py`) calls a step (`pipeline/teach.py`), which calls the work (`teacher/teach.py`). Every
result is a row of the store, and a step does what the store lacks. A folder imports only folders further down:

    cli          commands
    serve        students behind OpenAI's protocol
    pipeline     the steps in their order, and what a run is          ui           the store in a browser
    evaluation   answer, grade, compare, report
    api          students and programs for people who write Python
    retrieval    find, rerank, fuse passages                          publish      adapters as folders for others
    reranker     train and apply a reranker                           teacher      ask for rationales, verify them
    student      prompts and examples; `training`, `generation`
    encoders     texts to vectors, kept on disk
    knowledge    documents to passages and a BM25 index               models       bases, adapters, hardware
    answers      the option that a text concludes on                  metrics      intervals, tests, ranking metrics

The modules beside them are the vocabulary of all: `records` (questions, passages, ...), `config` (settings),
`tasks`, `db` (the store), `schema`, `questions`, `passages`, `acceptance` (which rationales train), `recipes`
(what a trained thing was made of), `files`, `progress`, `errors`, `version`. Tasks stand in programs/ and SQL in
store/, both beside kard/. tests/test_architecture.py holds all of this.

For people who write Python (`docs/python.md`): `load_student` gives a student as a `dspy.LM`, `load_program` a
task's inference program over it, `with_student` a copy of any program that a student answers, and `finetune`
teaches a student to answer a program. `open_knowledge` searches and fills a knowledge base, `load_reranker` scores
passages, `connect` reads a store's tables. Nothing heavy is imported before one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kard.version import __version__

if TYPE_CHECKING:
    from kard.api.finetune import finetune
    from kard.api.knowledge import Knowledge, open_knowledge
    from kard.api.lm import StudentLM, with_student
    from kard.api.load import load_program, load_student
    from kard.api.measure import measure
    from kard.api.reranker import PassageReranker, load_reranker
    from kard.api.retriever import Retriever, langchain_retriever, llama_index_retriever
    from kard.api.tables import Store, connect
    from kard.config import Decoding, Lora, StudentTraining
    from kard.records import Document, Hit, Passage

__all__ = [
    "Decoding",
    "Document",
    "Hit",
    "Knowledge",
    "Lora",
    "Passage",
    "PassageReranker",
    "Retriever",
    "Store",
    "StudentLM",
    "StudentTraining",
    "__version__",
    "connect",
    "finetune",
    "langchain_retriever",
    "llama_index_retriever",
    "load_program",
    "load_reranker",
    "load_student",
    "measure",
    "open_knowledge",
    "with_student",
]

_MODULES = {
    "Decoding": "kard.config",
    "Lora": "kard.config",
    "StudentTraining": "kard.config",
    "measure": "kard.api.measure",
    "Document": "kard.records",
    "Hit": "kard.records",
    "Passage": "kard.records",
    "StudentLM": "kard.api.lm",
    "with_student": "kard.api.lm",
    "finetune": "kard.api.finetune",
    "load_program": "kard.api.load",
    "load_student": "kard.api.load",
    "Knowledge": "kard.api.knowledge",
    "open_knowledge": "kard.api.knowledge",
    "PassageReranker": "kard.api.reranker",
    "load_reranker": "kard.api.reranker",
    "Retriever": "kard.api.retriever",
    "langchain_retriever": "kard.api.retriever",
    "llama_index_retriever": "kard.api.retriever",
    "Store": "kard.api.tables",
    "connect": "kard.api.tables",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
