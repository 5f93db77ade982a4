"""The parts that tasks share: signatures of teacher and student, the inference program, and readers of rows.

Nothing here opens a file or calls a model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import dspy

from kard.files import Row
from kard.records import LETTERS, Passage, Question, digest
from kard.tasks import STUDENT_BASE, Retrieve

YES_NO = ("yes", "no")

STUDENTS: Mapping[str, str] = {  # the built-in base, then the paper's three (section 4.1)
    "135m": STUDENT_BASE,
    "250m": "google/flan-t5-base",
    "780m": "google/flan-t5-large",
    "3b": "google/flan-t5-xl",
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

    def forward(self, question: str, options: Sequence[str]) -> dspy.Prediction:
        """Return the signature's outputs and `passages`, the list[Passage] that the prompt contains."""
        passages = self.retrieve(question, list(options)) if self.retrieve else []
        prediction = self.reason(**self._inputs(question, options, passages))
        prediction.passages = passages
        return prediction

    async def aforward(self, question: str, options: Sequence[str]) -> dspy.Prediction:
        """Return what `forward` returns; passages are found in a thread."""
        passages = await asyncio.to_thread(self.retrieve, question, list(options)) if self.retrieve else []
        prediction = await self.reason.acall(**self._inputs(question, options, passages))
        prediction.passages = passages
        return prediction

    def _inputs(self, question: str, options: Sequence[str], passages: Sequence[Passage]) -> dict[str, object]:
        inputs = {
            "passages": [f"{p.title}: {p.text}" for p in passages],
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
        value = _list_of(value, name)
    if not isinstance(value, list | tuple):
        raise ValueError(f"field {name!r} holds {_kind(value)}, not a list")
    texts = cast("Sequence[object]", value)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"field {name!r} lists {_kind(text)}, not only texts")
    return tuple(text.strip() for text in cast("Sequence[str]", texts) if text.strip())


def _list_of(text: str, name: str) -> object:
    """Return the JSON list that a text holds, or a list of the text itself."""
    if not text.lstrip().startswith("["):
        return [text]
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"field {name!r} starts like a JSON list but is none") from error


def by_letter(answer: str, options: Sequence[str]) -> str:
    """Return the answer, which must be the letter of an option. Raises ValueError."""
    letters = LETTERS[: len(options)]
    if len(answer) != 1 or answer not in letters:
        raise ValueError(f"answer {answer!r} is not one of {', '.join(letters)}")
    return answer


def by_letter_or_text(answer: str, options: Sequence[str]) -> str:
    """Return the letter of the answer, which is a letter of either case or an option's exact text.

    Raises ValueError, also for an answer that is the letter of one option and the text of another.
    """
    letters = LETTERS[: len(options)]
    meanings = {letters[i] for i, option in enumerate(options) if option == answer}
    if len(answer) == 1 and answer.upper() in letters:
        meanings.add(answer.upper())
    if len(meanings) > 1:
        raise ValueError(
            f"answer {answer!r} may mean {' or '.join(sorted(meanings))}; options must not look like letters"
        )
    return meanings.pop() if meanings else by_letter(answer, options)


def key_of(row: Row, text: str, options: Sequence[str], *names: str) -> str:
    """Return the published id, or a hash of question and options where a file has none."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if key := optional(row, name):
            return key
    return digest(text, *options)


def checked(options: Sequence[str]) -> tuple[str, ...]:
    """Return the options, of which there must be 2 to 26, none empty. Raises ValueError."""
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"the number of options is {len(options)}, not 2 to {len(LETTERS)}")
    for name, option in zip(LETTERS, options, strict=False):
        if not option.strip():
            raise ValueError(f"option {name} is empty")
    return tuple(option.strip() for option in options)


def plain(row: Row, options: Sequence[str], read: Callable[[str, Sequence[str]], str] = by_letter) -> Question:
    """Return the question of a row in the plain form {id, split, question, answer, facts, evidence, rationale}.

    `read` turns the answer into a letter; null or '' means that the answer is unknown. Raises ValueError.
    """
    text = required(row, "question")
    options = checked(options)
    if "answer" not in row:
        raise ValueError("no field 'answer'")
    answer = optional(row, "answer")
    return Question(
        key=key_of(row, text, options, "id"),
        split=optional(row, "split"),
        text=text,
        options=options,
        answer=read(answer, options) if answer else None,
        evidence=tuple(dict.fromkeys(several(row, "evidence"))),
        facts=several(row, "facts"),
        rationale=optional(row, "rationale", "explanation"),
    )


def lettered_options(options: Mapping[object, object]) -> tuple[str, ...]:
    """Return the options of {"A": ..., "B": ...} in the order of their letters. Raises ValueError."""
    texts = {str(name).strip(): text for name, text in options.items()}
    letters = LETTERS[: len(texts)]
    if set(texts) != set(letters) or len(texts) != len(options):
        raise ValueError(f"options are lettered {', '.join(sorted(texts)) or 'by nothing'}, not from A on")
    return tuple(required(texts, letter) for letter in letters)


def labelled_options(choices: object) -> tuple[str, ...]:
    """Return the texts in the order of their labels, of [{text, label}, ...] or {text: [...], label: [...]}.

    Raises ValueError for anything else, and for labels that are not A, B, ...
    """
    if isinstance(choices, Mapping):
        columns = cast("Row", choices)
        texts, labels = several(columns, "text"), several(columns, "label")
    elif isinstance(choices, list):
        cells = [_cell(choice) for choice in cast("list[object]", choices)]
        texts, labels = tuple(text for text, _ in cells), tuple(label for _, label in cells)
    else:
        raise ValueError("no field 'choices'")
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts but {len(labels)} labels in 'choices'")
    if len(set(labels)) != len(labels):
        raise ValueError("two of the 'choices' have the same label")
    return lettered_options(dict(zip(labels, texts, strict=True)))


def _cell(choice: object) -> tuple[str, str]:
    if not isinstance(choice, Mapping):
        raise ValueError("field 'choices' does not hold objects with text and label")
    cell = cast("Row", choice)
    return required(cell, "text"), required(cell, "label")


def listed_options(row: Row, name: str = "options") -> tuple[str, ...]:
    """Return the options of a row in the plain form. Raises ValueError if it has none."""
    if name not in row:
        raise ValueError(f"no field {name!r}")
    return several(row, name)


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
