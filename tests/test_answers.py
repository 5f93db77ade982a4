"""The answer that a text concludes on."""

from __future__ import annotations

import gzip
import json
import string
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kard.answers.parsing import answer_of, conclusion, letter_of, without_closing, without_conclusions
from kard.records import LETTERS

YES_NO = ("yes", "no")
METALS = ("Tarsk", "Velm", "Tarsk Minor", "Orin")
NUMBERS = ("12", "120", "1.2", "-12")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Therefore, the correct answer is (B) no.", "B"),
        ("So the answer is yes.", "A"),
        ("Answer: B", "B"),
        ("Thus, X did not fall. The answer is no", "B"),
        ("Therefore, option (B) is correct.", "B"),
        ("Based on this we can confidently choose answer (A) as the correct answer.", "A"),
        ('The answer to the question "Can a stone swim?" is NO.', "B"),
        ("So, to answer the question, yes, there is a link, but a weak one.", "A"),
        ("Therefore, the answer is B (no).", "B"),
        ("Therefore, we must choose answer (B), no, as we cannot tell.", "B"),
        ("The answer to this yes or no question is yes.", "A"),
        ("The answer is \N{LEFT DOUBLE QUOTATION MARK}no\N{RIGHT DOUBLE QUOTATION MARK}.", "B"),
        ("Yes, iron rusts.", "A"),
        ("Is iron hard? Yes, since it is a metal. The answer is no.", "B"),
        ("Thus, we cannot say yes to it, and the correct answer would be (B) no.", "B"),
        ("We can rule out choices (A) and (C). So it is (B).", "B"),
        ("Option (A) is incorrect and option (B) is the correct answer.", "B"),
        ("Option (B) is the correct answer. Option (A) suggests that it was first, which is not true.", "B"),
    ],
)
def test_yes_and_no_are_read_where_they_are_said_to_be_the_answer(text: str, letter: str) -> None:
    assert conclusion(text, YES_NO) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I know that it is not known.",
        "A dog is an animal. No dog is a stone.",
        "No one knows.",
        "The answer is no one knows.",
        "The answer is (C) not enough information.",
        "The answer is (A) no.",
        "The answer is (A) or (B).",
        "The answer could be either yes or no.",
        "The answer is not (A).",
        "It is neither of them: rather than choices (A) or (B), nobody knows.",
        "The answer is (A) or options (B).",
        "The answer is a dog.",
        "A dog is the correct answer.",
        "The answer is yes. But no: the answer cannot be determined.",
    ],
)
def test_a_text_that_commits_to_no_option_or_to_two_concludes_on_none(text: str) -> None:
    assert conclusion(text, YES_NO) is None


