"""What the commonest inline templates of Wikipedia show, as text. All others show nothing here. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

# Marks of what the text around decides. XML cannot hold these characters, so that no page does.
SUPERSCRIPT, SUBSCRIPT, RAISED_END = "\x01", "\x02", "\x03"
FRACTION = "\x05"  # a space after a digit, else nothing: one and a half is no eleven halves
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LONGEST_NAME = 60  # characters; no longer name is known

CHARACTERS: Mapping[str, str] = {
    **dict.fromkeys(("ndash", "en dash"), "\N{EN DASH}"),
    **dict.fromkeys(("mdash", "em dash"), "\N{EM DASH}"),
    **dict.fromkeys(("snd", "spnd", "sndash", "spaced ndash", "spaced en dash"), " \N{EN DASH} "),
    **dict.fromkeys(("spaced mdash", "spaced em dash"), " \N{EM DASH} "),
    **dict.fromkeys(("nbsp", "space", "spaces", "thinsp", "thin space", "hair space", "pad"), " "),
    **dict.fromkeys(("dot", "middot", "bullet", "\N{MIDDLE DOT}"), " \N{MIDDLE DOT} "),
    **{"!": "|", "=": "=", "'": "'", "'s": "'s", "pi": "\N{GREEK SMALL LETTER PI}", "numero": "No. "},
    **{"plusminus": "\N{PLUS-MINUS SIGN}", "times": "\N{MULTIPLICATION SIGN}", "minus": "\N{MINUS SIGN}"},
    "half": f"{FRACTION}1/2",
}
# Shown as their first value: they only change how it looks, or explain it.
FIRST = """nowrap nobr nobold noitalic small smaller big large larger smallcaps sc sc2 em strong bold italic ic
    italics_correction mvar math var code mono kbd keypress samp tt not_a_typo typo sic abbr tooltip hover_title
    vanchor visible_anchor ill illm interlanguage_link block_indent quote blockquote bquote cquote pull_quote
    quotation center centered nts number_table_sorting formatnum chem2 unicode iast nihongo2 korean flag flagcountry
    flagu columns-list plainlist flatlist birth-date death-date pronunciation pslink linktext lc uc ucfirst"""
SECOND = "lang langx rtl-lang sort color colour font_color"  # their first value is a code
LAST = "transliteration translit transl"
JOINED = "hlist ubl ubli unbulleted_list bulleted_list"
SHIPS = "uss hms hmas hmcs hmnzs ss rms mv ms sms usns usat rfa ins"
CURRENCIES: Mapping[str, str] = {
    **{"us$": "US$", "usd": "US$", "a$": "A$", "aud": "A$", "cad": "C$", "gbp": "£", "pound": "£"},
    **{"inr": "₹", "₹": "₹", "euro": "€", "eur": "€", "€": "€", "jpy": "¥", "cny": "¥", "¥": "¥"},
}
BEFORE_YEARS: Mapping[str, str] = {
    **dict.fromkeys(("circa", "c.", "ca.", "c", "ca"), "c."),
    **dict.fromkeys(("floruit", "fl.", "fl"), "fl."),
    **dict.fromkeys(("reign", "r."), "r."),
}
DATES = """birth_date birth_date_and_age death_date death_date_and_age start_date start_date_and_age end_date
    film_date bda dda"""
UNITS: Mapping[str, str] = {
    "c": "°C",
    "f": "°F",
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "sqin": "sq in",
    "sqyd": "sq yd",
}
SMALLER_UNITS = {"in", "ft", "yd", "oz", "lb"}  # that follow a larger one: 6 ft 2 in
POWERS: Mapping[str, str] = {"e3": "thousand", "e6": "million", "e9": "billion", "e12": "trillion"}
BETWEEN: Mapping[str, str] = {
    **{"-": "\N{EN DASH}", "\N{EN DASH}": "\N{EN DASH}", "to": " to ", "to(-)": " to ", "and": " and "},
    **{"and(-)": " and ", "or": " or ", "by": " by ", "x": " x ", "xx": " x ", "*": " x "},
    **{"+/-": " ± ", "±": " ± ", "\N{MULTIPLICATION SIGN}": " x ", "to about": " to about "},
}
CHINESE: Mapping[str, str] = {"c": "", "s": "", "t": "", "p": "pinyin ", "w": "Wade-Giles ", "l": "literally "}
NUMBER = re.compile(r"[+\-\N{MINUS SIGN}]?[\d.,]+(?:[+ ]?\d+/{1,2}\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(slots=True)
class Template:
    """A template's values: those without a name in their order, the others by name."""

    values: list[str] = field(default_factory=list[str])
    named: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, parts: Sequence[tuple[str | None, str]]) -> Template:
        """Return the values of these parts, each with its name or None. `1=` names the first of those without."""
        numbered: dict[int, str] = {}
        template = cls()
        count = 0
        for name, value in parts:
            if name is None:
                count += 1
                numbered[count] = value
            elif name.strip().isdecimal() and len(name.strip()) < 3:
                numbered[int(name)] = value
            else:
                template.named[name.strip().lower()] = value.strip()
        template.values = [numbered.get(i, "") for i in range(1, max(numbered, default=0) + 1)]
        return template

    def at(self, number: int) -> str:
        """Return the value at this place, from 1 on; '' if there is none."""
        return self.values[number - 1] if 1 <= number <= len(self.values) else ""

    @property
    def filled(self) -> list[str]:
        """The values that are not empty, without white space around them."""
        return [value.strip() for value in self.values if value.strip()]


