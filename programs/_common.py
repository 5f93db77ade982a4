"""The parts that tasks share: signatures of teacher and student, the inference program, and readers of rows.

Nothing here opens a file or calls a model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import cast

import dspy

from kard.files import Row
from kard.records import LETTERS, Passage, Question, digest
from kard.tasks import ENCODERS, STUDENT_BASE, Retrieve

TEST_SHARE = 20  # percent of a person's own questions without a split
YES_NO = ("yes", "no")
TRUTH = {"yes": True, "true": True, "no": False, "false": False}  # pandas writes True and False
OPTIONS = ("options", "choices")  # fields that hold all options
LABELS = ("answerKey", "answer_idx")  # fields that hold the answer's label
NUMBERS = tuple(str(number + 1) for number in range(len(LETTERS)))  # labels of some of ARC's options

STUDENTS: Mapping[str, str] = {  # the built-in base, then the paper's three (section 4.1)
    "135m": STUDENT_BASE,
    "250m": "google/flan-t5-base",
    "780m": "google/flan-t5-large",
    "3b": "google/flan-t5-xl",
}
MEDICAL_ENCODERS: Mapping[str, str] = {
    **ENCODERS,
    "biolinkbert": "michiyasunaga/BioLinkBERT-base",
}


class Teach(dspy.Signature):
    """Explain, step by step and from facts, why the given answer is right.

    End with one sentence that states the answer: "Therefore, the answer is (A) ...".
    """

    question: str = dspy.InputField()
    options: str = dspy.InputField(desc="one a line, each with its letter: (A) ...")
    answer: str = dspy.InputField(desc="the text of the right option")
    rationale: str = dspy.OutputField(desc="facts, then: Therefore, the answer is (letter) option.")
    letter: str = dspy.OutputField(desc="the letter of the option that the rationale leads to, and nothing else")


class Answer(dspy.Signature):
    """Reason about the question, from the passages where some are given, then choose an option."""

    question: str = dspy.InputField()
    options: list[str] = dspy.InputField()
    passages: list[str] = dspy.InputField(desc="what was found, best first, as Title: text")
    rationale: str = dspy.OutputField(desc="the facts that decide")
    answer: str = dspy.OutputField(desc="the text of one option")


class RetrieveThenAnswer(dspy.Module):
    """Retrieve, rerank, reason, answer (section 3.4). `retrieve` does the first two."""

    def __init__(self, signature: type[dspy.Signature], retrieve: Retrieve | None) -> None:
        super().__init__()
        self.reason = dspy.Predict(signature)
        self.retrieve = retrieve

    def forward(self, question: str, options: Sequence[str] = ()) -> dspy.Prediction:
        """Return the signature's outputs and `passages`, the list[Passage] that the prompt contains."""
        passages = self.retrieve(question, list(options)) if self.retrieve else []
        prediction = self.reason(**self._inputs(question, options, passages))
        prediction.passages = passages
        return prediction

    async def aforward(self, question: str, options: Sequence[str] = ()) -> dspy.Prediction:
        """Return what `forward` returns; passages are found in a thread."""
        passages = await asyncio.to_thread(self.retrieve, question, list(options)) if self.retrieve else []
        prediction = await self.reason.acall(**self._inputs(question, options, passages))
        prediction.passages = passages
        return prediction

    def _inputs(self, question: str, options: Sequence[str], passages: Sequence[Passage]) -> dict[str, object]:
        inputs = {
            "passages": [p.line for p in passages],
            "question": question,
            "options": list(options),
        }
        # A method that reads no passages has no such input.
        fields = cast("type[dspy.Signature]", self.reason.signature).input_fields
        return {name: value for name, value in inputs.items() if name in fields}


