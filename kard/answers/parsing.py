"""Read the answer that a text concludes on. A wrong letter is worse than none, so that only plain forms count.

    the answer is B        also in other languages, `Answer: B`, `\\boxed{B}`, `<answer>B</answer>`, {"answer": "B"}
    B is correct           `B is the right answer`, `making B the best choice`
    I choose B             `we go with B`, `so it must be B`
    Therefore, B.          `No, it would not.`, or nothing but `(B) nickel`: a reply, where no sentence says more

The last sentence of such a form decides. It concludes on nothing if it names two options, denies, doubts, asks or
supposes; nor does a text whose later sentences deny the option or take it back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from kard.answers.mentions import MARKS, NAMES, NOTHING, Item, ends, folded, options_of


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ANSWER = _set(
    "answer answers answer's solution verdict antwort lösung respuesta réponse reponse "
    "risposta resposta ответ 答案 答え 正解 回答 정답"
)
_CHOICE = _set("option choice one conclusion")  # of _RIGHT, the answer
_CLAIM = _set("statement claim sentence assertion proposition hypothesis")  # is true or false
_RIGHT = _set("correct right best final accurate appropriate suitable valid logical plausible proper")
_WRONG = _set("incorrect wrong invalid impossible eliminated excluded mistaken")
_IS = _set("is are was be being becomes remains seems appears = : > ist es est è é 是 为 為 は 은 는")
_NOT = _set(
    "not never neither nor cannot can't isn't aren't wasn't won't wouldn't couldn't shouldn't don't doesn't didn't"
)
_FILLER = _set(
    "an a the that which here with as it it's more most very quite highly resounding definite definitive clear simple probable strong firm "
    "cautious option options choice choices letter answer indeed still also thus then so just in fact this case of "
    "course therefore likely to question would must should will has have correcta correcte corretta , - ( ["
)
_DOUBT = _NOT | _set(
    "no if unless whether suppose assuming might may could doubt mistake mistaken tempting misconception wrong "
    "wrongly incorrect false untrue myth trap error unlikely people students someone somebody others many some they "
    "initial initially previous previously alternative another avoid although"
)
_OF = _set("to of for as on regarding about in")  # "the answer to the question ... is"
_HINGES = _set("depends depend lies hinges requires needs relies if unless ;")
_CHOOSE = _set("choose chose choosing select selecting pick picking conclude concluded say with for on 选 選")
_PARTICLE = {"with": _set("go going went"), "for": _set("opt opting"), "on": _set("settle settling")}
_ANSWERING = _set("to we i can would should must will could")  # before the verb `answer`
_MAKE = _set("make makes making made")
_BOUNDS = _set(", ; : . ! ? - ( ) so therefore thus hence and but")
_OPENS = _set(
    "and but therefore thus hence so consequently accordingly overall finally ultimately then in conclusion summary "
    "short to conclude summarize this case step , . : - ( ) well"
)
_SO = _set("so therefore thus hence must consequently")
_REASON = _set("because since as for given due based")
_GLUE = _set(", ; / & and or nor but also maybe perhaps possibly then option options choice answer")
_LEAD = _set(
    ", ; : - ( ) > option choice answer only that so therefore thus hence and but while then the to making makes"
)
_BACK = _set("wait actually correction oops scratch sorry mistake mistaken reconsider reconsidering")
_UNDECIDED = _set("neither both either cannot can't unknown unclear uncertain undetermined inconclusive unable")
_INSTEAD = _set(", but rather instead it is it's option the answer")
_SPLITS = _set(
    "is are was isn't aren't wasn't cannot can't or and but nor if unless when would could might may not"
)
_LATER = _NOT | _set("than unlike except without over instead eliminates excludes like")
_REACH = 12  # items that a form may hold between its words

_ANSWER_MARK = re.compile(r"\banswer\b[\s*_]*[:=]", re.I)

# A closing sentence that only repeats the answer. `Answer:` gives it, and each token costs a small student.
_CLOSING = re.compile(
    r"(?:^|(?<=[.!?]))\s*(?:(?:therefore|thus|hence|so|consequently)\b,?\s*)?(?:the\s+)?(?:(?:correct|final)\s+)?"
    r"answer(?:\s+is\b|\s*:)",
    re.I,
)
CLOSING_WORDS = 30  # of a closing, at most: in 16,030 recorded rationales, longer ones go on to give reasons


def conclusion(text: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that the text concludes on, None if it concludes on none or on several."""
    parsed = options_of(tuple(options))
    text = folded(text).rpartition("</think>")[2]
    if text.lstrip().startswith("<think>"):  # cut while thinking
        return None
    if (field := _json_answer(text)) is not None:
        return letter_of(field, options)
    denied: set[str] = set()
    replies: set[str] = set()
    taken_back = False
    sentences = list(parsed.sentences(text))
    for i, items in reversed(list(enumerate(sentences))):
        letter = _statement(items, denied)
        if letter is not None:
            return None if taken_back or letter in denied or replies - {letter} else letter or None
        if (reply := _reply(items, last=i == len(sentences) - 1)) is not None:
            replies.add(reply)
        taken_back = taken_back or any(item.word in _BACK for item in items)
    return replies.pop() or None if len(replies) == 1 and not replies & denied and not taken_back else None


