"""A trained reranker out of a store or a published folder, for people who write Python."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any, cast

from kard.config import require
from kard.db import open_store, rows
from kard.errors import BadConfig, BadInput, Missing, NoBase
from kard.files import adapters_folder
from kard.models import bases
from kard.models.adapters import changed_file
from kard.publish.folder import FACTS, read_facts
from kard.records import Hit, Passage
from kard.reranker.model import Reranker


def load_reranker(
    store: str | Path,
    reranker: str | None = None,
    *,
    task: str | None = None,
    adapters: Path | None = None,
    base: str | None = None,
) -> PassageReranker:
    """Return a reranker of a store, or of a folder that `kard models export` wrote.

    `reranker` is an id, or the beginning of one, as `kard models` shows it; it defaults to the newest of the task.
    `base` says where a folder's base is, if it is not a public one. Raises Missing if there is no such reranker or
    it is not what was trained, BadConfig if several could be meant, NoBase if its base cannot be had.
    """
    path = Path(store)
    if path.is_dir():
        return _load_folder(path, base)
    db = open_store(path, create=False)
    try:
        stored = rows(db, "internal/find_rerankers", reranker=reranker, task=task)
        if not stored:
            words = ", ".join(word for word in (reranker, task) if word)
            raise Missing(
                f"no reranker{f' ({words})' if words else ''} in {path}; "
                f"train one with: kard train reranker {task or 'TASK'} --store {path}"
            )
        if len({row["task"] for row in stored}) > 1 or (reranker is not None and len(stored) > 1):
            listed = "; ".join(f"{row['id']} ({row['task']})" for row in stored[:6])
            raise BadConfig(f"{len(stored)} rerankers could be meant; name one by id or task: {listed}")
        reranker_id = str(stored[0]["id"])
        return PassageReranker(Reranker.load(db, reranker_id, adapters or adapters_folder(path)), reranker_id)
    finally:
        db.close()


class PassageReranker:
    """Scores passages by a question. A passage is a text, a `Passage`, or a hit of a search.

    `id` is the reranker's in its store. Threads may share it; copies are the same.
    """

    def __init__(self, reranker: Reranker, id: str) -> None:
        self.id = id
        self._reranker = reranker
        self._lock = threading.Lock()

    def score(self, question: str, passages: Sequence[str | Passage | Hit]) -> list[float]:
        """Return the score of each passage for the question, higher is better.

        Cosines in [-1, 1]; of a cross-encoder numbers without bounds. They do not depend on the other passages.
        """
        texts = [hit.passage for hit in _hits(passages)]
        with self._lock:  # the tokenizer cannot be used by two threads at once
            return [float(score) for score in self._reranker.scores(question, texts)] if texts else []

    def rank(self, question: str, passages: Sequence[str | Passage | Hit], k: int | None = None) -> list[Hit]:
        """Return the `k` best passages with their scores, best first; all of them for None.

        Passages of one score keep their order. `bm25` is NaN for what is no hit of a search.
        """
        require(k is None or k >= 1, f"k must be at least 1, not {k}")
        hits = _hits(passages)
        scores = self.score(question, passages)
        order = sorted(range(len(hits)), key=lambda i: -scores[i])[:k]
        return [Hit(hits[i].passage, rank, hits[i].bm25, scores[i]) for rank, i in enumerate(order, 1)]

    def __deepcopy__(self, memo: dict[int, Any]) -> PassageReranker:
        return self


def _hits(passages: Sequence[str | Passage | Hit]) -> list[Hit]:
    if isinstance(passages, str):
        raise BadInput("passages is one text; give a list of passages")
    hits: list[Hit] = []
    for rank, passage in enumerate(passages, 1):
        if isinstance(passage, Hit):
            hits.append(passage)
        else:
            hits.append(Hit(Passage.of("", 0, "", passage) if isinstance(passage, str) else passage, rank, nan))
    return hits


def _load_folder(folder: Path, base: str | None) -> PassageReranker:
    """Return the reranker of a published folder. Raises BadInput, Missing or NoBase."""
    try:
        facts = read_facts(folder)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot be read ({error!r}); export it again", at=str(folder / FACTS)) from error
    if "reranker" not in facts:
        raise BadInput(
            f"holds no reranker that kard wrote ({FACTS}); name a store or such a folder", at=str(folder)
        )
    try:
        name, merged = str(facts["reranker"]), bool(facts["merged"])
        settings = cast("dict[str, Any]", facts["settings"])
        if not merged and (changed := changed_file(folder, facts["adapter_sha256"])):
            raise Missing(f"{changed} is not what was trained (its hash differs); export the reranker again")
        trained = bases.resolve(str(folder)) if merged else None
        if trained is not None and trained.sha256 != facts["weights_sha256"]:
            raise Missing(f"the weights in {folder} are not what was exported; export the reranker again")
        if trained is None or settings["side"] == "question":
            original = bases.resolve(base or str(facts["base"]))
            if original.sha256 != facts["base_sha256"]:
                raise NoBase(
                    f"{original.spec} has other weights than reranker {name} was trained on; name another: base="
                )
        else:
            original = trained
        loaded = Reranker.of(
            original,
            settings,
            None if merged else folder,
            trained,
            name=f"reranker {name}",
            again="export it with a version of kard that knows it",
        )
        return PassageReranker(loaded, name)
    except (KeyError, TypeError) as error:
        raise BadInput(f"cannot be read ({error!r}); export it again", at=str(folder / FACTS)) from error
