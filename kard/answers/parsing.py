"""Read the answer that a text concludes on, from its sentences and never from its last character.

A *statement* is a sentence that commits to an option: "the answer is no", "option B is correct", "Answer: tin".
The last statement decides. Without one, hints decide: "Therefore, tin sinks.", "Yes, it did." A statement that
names two options, a letter that is no option, or a letter with another option's text concludes on nothing. So
does a text with neither statements nor hints: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kard.answers.mentions import ENDS, NOTHING, Mention, Options, folded, options_of

_CUE = re.compile(
    r"\b(?:answers?|conclusion|verdict|boxed|(?:correct|right|best)(?: (?:option|choices?|one))?)\b", re.I
)
_CHOOSE = re.compile(
    r"\b(?:choos\w+|chose|select\w*|pick\w*|go(?:ing)? with|answer(?:ing|ed)?|conclude\w*|respond\w*|say)\b", re.I
)
_ABOUT = re.compile(r"\b(?:answers?|options?|choices?|correct|choose|choosing|select\w*)\b", re.I)
_THEREFORE = re.compile(
    r"(?:^|[,;:]\s)\W*(?:(?:step\s*)?\d+[.:)]\W*)?(?:and\W+)?(?:therefore|thus|hence|so|consequently|accordingly|overall|"
    r"finally|ultimately|in (?:conclusion|summary|short)|to (?:conclude|summari[sz]e)|conclusion|based on|given|"
    r"as a result)\b",
    re.I,
)
_YES_NO = re.compile(
    r"^(?:\W*(?:step\s*)?\d+[.:)])?\W*(?:(?:and|but|therefore|thus|hence|so|consequently|overall|finally|ultimately|then|"
    r"in (?:conclusion|summary|short)|to (?:conclude|summari[sz]e)|conclusion|in this case)\b\W*)*$",
    re.I,
)
_UNDECIDED = re.compile(
    r"\banswer\b[^.]*\b(?:neither|can(?:not|'t| not) be|could not be|both|"
    r"is (?:unknown|unclear|uncertain|undetermined|inconclusive|indeterminate))\b",
    re.I,
)
# Words that may stand between `answer is` and the option.
_FILLER = (
    r"(?:(?:an?|the|that|it|is|be|definitely|clearly|simply|actually|indeed|still|also|therefore|thus|then|so|just|"
    r"(?:most |more |very |quite |highly )?likely|probably|possibly|technically|essentially|ultimately|"
    r"resounding|definite|definitive|clear|simple|probable|strong|firm|cautious|"
    r"option|choices?|letter|answer|(?:to )?(?:this|your|that|the)(?: original)? question|in fact|in this case|"
    r"of course)\b[\W_]*)*"
)
_LINK = re.compile(
    r"(?:\b(?:is|be|are|was|as|of|becomes|remains|seems|appears|with|that|equals)\b(?: to be\b)?|[:={]|\s-)"
    rf"[\W_]*{_FILLER}$",
    re.I,
)
_TOUCH = re.compile(rf"^[\W_]*{_FILLER}$", re.I)
_NEAR = re.compile(
    rf"^[\W_]*(?:to (?:this|the|that|your) question[\W_]*)?(?:is|was|would be|must be|should be)?[\W_]*{_FILLER}$",
    re.I,
)
_RIGHT = re.compile(
    r"^[\W_]*(?:(?:is|are|be|as|was|would be|must be|should be|seems|appears|becomes|remains)\W+(?:to be\W+)?)?"
    r"(?:(?:therefore|thus|indeed|the|an?|only|most|more|\w+ly)\W+)*"
    r"(?:correct|right|best|accurate|appropriate|suitable|valid|logical|plausible|true|answer|solution)\b",
    re.I,
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|rather than|instead of|than|eliminat\w+|exclud\w+|reject\w*|rul\w+ out|unlike)|"
    r"n't)\b\W*(?:(?:be|the|an?|options?|choices?|answer|correct|just|only|simply|[a-z]\W+n?or)\b\W*)*$",
    re.I,
)
_DENIED_AFTER = re.compile(  # words directly after an option that deny it; more distant ones: _DENIED_LATER
    r"""^["')\]*_\s]*(?:(?:which|that)\W+)?(?:(?:is|are|was|be|would be|must be|can be|seems)\W+(?:\w+ly\W+)?"""
    r"(?:not|incorrect|wrong|false|invalid|impossible|eliminated|excluded|ruled out|unlikely)\b|"
    r"(?:is|are|ca|was)n't\b|cannot be\b|incorrect\b)",
    re.I,
)
_DENIED_LATER = re.compile(
    r"^[\W_]*(?:\w+\W+){0,4}?(?:(?:is|are|was|be)\s+(?:\w+ly\s+)?(?:not|unlikely|impossible)\b|\w+n't\b|cannot\b|"
    r"(?:does|do|did|would|could|can|will) not\b)",
    re.I,
)
_REFUSED = re.compile(r"(?:\b(?:can)?not|n't|\bnever|\bunable to)\W+(?:\w+ly\W+)?$", re.I)
_IF = re.compile(
    r"\b(?:if|unless|whether|suppose|assuming)\b.*\banswer (?:would|could|might|may) be\b|"
    r"\bwould (?:lead|require) us\b",
    re.I | re.S,
)
_BUT = re.compile(r"[\W_]*(?:but|rather|instead|it is)\b[\W_]*(?:(?:rather|the|an?|option|answer)\b[\W_]*)*", re.I)
_TWO = re.compile(r"""^[\s"')*_]*(?:and|or|nor|/)[\W_]*(?:(?:options?|choices?|answer)\W+)?$""", re.I)
_ANSWER = re.compile(r"\banswer\b[\s*_]*[:=]", re.I)

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
    sentences = list(parsed.sentences(folded(text)))
    hint: str | None = None
    reply: str | None = None  # to a question within the text, which need not be ours
    for i, sentence in reversed(list(enumerate(sentences))):
        mentions = parsed.mentions(sentence)
        letter = _statement(sentence, mentions)
        if letter is not None and not _IF.search(sentence):
            return letter or hint  # "It cannot be known. So we choose no." chooses no
        # "If so, the answer would be no" commits to nothing: it is only a hint.
        letter = _hint(sentence, mentions) if letter is None else letter or None
        if i and _asks(sentences[i - 1]):
            reply = reply or letter
        else:
            hint = hint or letter
    return hint or reply