def shown(name: str, parts: Sequence[tuple[str | None, str]]) -> str:
    """Return what the template of this name shows with these parts; '' if it is not known here."""
    if len(name) > LONGEST_NAME * 2:
        return ""
    function, colon, value = name.partition(":")
    if colon and function.strip().lower() in ("formatnum", "lc", "uc", "ucfirst", "lcfirst"):
        return value.strip()
    name = " ".join(name.replace("_", " ").split()).lower()
    if name in CHARACTERS:
        return CHARACTERS[name]
    template = Template.of(parts)
    if name in RENDERERS:
        return RENDERERS[name](template)
    if name.startswith(("lang-", "script/")):
        return template.at(1)
    if name in BEFORE_YEARS:
        sign = BEFORE_YEARS[name]
        repeated = f" {sign} " if sign == "c." else ""
        return f"{sign} " + f" \N{EN DASH}{repeated or ' '}".join(template.filled[:2])
    if name in CURRENCIES:
        return CURRENCIES[name] + template.at(1).strip()
    return ""


def _first(template: Template) -> str:
    return template.at(1) or template.named.get("text", "") or template.named.get("quote", "")


def _second(template: Template) -> str:
    return template.at(2) or template.named.get("text", "") or template.at(1)


def _last(template: Template) -> str:
    return template.filled[-1] if template.filled else ""


def _joined(template: Template) -> str:
    return ", ".join(template.filled)


def _ship(prefix: str) -> Callable[[Template], str]:
    def name(template: Template) -> str:
        number = f" ({template.at(2).strip()})" if template.at(2).strip() else ""
        return f"{prefix} {template.at(1).strip()}{number}".strip()

    return name


def _any_ship(template: Template) -> str:
    return _ship(template.at(1).strip())(Template(template.values[1:]))


def _convert(template: Template) -> str:
    """Return what was measured, with its unit: 1300 m, 3 to 5 km, 6 ft 2 in. What follows is computed."""
    values = [value.strip() for value in template.values]
    parts: list[str] = []
    while values and NUMBER.fullmatch(values[0]) and (not parts or (values[1:] and values[1] in SMALLER_UNITS)):
        text = values.pop(0)
        while len(values) > 1 and values[0].lower() in BETWEEN and NUMBER.fullmatch(values[1]):
            text += BETWEEN[values.pop(0).lower()] + values.pop(0)
        parts += [text, _unit(values.pop(0))] if values else [text]
    return " ".join(filter(None, parts)) or template.at(1)


def _unit(code: str) -> str:
    power = next((word for start, word in POWERS.items() if re.match(rf"{start}(?!\d)", code)), "")
    unit = code[len(next(s for s, w in POWERS.items() if w == power)) :] if power else code
    return f"{power} {UNITS.get(unit.lower(), unit)}".strip()


