"""The data that a reranker is trained on: questions with candidates, each scored by BM25(rationale, passage).

Passages are texts, or vectors where only the questions' side learns. Those vectors are the base's: they are
computed once, kept beside the knowledge base, and read by every training and every ranking with that base.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from kard.acceptance import require_verdicts
from kard.config import SILVER_DEPTH, Accept, RerankerTraining, Retrieval
from kard.db import rows, sql
from kard.encoders.vectors import open_encodings, passage_text
from kard.errors import Missing
from kard.passages import read_passages
from kard.progress import SILENT, Progress
from kard.questions import QuestionSet, query_of
from kard.recipes import Recipe, TrainingData, recipe_of
from kard.records import Passage, digest
from kard.reranker.candidates import Candidates, TrainingQuestion

if TYPE_CHECKING:
    import torch

    from kard.encoders.encoder import Encoder
    from kard.models.bases import Base

HELD_OUT_FROM = 20  # with fewer questions than this, every one is trained on
DEFAULT = Retrieval()
MAX_HELD_OUT = 100  # questions: ranking more of them would cost more than it tells

Numbers = NDArray[np.int64]
"""Passages by their numbers in `RerankerDataset.texts`."""
Vectors = NDArray[np.float16]
"""(N passages, H), of unit length."""
VectorsOf = Callable[["Encoder", Numbers], Vectors]


@dataclass(frozen=True, slots=True)
class RerankerDataset:
    """Everything that one training reads."""

    task: str
    questions: tuple[TrainingQuestion, ...]
    texts: tuple[str, ...]  # of the passages, as the encoder reads them
    data: TrainingData  # its hash covers questions, rationales and candidates with their scores
    ids: tuple[str, ...] = ()  # of the passages, in the knowledge base; () when they are in none

    def recipe(self, base: Base, settings: RerankerTraining, experiment: str = "") -> Recipe:
        """Return the recipe of the reranker that this base becomes with these settings."""
        return recipe_of(
            "reranker",
            self.data,
            task=self.task,
            base=base.spec,
            base_sha256=base.sha256,
            settings=settings.values(),
            experiment=experiment,
        )

    def split(self, seed: int, share: float = 0.1) -> tuple[list[TrainingQuestion], list[TrainingQuestion]]:
        """Return the questions to train on, and a share to measure on.

        At most 100 are measured on, and none when there are fewer than 20 in all. A question is on one side with
        all its rationales. (The authors' code splits by rationale, so that it validates on questions it trains on.)
        """
        shuffled = sorted(self.questions, key=lambda question: digest(str(seed), question.key))
        held_out = min(int(len(shuffled) * share), MAX_HELD_OUT) if len(shuffled) >= HELD_OUT_FROM else 0
        return shuffled[held_out:], shuffled[:held_out]


def read_dataset(
    db: Database,
    questions: QuestionSet,
    index_id: str,
    *,
    teacher_id: str | None = None,
    accept: Accept = "own",
    skip: int = 0,
    settings: Retrieval = DEFAULT,
) -> RerankerDataset:
    """Read the candidates of the questions' accepted rationales that were found in this index.

    Only searches of the settings' forms count, and a question's text is what is searched with for it.

    The first `skip` questions are left out, and at most `questions.limit` follow. Raises Missing when none has
    candidates, or where verdicts that `accept` asks for are missing.
    """
    last = None if questions.limit is None else skip + questions.limit
    require_verdicts(db, replace(questions, limit=last), accept, teacher_id)
    evidence: dict[str, set[str]] = {}
    for row in rows(db, "internal/evidence_passages", task=questions.task):
        evidence.setdefault(str(row["key"]), set()).add(str(row["passage_id"]))
    numbers: dict[str, int] = {}
    read: list[TrainingQuestion] = []
    data = hashlib.sha256()
    parameters = {**questions.parameters, "index": index_id, "teacher": teacher_id, "accept": accept, "skip": skip}
    cursor = db.execute(sql("internal/reranker_candidates"), {**parameters, **settings.forms})
    for (_, key, stem, options), of_question in groupby(cursor, key=lambda row: row[:4]):
        text = query_of(stem, json.loads(options), settings.query).read
        rationales: list[Candidates] = []
        for (_, rationale), of_rationale in groupby(of_question, key=lambda row: (row[4], row[5])):
            candidates = [row[6:] for row in of_rationale]
            if len(candidates) > 1:  # one candidate alone teaches nothing
                rationales.append(_candidates(candidates, numbers))
            # Four decimals: the last bits of a sum of floats differ between machines.
            lines = "".join(f"{i}\t{bm25:.4f}\t{listed}\t{rank}\n" for i, bm25, listed, rank in candidates)
            data.update(f"{key}\0{text}\0{rationale}\0{lines}".encode())
        if rationales:
            gold = frozenset(numbers[i] for i in evidence.get(key, ()) if i in numbers)
            silver = frozenset(int(i) for i in rationales[0].passages[:SILVER_DEPTH])
            needed = gold if evidence.get(key) else silver
            read.append(TrainingQuestion(key, text, tuple(rationales), needed))
    if not read:
        name = questions.task
        raise Missing(f"no candidates to train a reranker of {name} on; find them with: kard ground {name}")
    passages = read_passages(db, list(numbers))
    texts = tuple(passage_text(passages[i]) for i in numbers)
    count = sum(len(question.rationales) for question in read)
    source = TrainingData(
        data.hexdigest(),
        len(read),
        count,
        teacher_id,
        index_id,
        questions.limit,
        skip,
        questions.fraction,
        questions.seed,
        accept,
    )
    return RerankerDataset(questions.task, tuple(read), texts, source, tuple(numbers))


def _candidates(rows: Sequence[tuple[str, float, int, int | None]], numbers: dict[str, int]) -> Candidates:
    """Return the candidates in rows of id, BM25, whether the rationale found it, and the question's rank.

    Passages that are new get the next numbers.
    """
    return Candidates(
        passages=np.array([numbers.setdefault(row[0], len(numbers)) for row in rows], dtype=np.int64),
        bm25=np.array([row[1] for row in rows], dtype=np.float32),
        by_rationale=np.array([bool(row[2]) for row in rows]),
        question_rank=np.array([row[3] or 0 for row in rows], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class CandidatePassages:
    """Candidate passages, addressed by number. If `vectors` is set, scoring uses it instead of encoding `texts`."""

    texts: Sequence[str]
    vectors: Vectors | None = None  # a row for each of `texts`

    @classmethod
    def of(
        cls, dataset: RerankerDataset, encoder: Encoder, numbers: Iterable[int], vectors_of: VectorsOf | None
    ) -> CandidatePassages:
        """Return the passages with vectors for these numbers; no other passage may be scored.

        Without `vectors_of` the vectors are computed here and kept nowhere.
        """
        distinct = np.unique(np.fromiter(numbers, np.int64))
        vectors = np.zeros((len(dataset.texts), encoder.width), np.float16)
        vectors[distinct] = (vectors_of or computed_vectors(dataset))(encoder, distinct)
        return cls(dataset.texts, vectors)

    def read(self, numbers: Numbers) -> list[str]:
        """Return the texts of these passages."""
        return [self.texts[int(i)] for i in numbers]

    def rows(self, numbers: Numbers, device: torch.device) -> torch.Tensor | None:
        """Return the vectors of these passages, (N, H) in float32; None when texts are to be encoded."""
        if self.vectors is None:
            return None
        import torch

        return torch.from_numpy(self.vectors[numbers].astype(np.float32)).to(device)


def computed_vectors(dataset: RerankerDataset) -> VectorsOf:
    """Return a function that computes the vectors of passages from their texts."""

    def vectors(encoder: Encoder, numbers: Numbers) -> Vectors:
        import torch  # seconds, for the training alone: `kard status` reads the data, too

        with torch.inference_mode():
            return encoder.pooled([dataset.texts[i] for i in numbers]).cpu().numpy().astype(np.float16)

    return vectors


def stored_vectors(
    db: Database, dataset: RerankerDataset, base: Base, knowledge: Path, progress: Progress = SILENT
) -> VectorsOf:
    """Return a function that reads vectors from the knowledge base's folder, after adding those that it lacks.

    Vectors that find no room on the disk are computed in memory.
    """

    def read(ids: Sequence[str]) -> Iterable[Passage]:
        # In two parts: the order within a batch moves a hundredth of its vectors by their last bit.
        return [*read_passages(db, ids[:900]).values(), *read_passages(db, ids[900:]).values()]

    def vectors(encoder: Encoder, numbers: Numbers) -> Vectors:
        from kard.encoders.encoder import encode_passages

        spec = encoder.vector_spec(base=base.spec, base_sha256=base.sha256)
        encodings = open_encodings(knowledge, spec)
        ids = [dataset.ids[i] for i in numbers]
        encodings.fill(ids, read, lambda passages: encode_passages(encoder, passages, spec), progress=progress)
        stored = encodings.get(ids)
        rows = np.zeros((len(ids), encoder.width), np.float16)
        for place, passage in enumerate(ids):
            if passage in stored:
                rows[place] = stored[passage]
        encodings.close()
        if missing := [place for place, passage in enumerate(ids) if passage not in stored]:
            rows[missing] = computed_vectors(dataset)(encoder, numbers[missing])
        return rows

    return vectors