def lettered(options: Sequence[str]) -> str:
    """Return the options one per line, as the teacher reads them: '(A) yes', '(B) no'."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def shot(question: str, options: Sequence[str], answer: str, because: str) -> Mapping[str, str]:
    """Return an example for the teacher, with the fields of `Teach`. `answer` is the letter."""
    right = options[LETTERS.index(answer)]
    return {
        "question": question,
        "options": lettered(options),
        "answer": right,
        "rationale": f"{because} Therefore, the answer is ({answer}) {right}.",
        "letter": answer,
    }


def required(row: Row, *names: str) -> str:
    """Return the text of the first of these fields in the row. Raises ValueError if there is none, or no text."""
    for name in names:
        if name in row:
            value = row[name]
            if not isinstance(value, str):
                raise ValueError(f"field {name!r} holds {_kind(value)}, not text")
            if not value.strip():
                raise ValueError(f"field {name!r} is empty")
            return value.strip()
    raise ValueError(f"no field {' or '.join(repr(name) for name in names)}")


def optional(row: Row, *names: str) -> str:
    """Return the text of the first of these fields that is not empty, else ''. Raises ValueError for no text."""
    filled = [name for name in names if row.get(name) not in (None, "")]
    if not filled or not str(row[filled[0]]).strip():
        return ""
    return required(row, filled[0])


def several(row: Row, name: str) -> tuple[str, ...]:
    """Return the texts of a list field, () if it is absent or empty.

    A cell of a CSV holds the list as JSON; other text is a list of one. Raises ValueError for anything else.
    """
    value = row.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        value = listed(value, name)
    if not isinstance(value, list | tuple):
        raise ValueError(f"field {name!r} holds {_kind(value)}, not a list")
    texts = cast("Sequence[object]", value)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"field {name!r} lists {_kind(text)}, not only texts")
    return tuple(text.strip() for text in cast("Sequence[str]", texts) if text.strip())


def listed(text: str, name: str) -> object:
    """Return the JSON list or object that a CSV's cell holds, else a list of the text itself. Raises ValueError."""
    if not text.lstrip().startswith(("[", "{")):
        return [text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"field {name!r} starts like a JSON list or object but is none") from error


def written(value: object, name: str) -> str:
    """Return a text or number as text, '' for null. Raises ValueError for anything else."""
    if value is None:
        return ""
    readable = isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))
    if not readable or isinstance(value, bool):
        raise ValueError(f"field {name!r} holds {_kind(value)}, not text")
    return str(value).strip()


def by_label(answer: str, options: Mapping[str, str]) -> str:
    """Return the letter of the option with this label. Raises ValueError."""
    if answer not in options:
        raise ValueError(f"answer {answer!r} is not one of {', '.join(options)}")
    return LETTERS[list(options).index(answer)]


def by_label_or_text(answer: str, options: Mapping[str, str]) -> str:
    """Return the letter of the answer, which is a label, in either case, or an option's exact text.

    Raises ValueError, also for an answer that is the label of one option and the text of another.
    """
    meanings = [
        letter
        for letter, (label, text) in zip(LETTERS, options.items(), strict=False)
        if answer == text or answer.upper() == label
    ]
    if len(meanings) > 1:
        raise ValueError(f"answer {answer!r} may mean {' or '.join(meanings)}; options must not look like labels")
    return meanings[0] if meanings else by_label(answer, options)


