"""The parts of the method for `kard ablate`: each row is the whole with one part taken out or spoiled."""

from __future__ import annotations

from collections.abc import Mapping

from kard.config import TaskSettings
from kard.pipeline.sweep import Values

WHOLE = "whole"
WRONG = (0.1, 0.3, 0.5)  # shares of the rationales


def parts_of(settings: TaskSettings) -> Mapping[str, Values]:
    """Return what each row changes of a run with these settings, in the words of `kard sweep --over`.

    `method` and `retriever` replace the whole's. A student that is taught one rationale in an epoch sees as many
    texts with its one rationale as with different ones, so that there is nothing to repeat.
    """
    student = settings.student
    rows: dict[str, Values] = {
        WHOLE: {},
        "no reranker": {"retriever": "bm25"},
        "no knowledge": {"method": "rd"},
        "no rationale": {"method": "ka-ft"},
        "no acceptance": {"accept": "none"},
        "one rationale": {"student.distinct": "1"},
    }
    if student.rationales > 1:
        often = {"student.rationales": "1", "epochs": str(student.epochs * student.rationales)}
        rows["one rationale, repeated"] = {"student.distinct": "1", **often}
    rows["training passages by BM25"] = {"student.passages": "bm25"}
    rows["training passages shuffled"] = {"student.passages": "shuffled"}
    return rows | {f"{share:.0%} wrong rationales": {"student.wrong": str(share)} for share in WRONG}
