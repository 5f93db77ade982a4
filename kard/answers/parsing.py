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
from collections.abc import Sequence
from typing import Any, cast

from kard.answers.mentions import MARKS, NAMES, NOTHING, Item, ends, folded, options_of, word_set
from kard.answers.short import short_answer

_ANSWER = word_set(
    "answer answers answer's solution verdict antwort lösung respuesta réponse risposta resposta antwoord "
    "odpowiedź odpověď jawaban cevap svar vastaus válasz răspuns απάντηση відповідь ответ án ans الجواب "
    "답 答案 答え 正解 回答 정답"
)
_CHOICE = word_set("option choice letter one conclusion response")  # of _MINE, the answer
_CLAIM = word_set("statement claim sentence assertion proposition hypothesis")  # is true or false
_RIGHT = word_set("correct right best final accurate appropriate suitable valid logical plausible proper")
_WRONG = word_set("incorrect wrong invalid impossible eliminated excluded mistaken")
_MINE = _RIGHT | word_set("my our")
_NOUN = _ANSWER | _CHOICE | _RIGHT
_THE = word_set("the this that my our a an")
_KIND = _RIGHT | word_set(
    "most only short simple likely probable possible closest safest reasonable overall option"
)
_OTHER = word_set("of for than from")  # "the opposite of the answer"
_IS = word_set("is are was be being becomes remains seems appears = : > ist lautet es est è é 是 为 為 は 은 는")
_NOT = word_set(
    "not never neither nor cannot can't isn't aren't wasn't won't wouldn't couldn't shouldn't don't doesn't didn't"
)
_IF = word_set("if unless suppose assuming")
_FILLER = word_set(
    "a an the that which here with as it it's us more most very quite highly resounding definite definitive clear "
    "simple probable strong firm cautious option options choice choices letter answer indeed still also thus then "
    "so just in fact this case of course therefore likely to question would must should will has have correct "
    "right best final correcta correcte corretta correta la le el opción opção opzione 择 , - ( ["
)
_DOUBT = _NOT | word_set(
    "no if unless whether suppose assuming might may could doubt mistake mistaken tempting misconception wrong "
    "wrongly incorrect false untrue myth trap error unlikely hardly barely scarcely nearly almost rarely people "
    "students someone others many some they he she claims claimed says said used first initial initially previous "
    "previously alternative another avoid although distractor"
)
_OF = word_set("to of for as on regarding about in")  # "the answer to the question ... is"
_HINGES = word_set("depends depend lies hinges requires needs relies if unless ;")
_CHOOSE = word_set("choose chose choosing select selecting pick picking conclude concluded say with for on 选 選")
_PARTICLE = {"with": ("go", "going", "went"), "for": ("opt", "opting"), "on": ("settle", "settling")}
_ANSWERING = word_set("to we i can would should must will")  # before the verb `answer`
_MAKE = word_set("make makes making made leads lead leading")
_BOUNDS = word_set(", ; : . ! ? - ( ) so therefore thus hence and but")
_OPENS = (_BOUNDS - {"!", "?", ";"}) | word_set(
    "consequently accordingly overall finally ultimately then in conclusion summary short to conclude this case "
    "step well"
)
_SO = word_set("so therefore thus hence must consequently")
_REASON = word_set("because since as for given due based")
_GLUE = word_set(", ; / & and or nor but also maybe perhaps possibly then option options choice answer")
_LEAD = _BOUNDS | _MAKE | word_set("> only that while then the to")
_BACK = word_set("wait actually correction oops scratch sorry hmm reconsider reconsidering")
_UNDECIDED = word_set("neither both either cannot can't unknown unclear uncertain undetermined inconclusive unable")
_INSTEAD = word_set(", but rather instead it is it's option the answer")
_SPLITS = _WRONG | word_set(
    "is are was isn't aren't wasn't cannot can't or nor if unless when would could might may not"
)
_LATER = _NOT | word_set("than unlike except without over instead eliminate eliminates exclude excludes like")
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
    """Return the letter of the option that the text concludes on, None if it concludes on none or on several.

    Without options it is the short answer that the text gives.
    """
    if not options:
        named = set(_json_answers(text))
        return named.pop() if len(named) == 1 else short_answer(text)
    parsed = options_of(tuple(options))
    text = folded(text).rpartition("</think>")[2]
    if text.lstrip().startswith("<think>"):  # cut while thinking
        return None
    if fields := _json_answers(text):
        named = {letter_of(field, options) for field in fields}
        return named.pop() if len(named) == 1 else None
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
        taken_back = taken_back or _takes_back(items)
    return replies.pop() or None if len(replies) == 1 and not replies & denied and not taken_back else None