def letter_of(field: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a field holding nothing but an answer names, None for none or several."""
    line = " ".join(field.split())
    return conclusion(f"Answer: {line}", options) if line else None


def answer_of(text: str, options: Sequence[str], *, cut: bool = False) -> str | None:
    """Return the letter that follows the text's last `Answer:`, else the one that the text concludes on.

    None if neither can be read. `cut` says that the text was cut at its budget: then `Answer: a` may be the
    beginning of an option or of any word, and gives no letter.
    """
    text = folded(text)
    if markers := list(_ANSWER_MARK.finditer(text)):
        line = next((line for line in text[markers[-1].end() :].splitlines() if line.strip()), "")
        if cut and text.endswith(line) and _goes_on(line, options):
            return None
        if (letter := letter_of(line, options)) is not None:
            return letter
    return conclusion(text, options)


def without_closing(rationale: str) -> str:
    """Return the rationale in one line, without a closing at its end that only gives the answer.

    A rationale that is nothing but a closing is returned whole, and so is one that goes on to give reasons.
    """
    text = rationale.rstrip()
    closings = list(_CLOSING.finditer(text))
    start = closings[-1].start() if closings else len(text)
    closing = text[start:].strip()
    if "\n" in closing or len(closing.split()) > CLOSING_WORDS:
        start = len(text)
    return " ".join(text[:start].split()) or " ".join(text.split())


def without_conclusions(rationale: str, options: Sequence[str]) -> str:
    """Return the rationale's reasons in one line, '' if it has none: what a reader is shown who is to judge them.

    Left out are the sentences that say which option is the answer, and last ones that suggest it.
    """
    text = folded(rationale)
    kept: list[str] = []
    for items in options_of(tuple(options)).sentences(text):
        named = any(item.letter for item in items)
        if not (_statement(items, set()) or (named and any(item.word in _ANSWER for item in items))):
            kept.append(text[items[0].start : items[-1].end])
    while kept and conclusion(kept[-1], options):
        kept.pop()
    return " ".join(" ".join(kept).split())


def _goes_on(line: str, options: Sequence[str]) -> bool:
    """Return whether an answer at the end of a text that was cut may be the beginning of a longer one."""
    begun = line.strip(" \t*_([{\"'")
    if len(begun) == 1 and begun.islower():
        return True
    longer = (
        text.strip()[len(begun) :] for text in options if text.strip().casefold().startswith(begun.casefold())
    )
    return bool(begun) and any(longer)


def _json_answer(text: str) -> str | None:
    """Return the answer of a text that is a JSON object, None for every other text."""
    body = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if not (body.startswith("{") and body.endswith("}")):
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    fields = cast("Mapping[str, Any]", value)
    return next((str(fields[name]) for name in reversed(fields) if "answer" in name.casefold()), None)


def _statement(items: Sequence[Item], denied: set[str]) -> str | None:
    """Return the letter that a sentence commits to, NOTHING for none or two, None if it is no statement.

    Letters that it denies are added to `denied`.
    """
    if items[-1].word == "?" or any(item.word in ("if", "unless", "suppose", "assuming") for item in items[:3]):
        return None
    field = _field(items)
    committed: dict[str, int] = {}
    not_this = -1  # index of the option that was denied last
    far = -1  # index of an `answer to`
    for i, item in enumerate(items):
        if item.letter is None:
            if item.word in _ANSWER and i + 1 < len(items) and items[i + 1].word in _OF:
                far = i
            far = -1 if item.word in _HINGES else far
            continue
        said = _announced(items, i, far, field)
        if said is None and not_this >= 0 and _but(items, not_this, i):
            said = True
        if said and not _closed(items, i) and not _several(items, i, denied):
            said = None
        said = _called(items, i) if said is None else said
        if said is False:
            denied.add(item.letter)
            not_this = i
        elif said:
            committed.setdefault(NOTHING if _several(items, i, denied) else item.letter, i)
    if committed:
        letter, i = next(iter(committed.items()))
        return NOTHING if len(committed) > 1 or _another(items, i, letter, denied) else letter
    words = {item.word for item in items if item.letter is None}
    if words & _ANSWER and words & _UNDECIDED and not denied:
        return NOTHING
    return NOTHING if field and any(item.word not in MARKS for item in items[field + 1 :]) else None


def _field(items: Sequence[Item]) -> int:
    """Return the index of the colon of a sentence that begins with `Answer:`, else 0."""
    marks = (
        i for i, item in enumerate(items[:5]) if i and item.word in (":", "=") and items[i - 1].word in _ANSWER
    )
    return next(marks, 0)


def _announced(items: Sequence[Item], i: int, far: int, field: int) -> bool | None:
    """Return whether the words before mention i say that it is the answer, False if that it is not, else None."""
    seen: set[str] = set()
    said, it = True, 0
    j = i - 1
    while j >= 0 and i - j <= _REACH and items[j].letter is None:
        word = items[j].word
        linked = not seen.isdisjoint(_IS)
        before = items[j - 1].word if j else ""
        if word == r"\boxed":
            return True
        if word in _ANSWER or (word in _CHOICE and before in _RIGHT) or (word in _CLAIM and items[i].bare):
            if linked and before != "/":
                return None if _doubtful(items, j) else said
            if before in _ANSWERING or before.endswith("ly") or not seen.isdisjoint(("with", "as")) or (word != "answer" and items[i].end - items[i].start > len("cannot be")):
                return None if _doubtful(items, j) else said
        elif word in _CHOOSE and (word not in _PARTICLE or before in _PARTICLE[word]):
            return None if _doubtful(items, j) else said
        if word in _MAKE and "answer" in seen:
            return None if _doubtful(items, j) else said
        if word in _NOT:
            said = False
            if word not in ("not", "never") and word in _NOT - {"neither", "nor"}:
                seen.add("is")
        elif word not in _FILLER and word not in _IS and not (word.endswith("ly") and word not in _DOUBT):
            break
        it = j if word in ("it", "it's", "that") else it
        seen.add(word)
        j -= 1
    if seen.isdisjoint(_IS):
        return None
    if far >= 0 and far < j:
        return None if _doubtful(items, far) else said
    if it and (field or (not seen.isdisjoint(_SO) and not items[i].bare) or (not said and items[i].explicit)):
        return said if field or not _doubtful(items, it) else None
    return None


def _called(items: Sequence[Item], i: int) -> bool | None:
    """Return whether the words after mention i call it right, False if wrong, else None."""
    before = [item.word for item in items[max(i - 4, 0) : i]]
    while before and before[-1] in NAMES:
        before.pop()
    if before and before[-1] not in _LEAD:
        return None
    linked = bool(before) and before[-1] in _MAKE
    right = True
    for j in range(i + 1, min(i + _REACH, len(items))):
        word = items[j].word
        if items[j].letter is not None:
            return None
        if word in _RIGHT or word in _WRONG or word in _ANSWER:
            k = j + 1
            while k < len(items) and (
                items[k].word in _ANSWER or items[k].word in _CHOICE or items[k].word in _RIGHT
            ):
                k += 1
            if not linked or items[i].bare or not ends(items, k) or _doubtful(items, i):
                return None
            return right if word not in _WRONG else False if right else None
        if word in _NOT:
            right = False
            linked = linked or word != "not"
        elif word in _IS and word not in MARKS and word != "=":
            linked = True
        elif word not in _FILLER and word not in ("only", ")") and not word.endswith("ly"):
            return None
    return None


def _but(items: Sequence[Item], denied: int, i: int) -> bool:
    """Return whether mention i takes the place of one that was denied: "not tin but lead"."""
    words = {item.word for item in items[denied + 1 : i]} if i - denied <= _REACH else {"."}
    return bool(words) and words <= _INSTEAD


def _doubtful(items: Sequence[Item], i: int) -> bool:
    """Return whether the clause that leads up to item i denies, doubts, supposes, or tells what others say."""
    for j in range(i - 1, max(i - 4 * _REACH, -1), -1):
        word = items[j].word
        if items[j].letter is None and word in _DOUBT:
            return True
        if word in _BOUNDS and items[j + 1].word != "that":
            return False
    return False


def _several(items: Sequence[Item], i: int, denied: set[str]) -> bool:
    """Return whether another option is named together with mention i, as in "tin or lead"."""
    for step in (1, -1):
        j = i + step
        while 0 <= j < len(items) and abs(j - i) <= _REACH and items[j].letter is None and items[j].word in _GLUE:
            j += step
        if 0 <= j < len(items) and items[j].letter not in (None, items[i].letter, *denied):
            return True
    return False


def _closed(items: Sequence[Item], i: int) -> bool:
    """Return whether the phrase ends with mention i, and nothing takes it back: ", which is wrong"."""
    after = [item.word for item in items[i + 1 : i + 6]]
    if after[1:2] == ["which"] and not (_NOT | _WRONG).isdisjoint(after):
        return False
    if ends(items, i + 1):
        return True
    if items[i].bare:
        return after[0] in ("and", "but")
    # In "(A) yes it floats" the option is set apart; in "A dog" it may be a word.
    return items[i].explicit and items[i].end - items[i].start > 2 and after[0] not in _SPLITS


def _another(items: Sequence[Item], i: int, letter: str, denied: set[str]) -> bool:
    """Return whether the rest of a sentence names another option by its letter, outside its reasons."""
    for j in range(i + 1, len(items)):
        if items[j].letter is None:
            if items[j].word in _REASON:
                return False
        elif items[j].explicit and items[j].letter not in (letter, NOTHING) and items[j].letter not in denied:
            if _LATER.isdisjoint(item.word for item in items[max(j - 4, i) : j]):
                return True
    return False


def _reply(items: Sequence[Item], *, last: bool) -> str | None:
    """Return the option that a sentence only replies with, NOTHING for two, None if it is no reply."""
    first = next((i for i, item in enumerate(items[:_REACH]) if item.letter is not None), None)
    if items[-1].word == "?":
        return None
    if first is not None and all(_opens(item.word) for item in items[:first]):
        item, rest = items[first], items[first + 1 :]
        only = all(other.letter is not None or other.word in MARKS or other.word in _GLUE for other in rest)
        if only or item.bare or item.explicit:
            if _several(items, first, set()) or (item.explicit and _another(items, first, item.letter or "", set())):
                return NOTHING
            if only or (ends(items, first + 1) and (item.bare or not first or rest[0].word in ".,")):
                return item.letter
    end = len(items) - 1 - (items[-1].letter is None and items[-1].word in MARKS)
    if last and end > 0 and items[end].letter and items[end - 1].word == ":":  # "Putting it together: B."
        words = {item.word for item in items[:end] if item.letter is None}
        others = {item.letter for item in items if item.letter} - {items[end].letter}
        return None if words & (_NOT | _WRONG | _set("except false")) or others else items[end].letter
    return None


def _opens(word: str) -> bool:
    return word in _OPENS or word.isdecimal()
