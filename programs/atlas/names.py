"""Names that exist nowhere: pronounceable, short, never the same twice, and easily confused on purpose.

A name is consonants, a vowel, consonants, and an ending that only its kind has. Its consonants determine its family
(Venn, Vann, Venner). They can be read back from the name, so that names of different families never coincide,
however many there are. A group has one family per set of endings of its kind; where two families share consonants,
the endings tell them apart. Members of a family are near-namesakes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from .words import ANIMALS, CODAS, FIRMS, ONSETS, QUALIFIERS, WATERS

VOWELS = "aeiou"
UNKIND = re.compile(  # words that nobody wants as a name, and notorious names
    "tit|piss|dild|cum|cun|nazi|homo|hore|turd|sex|semen|penis|vulv|clit|puss|fuk|dik|kok|cok|prik|kill|nud|fat|hell|"
    "boob|jez|jiz|bum|bast|retard|pedo|lolit|stalin|lenin|putin|satan"
)
BASE = 32  # onsets, and codas: a power of two, so that an odd factor permutes the numbers

# One set of endings for each family of a group. The sets tell families apart that have the same consonants.
FIRST_ENDINGS = (("a", "an", "e"), ("o", "en", "in"))
LAST_ENDINGS = (("", "er", "is"), ("ow", "ell"))
SPECIES_ENDINGS = ("er", "is")  # never none: a coda that ends on "r" would make it another family's "er"
TOWN_ENDINGS = (("by", "ford", "mere", "wick"), ("ham", "wold", "holm", "ton"))
RIVER_ENDINGS = (("ey",), ("ane",))
REGION_ENDINGS = (("ia", "una"), ("ora", "esh"), ("ath", "ilon"))
COMPANY_ENDINGS = (("ard",), ("ax",))


class Names:
    """The names of one seed. Every method takes the number of a group and returns the names of that group."""

    def __init__(self, seed: int) -> None:
        rng = Random(f"atlas names {seed}")
        self._seed = seed
        self._onsets, self._codas = rng.sample(ONSETS, BASE), rng.sample(CODAS, BASE)
        self._qualifiers = rng.sample(QUALIFIERS, len(QUALIFIERS))
        self._animals = rng.sample(ANIMALS, len(ANIMALS))

    def people(self, group: int) -> list[str]:
        """Return four namesakes: two share a last name, one a first name, and the fourth is spelled alike."""
        rng = self._rng("people", group)
        rows, row = BASE * BASE, group // (BASE * BASE)
        (first, alike), (other,) = self._families(group % rows, FIRST_ENDINGS, (2, 1), rng, salt=7)
        (last,), (strange,) = self._families((group + row * 31) % rows, LAST_ENDINGS, (1, 1), rng, salt=11)
        return [f"{first} {last}", f"{other} {last}", f"{first} {strange}", f"{alike} {last}"]

    def towns(self, group: int) -> list[str]:
        """Return four towns, two and two spelled alike."""
        return self._listed(group, TOWN_ENDINGS, 2, self._rng("towns", group), salt=3)

    def rivers(self, group: int) -> list[str]:
        """Return four rivers, two and two spelled alike, each with another word before its name."""
        rng = self._rng("rivers", group)
        stems = self._listed(group, RIVER_ENDINGS, 2, rng, salt=5)
        return [f"{word} {stem}" for word, stem in zip(rng.sample(WATERS, 4), stems, strict=True)]

    def regions(self, group: int) -> list[str]:
        """Return six regions, two and two spelled alike."""
        return self._listed(group, REGION_ENDINGS, 2, self._rng("regions", group), salt=13)

    def companies(self, group: int) -> list[str]:
        """Return four companies: two names, each with the same two words after it."""
        rng = self._rng("companies", group)
        stems = self._listed(group, COMPANY_ENDINGS, 1, rng, salt=9)
        firms = rng.sample(FIRMS, 2)
        return [f"{stem} {firm}" for stem in stems for firm in firms]

    def species(self, group: int) -> list[str]:
        """Return four species: two animals, each with the same two words (in large worlds, people) before it."""
        half = len(ANIMALS) // 2
        plain = half * half
        if group < plain:
            animal, word = group % half, (13 * (group // half) + group) % half  # neighbouring groups share neither
            words = self._qualifiers[2 * word : 2 * word + 2]
        else:
            animal, family = (group - plain) % half, (group - plain) // half
            rng = self._rng("species", family)
            words = [f"{name}'s" for name in self._members(family, SPECIES_ENDINGS, 2, rng, salt=15)]
        return [f"{word} {beast}" for word in words for beast in self._animals[2 * animal : 2 * animal + 2]]

    def _listed(
        self, group: int, endings: Sequence[tuple[str, ...]], count: int, rng: Random, *, salt: int
    ) -> list[str]:
        """Return `count` members of each family of the group."""
        counts = [count] * len(endings)
        return [name for family in self._families(group, endings, counts, rng, salt=salt) for name in family]

    def _families(
        self, group: int, endings: Sequence[tuple[str, ...]], counts: Sequence[int], rng: Random, *, salt: int
    ) -> list[list[str]]:
        """Return members of one family per set of endings, `counts` of each; each set has its own salt."""
        return [
            self._members(group, family_endings, count, rng, salt=salt + 30 * i)
            for i, (family_endings, count) in enumerate(zip(endings, counts, strict=True))
        ]

    def _members(self, family: int, endings: tuple[str, ...], count: int, rng: Random, *, salt: int) -> list[str]:
        """Return `count` different names of a family. Families from 1,024 on have three runs of consonants."""
        runs = 2
        while family >= BASE**runs:
            family -= BASE**runs
            runs += 1
        number = (family * (2 * 311 * salt + 1) + 97 * salt) % BASE**runs
        digits: list[int] = []
        for _ in range(runs):
            number, digit = divmod(number, BASE)
            digits.append(digit)
        onset, *codas = (self._onsets[digits[-1]], *(self._codas[d] for d in digits[:-1]))
        usual = rng.choice(VOWELS)
        names: dict[str, None] = {}
        while len(names) < count:
            # Most members keep the family's vowel and differ in the ending alone, as Venn and Venner do.
            vowel = usual if rng.random() < 0.6 else rng.choice(VOWELS)
            rest = "".join(f"{rng.choice(VOWELS)}{coda}" for coda in codas[1:])
            name = f"{onset}{vowel}{codas[0]}{rest}{rng.choice(endings)}"
            if not UNKIND.search(name):
                names[name.capitalize()] = None
        return list(names)

    def _rng(self, kind: str, group: int) -> Random:
        return Random(f"atlas {kind} {self._seed} {group}")