def letter_of(field: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a field of its own names, None for none or several."""
    line = " ".join(field.split())
    return conclusion(f"Answer: {line}", options) if line else None


def answer_of(text: str, options: Sequence[str], *, cut: bool = False) -> str | None:
    """Return the letter that follows the text's last `Answer:`, else the one that the text concludes on.

    None if neither can be read. `cut` says that the text was cut at its budget: then `Answer: a` may be the
    beginning of an option or of any word, and gives no letter. Without options it is a short answer.
    """
    if not options:
        return short_answer(text, cut=cut)
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


def _json_answers(text: str) -> list[str]:
    """Return the answers of a JSON object in the text, [] if there is none."""
    try:
        value = json.loads(text[text.find("{") : text.rfind("}") + 1])
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict):
        return []
    fields = cast("dict[str, Any]", value)
    return [str(field) for name, field in fields.items() if "answer" in name.casefold()]


def _statement(items: Sequence[Item], denied: set[str]) -> str | None:
    """Return the letter that a sentence commits to, NOTHING for none or two, None if it is no statement.

    Letters that it denies are added to `denied`.
    """
    if items[-1].word == "?" or not _IF.isdisjoint(item.word for item in items[:3]):
        return None
    colons = (i for i, item in enumerate(items[:5]) if i and item.word in ":=" and items[i - 1].word in _ANSWER)
    field = next(colons, 0)  # index of the colon of a sentence that begins with `Answer:`
    committed: dict[str, int] = {}
    not_this = far = -1  # indexes of the option that was denied last, and of an `answer to ...`
    for i, item in enumerate(items):
        if item.letter is None:
            if item.word in _ANSWER and i + 1 < len(items) and items[i + 1].word in _OF:
                far = i
            far = -1 if item.word in _HINGES else far
            continue
        said = _announced(items, i, far, field)
        if said is None and not_this >= 0 and i - not_this < _REACH:  # "not tin but lead"
            said = {other.word for other in items[not_this + 1 : i]} <= _INSTEAD or None
        several = _several(items, i, denied)
        if said is None or (said and not several and not _closed(items, i)):
            said = _called(items, i)
        if said:
            committed.setdefault(NOTHING if several else item.letter, i)
        elif said is not None:
            denied.add(item.letter)
            not_this = i
    if committed:
        letter, i = next(iter(committed.items()))
        return NOTHING if len(committed) > 1 or _another(items[i + 1 :], {letter, *denied}) else letter
    words = {item.word for item in items if item.letter is None}
    undecided = not denied and words & _ANSWER and words & _UNDECIDED
    return NOTHING if undecided or (field and any(item.word not in MARKS for item in items[field + 1 :])) else None


def _announced(items: Sequence[Item], i: int, far: int, field: int) -> bool | None:
    """Return whether the words before mention i say that it is the answer, False if that it is not, else None."""
    seen: set[str] = set()
    said, it, lead = True, -1, -1
    for j in range(i - 1, max(i - _REACH, 0) - 1, -1):
        word, before = items[j].word, items[j - 1].word if j else ""
        if items[j].letter is not None:
            break
        if word == r"\boxed":
            return True
        if word in _ANSWER or (word in _CHOICE and before in _MINE) or (word in _CLAIM and items[i].bare):
            linked = not seen.isdisjoint(_IS) and before != "/"
            verb = before in _ANSWERING or before.endswith("ly") or not seen.isdisjoint(("with", "as"))
            if before in _NOT and not linked:
                return False
            if linked or verb or items[i].word in _NOT:  # "the answer cannot be determined", which is an option
                lead = j
                break
        elif word in _CHOOSE and before in _PARTICLE.get(word, (before,)):
            lead = j
            break
        if word in _MAKE and "answer" in seen:
            lead = j
            break
        if word in _NOT:
            said = False
            seen |= {"is"} if word.endswith("t") and word != "not" else set()
        elif word not in _FILLER and word not in _IS and not _adverb(word):
            break
        it = j if word in ("it", "it's", "that") else it
        seen.add(word)
    if lead < 0 and not seen.isdisjoint(_IS):
        if far >= 0:
            lead = far
        elif it >= 0 and (field or (items[i].explicit and not said) or (_SO & seen and not items[i].bare)):
            return said if field or not _doubtful(items, it) else None
    return None if lead < 0 or _doubtful(items, lead) else said


def _called(items: Sequence[Item], i: int) -> bool | None:
    """Return whether the words after mention i call it right, False if wrong, else None."""
    lead = next((item.word for item in reversed(items[max(i - 4, 0) : i]) if item.word not in NAMES), ".")
    linked, right = lead in _MAKE, True
    for j in range(i + 1, min(i + _REACH, len(items))):
        word = items[j].word
        if word in _RIGHT or word in _WRONG or word in _ANSWER:
            end = next((k for k in range(j + 1, len(items)) if items[k].word not in _NOUN), len(items))
            if lead not in _LEAD or not linked or items[i].bare or not ends(items, end) or _doubtful(items, i):
                return None
            return right if word not in _WRONG else False if right else None
        if word in _NOT:
            linked, right = linked or word != "not", False
        elif word in _IS and word not in MARKS:
            linked = True
        elif word == "also" or not (word in _FILLER or word in ("only", ")") or _adverb(word)):
            return None
    return None


def _adverb(word: str) -> bool:
    return word.endswith("ly") and word not in _DOUBT


def _doubtful(items: Sequence[Item], i: int) -> bool:
    """Return whether the clause that leads up to item i denies, doubts, supposes, or tells what others say.

    An answer must be the, my or the final one, and not the worst.
    """
    if items[i].word == "answer":
        j = i - 1
        while j > max(i - _REACH, 0) and (items[j].word in _KIND or _adverb(items[j].word)):
            j -= 1
        kind = items[j].word if j >= 0 and items[j].word.isascii() and items[j].word.isalpha() else ""
        if kind and (kind not in _THE | _KIND | _BOUNDS | _ANSWERING or (j and items[j - 1].word in _OTHER)):
            return True
    for j in range(i - 1, max(i - 4 * _REACH, -1), -1):
        if items[j].letter is None and items[j].word in _DOUBT:
            return True
        if items[j].word in _BOUNDS and items[j + 1].word != "that":
            return False
    return False


def _several(items: Sequence[Item], i: int, denied: set[str]) -> bool:
    """Return whether another option is named together with mention i, as in "tin or lead"."""
    for near in (items[i + 1 : i + _REACH], items[max(i - _REACH, 0) : i][::-1]):
        other = next((item.letter for item in near if item.letter is not None or item.word not in _GLUE), None)
        if other not in (None, items[i].letter, *denied):
            return True
    return False


def _closed(items: Sequence[Item], i: int) -> bool:
    """Return whether the phrase ends with mention i, and nothing takes it back: ", which is wrong"."""
    after = [item.word for item in items[i + 1 : i + 6]]
    if after[1:2] == ["which"] and after[2:3] != ["means"] and not (_NOT | _WRONG).isdisjoint(after):
        return False
    if ends(items, i + 1) or (
        after[0] == "or" and items[i].letter in {item.letter for item in items[i + 2 : i + 3]}
    ):
        return True
    # In "(A) yes it floats" the option is set apart; in "A dog" it may be a word.
    apart = items[i].explicit and items[i].end - items[i].start > 2 and after[0] not in _SPLITS
    return apart or (items[i].bare and after[0] in ("and", "but"))


def _another(items: Sequence[Item], known: set[str]) -> bool:
    """Return whether the rest of a sentence names another option by its letter, outside its reasons."""
    denying = False
    for item in items:
        if item.letter is None:
            if item.word in _REASON:
                return False
            denying = item.word in _LATER or (denying and (item.word in _GLUE or item.word in _FILLER))
        elif item.explicit and not denying and item.letter and item.letter not in known:
            return True
    return False


def _reply(items: Sequence[Item], *, last: bool) -> str | None:
    """Return the option that a sentence only replies with, NOTHING for two, None if it is no reply."""
    first = next((i for i, item in enumerate(items) if item.letter is not None or not _opens(item.word)), 0)
    item, rest = items[first], items[first + 1 :]
    if items[-1].word == "?":
        return None
    if item.letter is not None:
        if _several(items, first, set()) or (item.explicit and _another(rest, {item.letter})):
            return NOTHING
        only = all(other.letter is not None or other.word in MARKS or other.word in _GLUE for other in rest)
        begins = item.bare or (item.explicit and (not first or (bool(rest) and rest[0].word in ".,")))
        return item.letter if only or (begins and ends(items, first + 1)) else None
    end = len(items) - 1 - (items[-1].letter is None and items[-1].word in MARKS)  # "Putting it together: B."
    if last and end > 0 and items[end].letter and items[end - 1].word == ":":
        plain = {other.word for other in items[:end]}.isdisjoint(_NOT | _WRONG | {"except", "with"})
        return items[end].letter if plain and all(other.letter is None for other in items[:end]) else None
    return None


def _takes_back(items: Sequence[Item]) -> bool:
    """Return whether a sentence takes back what was said before: "Wait, no.", "No, B.", "That is wrong." """
    words = {item.word for item in items}
    if all(item.letter is None for item in items) and len(items) < 8 and words & (_WRONG | {"mistake"}):
        return True
    no = items[0].word == "no" and any(item.explicit for item in items)
    return no or not _BACK.isdisjoint(item.word for item in items[:4])


def _opens(word: str) -> bool:
    return word in _OPENS or word in NAMES or word.isdecimal() or _adverb(word)