def _asks(sentence: str) -> bool:
    return sentence.rstrip(" \"')*_").endswith("?")


def answer_of(text: str, options: Sequence[str], *, cut: bool = False) -> str | None:
    """Return the letter that follows the text's last `Answer:`, else the one that the text concludes on.

    None if neither can be read. `cut` says that the text was cut at its budget: then `Answer: a` may be the
    beginning of an option or of any word, and gives no letter.
    """
    text = folded(text)
    if markers := list(_ANSWER.finditer(text)):
        line = next((line for line in text[markers[-1].end() :].splitlines() if line.strip()), "")
        if cut and text.endswith(line) and _goes_on(line, options):
            return None
        if (letter := _given(line, options_of(tuple(options)))) is not None:
            return letter or None
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
    parsed = options_of(tuple(options))
    sentences = [
        sentence
        for sentence in parsed.sentences(folded(rationale))
        if not _statement(sentence, parsed.mentions(sentence)) and not _ANSWER.search(sentence)
    ]
    while sentences and conclusion(sentences[-1], options):
        sentences.pop()
    return " ".join(" ".join(sentences).split())


def _goes_on(line: str, options: Sequence[str]) -> bool:
    """Return whether an answer at the end of a text that was cut may be the beginning of a longer one."""
    begun = line.strip(" \t*_([{\"'")
    if len(begun) == 1 and begun.islower():
        return True
    longer = (
        text.strip()[len(begun) :] for text in options if text.strip().casefold().startswith(begun.casefold())
    )
    return bool(begun) and any(longer)