def test_the_last_concluding_statement_wins() -> None:
    assert conclusion("The answer is yes. On reflection the answer is no.", YES_NO) == "B"
    assert conclusion("If it rains, the answer would be no. It is dry, so the answer is yes.", YES_NO) == "A"
    assert conclusion("The answer is yes. If it had rained, the answer would be no.", YES_NO) == "A"
    assert conclusion("It cannot be known, so no answer can be given. Hence, option (B) is correct.", YES_NO) == "B"


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("Answer: Tarsk", METALS, "A"),
        ("the answer is option C", METALS, "C"),
        ("So the answer is TARSK, MINOR.", METALS, "C"),
        ("The answer is not Tarsk but Velm.", METALS, "B"),
        ("The answer is Tarsk, not Velm.", METALS, "A"),
        ("Tarsk sinks. Therefore, Velm floats.", METALS, None),  # a conclusion, but not of which is the answer
        (r"\boxed{B}", METALS, "B"),
        ("**Final answer:** (d) Orin", METALS, "D"),
        ("Velm or Tarsk? The answer is 'Velm'", METALS, "B"),
        ("The answer is 120.", NUMBERS, "B"),
        ("The answer is 12.", NUMBERS, "A"),
        ("The answer is 1.2", NUMBERS, "C"),
        ("The answer is -12", NUMBERS, "D"),
        ("The answer is 12.5", NUMBERS, None),
        ("The answer is C++.", ("C", "C++"), "B"),
        ("The answer is St. Paul.", ("St. Paul", "Rome"), "A"),
        ("So the answer is vitamin B.", ("vitamin A", "vitamin B"), "B"),
        ("The answer is A tin of fish.", ("lead", "a tin of fish"), "B"),
        ("The answer is B.", ("B", "C"), None),
        ("The answer is tin.", ("tin", "tin"), None),
        ("The answer is no.", ("no", "yes"), "A"),
    ],
)
def test_options_are_told_apart_by_their_texts_the_longest_first(
    text: str, options: tuple[str, ...], letter: str | None
) -> None:
    assert conclusion(text, options) == letter


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("It sinks.\nAnswer: b", YES_NO, "B"),
        ("It sinks. Answer: no", YES_NO, "B"),
        ("Answer: A\nAnswer: B", YES_NO, "B"),
        ("The answer is no.\nAnswer: yes", YES_NO, "A"),
        ("So the answer is yes.\nAnswer:", YES_NO, "A"),
        ("Answer:\n\n(B)", YES_NO, "B"),
        ("Answer: tarsk minor.", METALS, "C"),
        ("Answer: D) Orin", METALS, "D"),
        ("Answer: the Velm", METALS, "B"),
        ("Answer: Velm or Tarsk", METALS, None),
        ("Answer: (A) Velm", METALS, None),
        ("Answer: purple", METALS, None),
        ("Answer: A dog", METALS, None),
        ("Answer: no one", YES_NO, None),
        ("The answer is yes.", YES_NO, "A"),
        ("", YES_NO, None),
    ],
)
def test_a_students_answer_is_what_follows_its_last_answer_mark(
    text: str, options: tuple[str, ...], letter: str | None
) -> None:
    assert answer_of(text, options) == letter


words = st.text(string.ascii_lowercase, min_size=4, max_size=9).map(lambda w: f"x{w}")  # no English word
option_texts = st.lists(words | st.lists(words, min_size=2, max_size=3).map(" ".join), min_size=2, max_size=6)
TEMPLATES = (
    "So the answer is {text}.",
    "Therefore, the correct answer is ({letter}) {text}, as was said.",
    "Therefore, the answer is ({letter}).",
    "Hence, option {letter} is correct.",
    "({letter}) {text} is the correct answer.",
    "Answer: {letter}",
    "Answer: {text}",
    "The answer to this question is most likely {text}",
    "We choose ({letter}).",
)


@given(option_texts, st.data(), st.sampled_from(TEMPLATES), st.sampled_from((str, str.upper, str.title)))
def test_every_way_of_saying_it_is_read_for_any_options(
    options: list[str], data: st.DataObject, template: str, cased: type[str]
) -> None:
    assume(len(set(options)) == len(options))
    i = data.draw(st.integers(0, len(options) - 1))
    other = options[i - 1]
    text = f"{other} was looked at first. " + template.format(letter=LETTERS[i], text=cased(options[i]))
    assert conclusion(text, options) == LETTERS[i]
    assert answer_of(text, options) == LETTERS[i]


@given(st.text() | st.text(alphabet="AB()yesno .,:\n*\"'answer is"), st.lists(st.text(), max_size=30))
def test_any_text_and_any_options_give_a_letter_of_theirs_or_none(text: str, options: list[str]) -> None:
    for read in (conclusion(text, options), answer_of(text, options)):
        assert read is None or read in tuple(LETTERS[: len(options)])


@given(st.text(alphabet="ABCanoyes12. \n"), st.sampled_from([YES_NO, METALS, NUMBERS]))
def test_an_announced_letter_is_read_behind_any_text(before: str, options: tuple[str, ...]) -> None:
    assert conclusion(f"{before}\n\nTherefore, the answer is (B).", options) == "B"