def _fraction(template: Template) -> str:
    match template.filled[:3]:
        case [whole, top, bottom]:
            return f"{FRACTION}{whole} {top}/{bottom}"
        case [top, bottom]:
            return f"{FRACTION}{top}/{bottom}"
        case [bottom]:
            return f"{FRACTION}1/{bottom}"
        case _:
            return ""


def _val(template: Template) -> str:
    named = template.named
    number = "\N{PLUS-MINUS SIGN}".join(template.filled[:2])
    if exponent := named.get("e"):
        number = f"({number})" if len(template.filled) > 1 else number
        number += f"\N{MULTIPLICATION SIGN}10^{exponent}"
    unit = named.get("u") or named.get("ul") or ""
    per = named.get("up") or named.get("upl") or ""
    return f"{named.get('p', '')}{number} {unit}{'/' * bool(per)}{per}".strip() + named.get("s", "")


def _date_text(values: Sequence[str], *, american: bool) -> str:
    """Return year, month and day, as many as there are, in words."""
    year, month, day = [*takewhile(str.isdecimal, (v.strip() for v in values[:3])), "", "", ""][:3]
    if not (month and 1 <= int(month[:3]) <= len(MONTHS)):
        return year
    name = MONTHS[int(month) - 1]
    if not day:
        return f"{name} {year}"
    return f"{name} {int(day[:3])}, {year}" if american else f"{int(day[:3])} {name} {year}"


def _date(template: Template) -> str:
    return _date_text(template.values, american=template.named.get("df", "").lower() not in ("y", "yes"))


def _as_of(template: Template) -> str:
    word = "As of" if template.named.get("since", "") == "" else "Since"
    word = word.lower() if template.named.get("lc") else word
    date = _date_text(template.values, american=template.named.get("df", "").lower() == "us")
    return template.named.get("alt") or f"{word} {date}".strip()


def _old_style(template: Template) -> str:
    day, year, old = (template.at(i).strip() for i in (1, 2, 3))
    return f"{day} [O.S. {old}] {year}" if old else f"{day} {year}"


def _nihongo(template: Template) -> str:
    english, others = template.at(1).strip(), [v for v in (template.at(2).strip(), template.at(3).strip()) if v]
    return f"{english} ({', '.join(others)})" if english and others else english or ", ".join(others)


def _chinese(template: Template) -> str:
    named = [f"{sign}{template.named[key]}" for key, sign in CHINESE.items() if template.named.get(key)]
    return "; ".join(named) or template.at(1)


def _raised(mark: str, before: str = "") -> Callable[[Template], str]:
    return lambda template: f"{before}{mark}{template.at(1).strip()}{RAISED_END}" if template.at(1).strip() else ""


def _gaps(template: Template) -> str:
    return " ".join(template.filled)


def _chemical(template: Template) -> str:
    return "".join(template.filled)


def _degrees(template: Template) -> str:
    return f"{template.at(1).strip()}°"


def _accidental(template: Template) -> str:
    return {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮"}.get(template.at(1).strip().lower(), "")


def _named_alike(names: str, renderer: Callable[[Template], str]) -> dict[str, Callable[[Template], str]]:
    return {name.replace("_", " "): renderer for name in names.split()}


RENDERERS: Mapping[str, Callable[[Template], str]] = {
    **_named_alike(FIRST, _first),
    **_named_alike(SECOND, _second),
    **_named_alike(LAST, _last),
    **_named_alike(JOINED, _joined),
    **{name: _ship(name.upper()) for name in SHIPS.split()},
    **_named_alike(DATES, _date),
    **_named_alike("convert cvt", _convert),
    **_named_alike("frac sfrac fraction", _fraction),
    **_named_alike("oldstyledate oldstyledatedy", _old_style),
    **_named_alike("sup superscript", _raised(SUPERSCRIPT)),
    **_named_alike("sub subscript", _raised(SUBSCRIPT)),
    **_named_alike("e x10^", _raised(SUPERSCRIPT, "\N{MULTIPLICATION SIGN}10")),
    **{"10^": _raised(SUPERSCRIPT, "10"), "ship": _any_ship, "val": _val, "as of": _as_of, "nihongo": _nihongo},
    **{"zh": _chinese, "gaps": _gaps, "chem": _chemical, "deg": _degrees, "music": _accidental},
}