def _given(line: str, options: Options) -> str | None:
    """Return the letter of a line that is an answer, NOTHING if it contradicts itself, None if it is unreadable."""
    bare = line.strip(" \t*_()[]{}.:\"'")
    if len(bare) == 1 and bare.upper() in options.letters and not options.texts_in(bare):
        return bare.upper()
    mentions = [m for m in options.mentions(line) if m.explicit or not line[: m.start].strip(" \t*_([{\"'")]
    if not mentions:
        return _only(line, options.mentions(line))
    return NOTHING if _another(line, options.mentions(line), mentions[0]) else mentions[0].letter


def _statement(sentence: str, mentions: Sequence[Mention]) -> str | None:
    """Return the letter that the sentence commits to, NOTHING for none or two, None if it is no statement."""
    for i, mention in enumerate(mentions):
        if _announced(sentence, mentions, i):
            return NOTHING if _another(sentence, mentions, mention) else mention.letter
    letter: str | None = None
    for mention in mentions:
        if not (mention.word and not mention.explicit) and _RIGHT.match(sentence[mention.end :]):
            letter = None if _DENIED_BEFORE.search(sentence[: mention.start]) else mention.letter
    if letter is not None:
        return letter
    return NOTHING if _UNDECIDED.search(sentence) else None


def _another(sentence: str, mentions: Sequence[Mention], mention: Mention) -> bool:
    """Return whether another option is named together with this one, as in "tin or lead"."""
    later = next((m for m in mentions if m.start >= mention.end), None)
    if later is None or later.letter == mention.letter:
        return False
    return _TWO.match(sentence[mention.end : later.start]) is not None


def _announced(sentence: str, mentions: Sequence[Mention], i: int) -> bool:
    """Return whether words such as `answer is` or `choose` lead up to the mention."""
    mention = mentions[i]
    start = mentions[i - 1].end if i else 0
    before = sentence[start : mention.start]
    if i and _BUT.fullmatch(before) and _DENIED_BEFORE.search(sentence[: mentions[i - 1].start]):
        return _CUE.search(sentence[: mentions[i - 1].start]) is not None  # "the answer is not tin but lead"
    cues = list(_CUE.finditer(before))
    if any(_LINK.search(before[cue.end() - 1 :]) for cue in cues):
        near = bool(cues) and _NEAR.match(before[cues[-1].end() :]) is not None
        return not mention.word or mention.explicit or near or ENDS.match(sentence[mention.end :]) is not None
    cues += [cue for cue in _CHOOSE.finditer(before) if not _REFUSED.search(before[: cue.start()])]
    if any(_TOUCH.match(before[cue.end() :]) for cue in cues):
        if mention.word and not mention.explicit:
            return ENDS.match(sentence[mention.end :]) is not None
        return not _DENIED_AFTER.match(sentence[mention.end :])
    return False


def _hint(sentence: str, mentions: Sequence[Mention]) -> str | None:
    """Return the option that the sentence suggests without saying that it is the answer."""
    first = mentions[0] if mentions else None
    if first and first.word and _YES_NO.match(sentence[: first.start]) and ENDS.match(sentence[first.end :]):
        return first.letter
    if _THEREFORE.search(sentence):
        return _only(sentence, mentions)
    explicit = [m for m in mentions if m.explicit and m.letter]
    if _ABOUT.search(sentence) or all(m.end - m.start > 3 for m in explicit):
        return _only(sentence, explicit)
    return None


def _only(sentence: str, mentions: Sequence[Mention]) -> str | None:
    """Return the option that is named and not denied in the sentence, None if there is not exactly one."""
    letters = {
        m.letter
        for m in mentions
        if (m.explicit or not m.word)
        and not _DENIED_BEFORE.search(sentence[: m.start])
        and not _DENIED_AFTER.match(sentence[m.end :])
        and (m.explicit or not _DENIED_LATER.match(sentence[m.end :]))
    }
    return letters.pop() if len(letters) == 1 else None
