"""How texts become search terms: one form for what is written in several ways, words, and their stems.

A text of ASCII alone goes to Tantivy's analyser as it is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tantivy import TextAnalyzer

DEFAULT_LANGUAGE = "english"
LANGUAGES = (  # Tantivy's own stemmers; `none` keeps words as they are
    *("english", "arabic", "danish", "dutch", "finnish", "french", "german", "greek", "hungarian", "italian"),
    *("norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish", "none"),
)
LONGEST_TERM = 40  # bytes; longer words are no words
INVISIBLE = re.compile("[\N{SOFT HYPHEN}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}]")
# NFKC would join these to what stands before them: 10³ is no 103, 1½ no 11/2, Windows™ no windowstm.
RAISED = re.compile(
    "(?<=\\d)[\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT ZERO}-\N{SUPERSCRIPT NINE}"
    "\N{VULGAR FRACTION ONE QUARTER}-\N{VULGAR FRACTION THREE QUARTERS}"
    "\N{VULGAR FRACTION ONE SEVENTH}-\N{FRACTION NUMERATOR ONE}]+"
)
SIGN = re.compile("[\N{CARE OF}-\N{TRADE MARK SIGN}\N{CIRCLED DIGIT ONE}-\N{CIRCLED DIGIT ZERO}\u3200-\u33ff]")
# Written without spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def searchable(text: str) -> str:
    """Return the text in the form that is indexed and searched for: NFKC, without soft hyphens.

    Halves of surrogate pairs become question marks, for they have no UTF-8. Scripts without spaces become pairs of
    neighbouring characters: 東京都 is 東京 京都.
    """
    if text.isascii():
        return text
    text = INVISIBLE.sub("", text.encode("utf-8", "replace").decode())
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", SIGN.sub(r" \g<0> ", RAISED.sub(r" \g<0>", text)))
    return UNSPACED.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    characters = run[0]
    pairs = [characters[i : i + 2] for i in range(len(characters) - 1)]
    return f" {' '.join(pairs or [characters])} "


def tokenizer_name(language: str) -> str:
    """Return Tantivy's name of the analyser; the first and last are built in."""
    return {"english": "en_stem", "none": "default"}.get(language, f"{language}_stem")


def analyser_name(language: str) -> str:
    """Return what every score rests on, and so a part of a base's id."""
    return f"{tokenizer_name(language)} of title and text"


def analyser(language: str = DEFAULT_LANGUAGE) -> TextAnalyzer:
    """Return the analyser of this language, for texts in `searchable` form."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer  # the command line reads LANGUAGES alone

    builder = TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.remove_long(LONGEST_TERM))
    builder = builder.filter(Filter.lowercase())
    return (builder if language == "none" else builder.filter(Filter.stemmer(language))).build()