def key_of(row: Row, text: str, options: Sequence[str], *names: str) -> str:
    """Return the published id, or a hash of question and options where a file has none."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if key := optional(row, name):
            return key
    return digest(text, *options)


def _check_number(options: int) -> None:
    if not 2 <= options <= len(LETTERS):
        raise ValueError(f"the number of options is {options}, not 2 to {len(LETTERS)}")


def checked(options: Sequence[str]) -> tuple[str, ...]:
    """Return the options, of which there must be 2 to 26, none empty. Raises ValueError."""
    _check_number(len(options))
    for name, option in zip(LETTERS, options, strict=False):
        if not option.strip():
            raise ValueError(f"option {name} is empty")
    return tuple(option.strip() for option in options)


def plain(
    row: Row,
    options: Sequence[str] | None = None,
    read: Callable[[str, Mapping[str, str]], str] = by_label,
) -> Question:
    """Return the question of a row {id, split, question, options, answer, facts, evidence, rationale}.

    As in published rows, the question may be an object with stem and choices or be called `question_stem`, the
    options `choices`, and the answer's label `answerKey` or `answer_idx`. `options` stand for those of the row; ()
    asks for a short answer. `read` turns an answer into an option's letter; null or '' means that the answer is
    unknown. Raises ValueError.
    """
    inner = cast("Row", row["question"]) if isinstance(row.get("question"), Mapping) else row
    stem = "stem" if inner is not row else "question_stem" if "question_stem" in row else "question"
    text = required(inner, stem)
    texts = options_of(inner) if options is None else dict(zip(LETTERS, options and checked(options), strict=False))
    return Question(
        key=key_of(row, text, tuple(texts.values()), "id"),
        split=optional(row, "split"),
        text=text,
        options=tuple(texts.values()),
        answer=_answer(row, texts, read),
        evidence=tuple(dict.fromkeys(several(row, "evidence"))),
        facts=several(row, "facts"),
        rationale=optional(row, "rationale", "explanation"),
    )


def with_split(question: Question) -> Question:
    """Return the question with a split, by a hash of its key where it has none: about a fifth are for testing."""
    drawn = "test" if int(digest(question.key, length=8), 16) % 100 < TEST_SHARE else "train"
    return question if question.split else replace(question, split=drawn)


def _answer(row: Row, options: Mapping[str, str], read: Callable[[str, Mapping[str, str]], str]) -> str | None:
    """Return the letter of a row's answer, the answer itself without options, None if it is unknown.

    Raises ValueError if label and text disagree.
    """
    if not any(name in row for name in ("answer", *LABELS)):
        raise ValueError("no field 'answer'")
    answer = written(row.get("answer"), "answer")
    if not options:
        return answer or None
    label = next((label for name in LABELS if (label := written(row.get(name), name))), "")
    if not label:
        return read(answer, options) if answer else None
    letter = by_label(label, options)
    if answer not in ("", label, options[label]):
        raise ValueError(f"answer {answer!r} is not option {label}, {options[label]!r}")
    return letter


def options_of(row: Row) -> dict[str, str]:
    """Return the row's options by their labels, in the order of these. Raises ValueError.

    `options` or `choices` holds a list of texts, a list of {label, text} or {key, value}, an object with a list of
    texts and one of labels, or an object with each text under its label. A CSV's cell holds one of these as JSON.
    Labels are A, B, ... or 1, 2, ...; texts without are labelled A, B, ... Empty options at the end are left out.
    """
    name = next((name for name in OPTIONS if row.get(name) not in (None, "")), "")
    if not name:
        raise ValueError("no field 'options' or 'choices'")
    value = row[name]
    pairs = _pairs(listed(value, name) if isinstance(value, str) else value, name)
    labels = [label for label, _ in pairs]
    if len(set(labels)) != len(labels):
        raise ValueError(f"two of the {name!r} have the same label")
    known = next((known for known in (LETTERS, NUMBERS) if set(labels) == set(known[: len(labels)])), None)
    if known is None:
        raise ValueError(f"options are labelled {', '.join(sorted(labels))}, not from A or 1 on")
    texts = dict(pairs)
    cells = without_gaps([texts[label] for label in known[: len(labels)]])
    return dict(zip(known, checked(cells), strict=False))


def _pairs(value: object, name: str) -> list[tuple[str, str]]:
    """Return label and text of each option. Raises ValueError."""
    labels: Sequence[object]
    texts: Sequence[object]
    if isinstance(value, Mapping) and isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
        labels, texts = value["label"], value["text"]
    elif isinstance(value, Mapping):
        labels, texts = list(cast("Row", value)), list(cast("Row", value).values())
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in cast("list[object]", value)):
        cells = [cast("Row", item) if isinstance(item, Mapping) else {} for item in cast("list[object]", value)]
        labels = [cell.get("label", cell.get("key")) for cell in cells]
        texts = [cell.get("text", cell.get("value")) for cell in cells]
        if None in labels:
            raise ValueError(f"field {name!r} does not hold objects with label and text, or key and value")
    elif isinstance(value, list):
        texts = cast("list[object]", value)
        _check_number(len(texts))
        labels = LETTERS[: len(texts)]
    else:
        raise ValueError(f"field {name!r} holds {_kind(value)}, not a list")
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts but {len(labels)} labels in {name!r}")
    return [(written(label, name), written(text, name)) for label, text in zip(labels, texts, strict=True)]


def without_gaps(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the cells up to the last one with text. Raises ValueError for an empty one before it."""
    last = max((i for i, cell in enumerate(cells) if cell), default=-1)
    for letter, cell in zip(LETTERS, cells[: last + 1], strict=False):
        if not cell:
            raise ValueError(f"option {letter} is empty but option {LETTERS[last]} is not")
    return tuple(cells[: last + 1])


def _kind(value: object) -> str:
    """Return the type of a value in the words of JSON."""
    if value is None:
        return "nothing"
    kinds: Mapping[str, str] = {
        "bool": "true or false",
        "int": "a number",
        "float": "a number",
        "dict": "an object",
    }
    return kinds.get(type(value).__name__, f"a {type(value).__name__}")
