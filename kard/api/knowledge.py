"""A knowledge base to search and to add to, for people who write Python."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kard.config import Retrieval, require
from kard.errors import BadInput
from kard.files import adapters_folder
from kard.knowledge.indexing import Indexed, index_documents, index_source
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.knowledge.sources import document_of
from kard.progress import SILENT, Progress
from kard.records import Document, Hit, Passage, digest
from kard.retrieval.live import LiveRetriever, require_vectors
from kard.tasks import ENCODER_BASE

if TYPE_CHECKING:
    from kard.retrieval.dense import DenseSearch, PassageEncoder

Mode = Literal["bm25", "dense", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
Documents = Iterable[str | Document | Mapping[str, object]]
ADDED = "added from Python"  # name of the source that `add` brings


def open_knowledge(path: str | Path, *, encoder: str | None = None, store: str | Path | None = None) -> Knowledge:
    """Return the knowledge base in a folder, or the one beside a store; a new folder begins with the first `add`.

    `encoder` makes the vectors of dense and hybrid search: a base as `kard encodings fill --encoder` takes it, or a
    reranker of the store by its id. It defaults to the embedded base; `store` to the one beside the folder.
    """
    path = Path(path)
    folder = path.with_suffix(".knowledge") if path.is_file() else path
    return Knowledge(folder, encoder, Path(store) if store else folder.resolve().with_suffix(".db"))


class Knowledge:
    """Passages of documents, searched by words, by vectors or by both. Threads may share it; copies are the same.

    It reads the state of the folder at the first search, or after its own last `add`.
    """

    def __init__(self, folder: Path, encoder: str | None, store: Path) -> None:
        self.folder = folder
        self._encoder_name, self._store = encoder, store
        self._lock = threading.RLock()
        self._opened: KnowledgeBase | None = None
        self._loaded_encoder: PassageEncoder | None = None
        self._dense: DenseSearch | None = None

    def search(
        self, text: str | Sequence[str], k: int = 10, mode: Mode = "bm25", *, max_df: float | None = None
    ) -> list[Hit]:
        """Return the `k` best passages, best first. Any text will do: it is prose, never query syntax.

        Of several texts, a passage has the best score that one of them gives it. Of a hit, `bm25` is NaN if the
        words did not find it, and `score` is None for words alone. Terms in more than `max_df` of all passages do
        not count. The modes `dense` and `hybrid` encode up to 2,000 passages that lack a vector. Raises Missing if
        more lack one or there is no knowledge base, BadConfig for an unknown mode.
        """
        require(mode in MODES, f"mode must be one of {', '.join(MODES)}, not {mode}")
        require(k >= 1, f"k must be at least 1, not {k}")
        settings = Retrieval() if max_df is None else Retrieval(max_df=max_df, max_df_from=0)
        if mode == "bm25":
            return LiveRetriever(self._kb, None, settings).search(text, k)
        with self._lock:  # the encoder's tokenizer cannot be used by two threads at once
            return self._by_vectors(mode, settings).search(text, k)

    def add(
        self, documents: Documents | Path, *, source: str = "", words: int = 100, progress: Progress = SILENT
    ) -> Indexed:
        """Add documents, or bring what a file or folder brought before up to date, like `kard index`.

        A document is a text, a mapping with id, title and text, or a `Document`. One that was added before under
        the same id and `source` is replaced; others stay. `words` is the length of a passage, about. Raises
        BadInput for a document that is none, and leaves the knowledge base as it was.
        """
        if isinstance(documents, str):
            raise BadInput("add takes a list of documents or a pathlib.Path, not one text: add([text])")
        with self._lock:
            if isinstance(documents, Path):
                indexed = index_source(documents, self.folder, progress=progress, words=words, name=source)
            else:
                indexed = index_documents(
                    _documents(documents),
                    self.folder,
                    source=source or ADDED,
                    progress=progress,
                    words=words,
                    keep_others=True,
                )
            self._opened = self._dense = None  # not closed: another thread may be searching in it
        return indexed

    def encode(self, progress: Progress = SILENT) -> int:
        """Make the vector of every passage that lacks one, as `kard encodings fill` does; return their number."""
        from kard.retrieval.dense import DenseSearch

        with self._lock:
            self._dense = DenseSearch(self._kb, self._encoder.embedder)
            return self._dense.fill(progress)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """Return the passages of these ids, in this order; unknown ids are left out."""
        return self._kb.passages(ids)

    def close(self) -> None:
        """Close the files. The next search opens them again."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = self._dense = None

    @property
    def id(self) -> str:
        """The hash of all passages and of how they are analysed."""
        return self._kb.id

    def __len__(self) -> int:
        return self._kb.count

    def __repr__(self) -> str:
        return f"Knowledge({str(self.folder)!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Knowledge:
        return self

    @property
    def _kb(self) -> KnowledgeBase:
        with self._lock:
            self._opened = self._opened or KnowledgeBase.open(self.folder)
            return self._opened

    @property
    def _encoder(self) -> PassageEncoder:
        from kard.retrieval.dense import named_encoder

        if self._loaded_encoder is None:
            adapters = adapters_folder(self._store)
            self._loaded_encoder = named_encoder(self._encoder_name, self._store, adapters)
        return self._loaded_encoder

    def _by_vectors(self, mode: Mode, settings: Retrieval) -> LiveRetriever:
        """Return the retriever of that mode. Vectors are read once, and made where few lack one."""
        from kard.retrieval.fusion import Fusion
        from kard.retrieval.live import dense_retriever

        if self._dense is None:
            if self._loaded_encoder is None:
                require_vectors(self._kb, self._encoder_name or ENCODER_BASE)
            self._dense = dense_retriever(self._kb, self._encoder, settings).dense
        live = LiveRetriever(self._kb, None, settings, dense=self._dense)
        return replace(live, fusion=Fusion()) if mode == "hybrid" else live


def _documents(documents: Documents) -> Iterator[Document]:
    """Yield documents; a text's key is its hash. Raises BadInput with the number of one that is none."""
    for number, document in enumerate(documents):
        if isinstance(document, Document):
            yield document
        elif isinstance(document, str):
            yield Document(digest(document), "", document)
        else:
            try:
                yield document_of(document)
            except (ValueError, AttributeError) as error:
                raise BadInput(f"{error}; or give a text or a kard.Document", at=f"document {number}") from error