HOSTILE = (
    *("answer is ", "the answer is (A), ", "answer to ", "best ", "A ", "(A) ", "B. ", "no ", "not the "),
    *("so it is ", "tin ", "tin, lead, ", "Answer: ", "<answer>", "{", '"', "(", ". ", ",", "\n", "that ", "if "),
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_steps_that_a_hostile_text_takes_grow_with_its_length_alone(unit: str) -> None:
    def steps(size: int) -> int:
        """Return the number of lines that run, which no other process changes."""
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            count += event == "line"
            return trace if "kard/answers" in frame.f_code.co_filename else None

        text = unit * (size // len(unit))
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for read in (conclusion, answer_of, without_conclusions):
                read(text, ("tin", "lead", "no"))
            without_closing(text)
        finally:
            sys.settrace(before)
        return count

    short, long = steps(1000), steps(8000)
    assert long < 16 * max(short, 100)  # 8 times as long; a quadratic reader takes 64 times as many


def test_text_of_a_megabyte_is_read() -> None:
    assert conclusion("answer is " * 100_000 + "\nThe answer is (B).", YES_NO) == "B"


def _cases(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("read", [conclusion, answer_of])
@pytest.mark.parametrize(
    "case", _cases(Path(__file__).parent / "answer_cases.jsonl"), ids=lambda case: case["text"][:40]
)
def test_a_plain_form_is_read_and_nothing_else(
    case: dict[str, Any], read: Callable[[str, Sequence[str]], str | None]
) -> None:
    assert read(case["text"], case["options"]) in case["right"]


def test_no_public_shape_of_answer_is_read_wrongly_and_few_are_missed(shared_data: Path) -> None:
    path = shared_data.parent / "cases" / "answers.jsonl"
    if not path.exists():
        pytest.skip(f"no {path}")
    cases = _cases(path)
    for read in (conclusion, answer_of):
        letters = [(case, read(case["text"], case["options"])) for case in cases]
        wrong = [case["text"] for case, letter in letters if letter is not None and letter not in case["right"]]
        missed = [case["text"] for case, letter in letters if letter is None and None not in case["right"]]
        assert not wrong
        assert len(missed) <= 0.1 * sum(None not in case["right"] for case in cases)


MARKED = ("{}", "**{}**", "`{}`", "${}$", '"{}"', "\\boxed{{{}}}", "\\text{{{}}}")
DENIALS = (
    "The answer is not {}.",
    "The answer cannot be {}.",
    "The answer is certainly not {}.",
    "I would never choose {}.",
    "Answer: not {}",
    "I doubt that the answer is {}.",
    "Many people say that the answer is {}.",
    "A common mistake is to say that the answer is {}.",
    "If it were cold, the answer would be {}.",
    "The answer might be {}.",
    "Is the answer {}?",
    "The worst answer is {}.",
    "The answer is {}, which is wrong.",
    "The answer is {}. Wait, that is wrong.",
)
PAIRS = (
    "{} or {}",
    "{} and {}",
    "{}, {}",
    "{}/{}",
    "{} & {}",
    "both {} and {}",
    "either {} or {}",
    "neither {} nor {}",
)


@given(option_texts, st.data())
def test_what_is_denied_doubted_told_asked_or_taken_back_is_no_answer(
    options: list[str], data: st.DataObject
) -> None:
    assume(len(set(options)) == len(options))
    i = data.draw(st.integers(0, len(options) - 1))
    named = data.draw(st.sampled_from((f"({LETTERS[i]})", LETTERS[i], options[i])))
    text = data.draw(st.sampled_from(DENIALS)).format(named)
    assert conclusion(text, options) is None
    assert answer_of(text, options) is None


@given(option_texts, st.data())
def test_two_options_at_once_are_no_answer(options: list[str], data: st.DataObject) -> None:
    assume(len(set(options)) == len(options))
    i, j = data.draw(st.lists(st.integers(0, len(options) - 1), min_size=2, max_size=2, unique=True))
    names = data.draw(st.sampled_from(([f"({LETTERS[i]})", f"({LETTERS[j]})"], [options[i], options[j]])))
    pair = data.draw(st.sampled_from(PAIRS)).format(*names)
    for text in (f"The answer is {pair}.", f"Answer: {pair}", pair):
        assert conclusion(text, options) is None
        assert answer_of(text, options) is None


@given(option_texts, st.data())
def test_a_letter_beside_another_options_text_is_no_answer(options: list[str], data: st.DataObject) -> None:
    assume(len(set(options)) == len(options))
    i, j = data.draw(st.lists(st.integers(0, len(options) - 1), min_size=2, max_size=2, unique=True))
    for text in (f"({LETTERS[i]}) {options[j]}", f"{options[j]} ({LETTERS[i]})"):
        assert conclusion(f"The answer is {text}.", options) is None
        assert answer_of(f"Answer: {text}", options) is None


@given(option_texts, st.data(), st.sampled_from(MARKED))
def test_markup_around_an_answer_changes_nothing(options: list[str], data: st.DataObject, marked: str) -> None:
    letter = LETTERS[data.draw(st.integers(0, len(options) - 1))]
    for text in (
        f"Answer: {marked.format(letter)}",
        f"**Answer:** {marked.format(letter)}.",
        marked.format(letter),
    ):
        assert answer_of(text, [*map(str, options)]) == letter
        assert letter_of(marked.format(letter), options) == letter


def test_recorded_rationales_agree_with_the_answer_they_were_given(shared_data: Path) -> None:
    folder = shared_data / "strategyqa"
    questions = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    gold = {question["id"]: question for question in map(json.loads, questions)}
    with gzip.open(folder / "rationales-train-gpt-3.5-turbo.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for i, line in enumerate(lines) if i % 8 == 0]
    read = [(conclusion(row["rationale"], YES_NO), gold[row["question_id"]]["answer"]) for row in rows]
    unread = sum(letter is None for letter, _ in read) / len(read)
    agree = sum(letter == answer for letter, answer in read) / (len(read) * (1 - unread))
    assert agree > 0.975
    assert unread < 0.07  # read by hand: these argue, suppose or take back without ever stating an answer


@pytest.mark.parametrize(
    ("rationale", "shortened"),
    [
        ("It flows. Therefore, the answer is (C) a river.", "It flows."),
        ("It flows.\nAnswer: C", "It flows."),
        ("It flows. So the correct answer is a river, not a bay.", "It flows."),
        ("Therefore, the answer is (A) yes.", "Therefore, the answer is (A) yes."),
        ("The answer is plain to those who read. It flows.", "The answer is plain to those who read. It flows."),
    ],
)
def test_a_closing_that_only_says_the_answer_is_left_out(rationale: str, shortened: str) -> None:
    assert without_closing(rationale) == shortened


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("It is dry.\nAnswer: a", ("a desert", "a tree"), None),
        ("It is dry.\nAnswer: b", YES_NO, None),
        ("It is dry.\nAnswer: Tarsk", METALS, None),  # or Tarsk Minor
        ("It is dry.\nAnswer: b.", YES_NO, "B"),
        ("It is dry.\nAnswer: B", YES_NO, "B"),
        ("It is dry.\nAnswer: no", YES_NO, "B"),
        ("It is dry.\nAnswer: (b)\nIt", YES_NO, "B"),
    ],
)
def test_what_may_go_on_in_a_text_that_was_cut_is_no_answer(
    text: str, options: tuple[str, ...], letter: str | None
) -> None:
    assert answer_of(text, options, cut=True) == letter


def test_reasons_after_a_first_answer_stay_and_only_a_closing_at_the_end_is_cut() -> None:
    reasons = (
        "The answer is yes. Lemons hold much of the vitamin, and the drink is made of " + "juice, " * 30 + "too."
    )
    assert without_closing(f"{reasons} So the answer is (A) yes.") == " ".join(reasons.split())
    assert without_closing(reasons) == " ".join(reasons.split())


def test_a_reader_is_shown_reasons_without_any_sentence_that_says_the_answer() -> None:
    text = "The answer is no. It floats, as wood does. Therefore, option (B) is correct. No, it does not sink."
    assert without_conclusions(text, YES_NO) == "It floats, as wood does."
    assert without_conclusions("So the answer is (A) yes.", YES_NO) == ""


def test_few_recorded_rationales_tell_a_reader_their_answer_and_none_loses_many_words(shared_data: Path) -> None:
    with gzip.open(shared_data / "strategyqa" / "rationales-train-gpt-3.5-turbo.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["rationale"] for i, line in enumerate(lines) if i % 8 == 0]
    assert max(len(text.split()) - len(without_closing(text).split()) for text in texts) <= 40
    told = sum(conclusion(without_conclusions(text, YES_NO), YES_NO) is not None for text in texts)
    assert told / len(texts) < 0.05  # 56% where only the closing was left out
