"""Wikitext becomes text with its facts, in a time that grows with its length alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kard.knowledge.wikitext import DEEPEST, plain_text

FACTS = {
    "10<sup>3</sup> m": "10^3 m",
    "10<sup>3</sup>5": "10^3 5",
    "x<sup>a+b</sup>, x<sup>&minus;1</sup>": "x^(a+b), x^\N{MINUS SIGN}1",
    "the 1<sup>st</sup> of 2": "the 1st of 2",
    "Na<sup>+</sup> and PO<sub>4</sub><sup>3&minus;</sup>": "Na+ and PO4^3\N{MINUS SIGN}",
    "H<sub>2</sub>O, 20<sub>16</sub>, log<sub>2</sub>8": "H2O, 20_16, log_2 8",
    "quote<br/>next<BR>line<br >end": "quote next line end",
    "<p>one</p><p>two</p>": "one\n\ntwo",
    "{{convert|1300|m}} high": "1300 m high",
    "{{convert|1,300|m|ft|0}}": "1,300 m",
    "{{Convert|3|-|5|km|mi|abbr=on}}": "3\N{EN DASH}5 km",
    "{{cvt|3|to|5|km}}": "3 to 5 km",
    "{{convert|6|ft|2|in|m}}": "6 ft 2 in",
    "{{convert|5|e6sqmi}}": "5 million sq mi",
    "{{convert|-4|C}}": "-4 °C",
    "{{nowrap|a {{circa|1790}} b}}": "a c. 1790 b",
    "{{c.|1790|1800}}, {{fl.|1790|1800}}": "c. 1790 \N{EN DASH} c. 1800, fl. 1790 \N{EN DASH} 1800",
    "{{lang|fr|chose}}, {{lang-fr|chose}}, {{langx|de|Ding}}": "chose, chose, Ding",
    "{{transliteration|ru|ISO|kosmos}}": "kosmos",
    "{{formatnum:1234567}} {{formatnum: 89 }}": "1234567 89",
    "{{val|1.5|e=3|u=km}}": "1.5\N{MULTIPLICATION SIGN}10^3 km",
    "{{val|2|0.1|e=-3}}": "(2±0.1)\N{MULTIPLICATION SIGN}10^-3",
    "5{{e|3}}, {{10^|3}}, 10{{sup|3}}": "5\N{MULTIPLICATION SIGN}10^3, 10^3, 10^3",
    "1{{frac|1|2}}, ({{frac|1|2}}), {{frac|3|1|2}}": "1 1/2, (1/2), 3 1/2",
    "{{abbr|USA|United States}}, {{sic|wierd}}": "USA, wierd",
    "{{as of|2020|3}}, {{As of|2020|3|4|lc=y}}": "As of March 2020, as of 4 March 2020",
    "{{birth date|1879|3|14}}, {{start date|1879|3|14|df=y}}": "March 14, 1879, 14 March 1879",
    "{{USS|Enterprise|CV-6}}, {{ship|HMS|Victory}}": "USS Enterprise (CV-6), HMS Victory",
    "{{US$|5}} 1990{{ndash}}95{{snd}}x": "US$5 1990\N{EN DASH}95 \N{EN DASH} x",
    "{{nihongo|Tokyo|東京|Tōkyō}}, {{zh|s=汉|p=hàn}}": "Tokyo (東京, Tōkyō), 汉; pinyin hàn",
    "{{nowrap|1=a=b}}": "a=b",
    "{{ill|Ada Moss|de}} {{chem|H|2|O}}": "Ada Moss H2O",
    "{{cite book|title={{lang|fr|x}}}}{{sfn|Moss|p=1}}a": "a",
    "a{{unknown|[[b|c]]}}d {{{argument|e}}}": "ad",
    "''Iliad'''s and ''x'' '''''y''' z''": "Iliad's and x y z",
    "''Ants'' dig '''deep'''": "Ants dig deep",
    "[[File:a.jpg|thumb|By [[Ada|Moss]]]]after": "after",
    "[[Ant|ants]], [[Bee]]s, [[:Category:Ants]]": "ants, Bees, Category:Ants",
    "[http://a.org their page], [http://b.org]": "their page,",
    "a <nowiki>[[b]] {{c}}</nowiki> d": "a [[b]] {{c}} d",
    "x <y and z> w, 3 < 4": "x <y and z> w, 3 < 4",
    "a<ref name=\"b\">c</ref>d<ref name=e />f": "adf",
    "AT&amp;T &lt;b&gt; &#8211; &ndash; R&D": "AT&T <b> \N{EN DASH} \N{EN DASH} R&D",
    "== A ==\n{| class=x\n| a\n{|\n| b\n|}\n|}\nc": "A\nc",
    "{|\n| never closed\n== A ==\nb": "A\nb",
    "* a\n** b\n# c\n: d\n; e": "a\nb\nc\nd\ne",
}  # fmt: skip


@pytest.mark.parametrize("wikitext", FACTS)
def test_facts_are_what_the_page_shows(wikitext: str) -> None:
    assert plain_text(wikitext) == FACTS[wikitext]


@pytest.mark.parametrize(
    ("wikitext", "kept"),
    [
        ("{{ant dig deep", "ant dig deep"),
        ("[[ant dig\n\ndeep]] x", "x"),
        ("[[ant {{nowrap|dig [[deep}} x", "deep x"),
        ("ant <ref>dig deep", "ant dig deep"),
        ("ant <b>dig <sup>deep", "ant dig deep"),
        ("a]] b}} c|} |- ''d", "a]] b}} c|} |- d"),
        ("[[a " * 60 + "ant", "ant"),
    ],
)
def test_what_is_never_closed_keeps_its_words(wikitext: str, kept: str) -> None:
    assert kept in plain_text(wikitext)


def test_what_is_nested_deeper_than_mediawiki_allows_is_left_out() -> None:
    def nested(depth: int) -> str:
        return plain_text("{{nowrap|" * depth + "x" + "}}" * depth + "y")

    assert nested(DEEPEST - 1) == "xy"
    assert nested(DEEPEST * 50) == "y"


MARKUP = (
    *("{{", "{{a|", "{{a}}", "{{nowrap|", "{{nowrap|[[", "{{convert|1|to|", "{{a=", "{{{", "}}{{{", "{{ [[ }}"),
    *("[[", "[[a|", "\n\n[[", "[[a\n\n", "[http://a ", "<b>", "<b ", "<a b='", "<ref>", "</ref", "<nowiki>"),
    *("<!--", "<sup>", "''", "'''x ", "{|\n", "{|\n|-\n| a\n", "=", "== a ==\n", "= ", "&", "__AAA", "(", "(,"),
    *("*:;#", "\u2003", "\u2003\n", "x\x0b", "----\n", "|", "]]", "}}"),
)  # fmt: skip
PAIRS = (
    ("{{a|", "}}"),
    ("{{nowrap|", "}}"),
    ("[[a|", "]]"),
    ("{{nowrap|[[", "}}"),
    ("<sup>", "</sup>"),
    ("{", "}"),
)


@pytest.mark.parametrize(("before", "after"), [*((unit, "") for unit in MARKUP), *PAIRS])
def test_the_time_of_a_page_grows_with_its_length_alone(before: str, after: str) -> None:
    def once(text: str) -> float:
        begin = time.process_time()
        plain_text(text)
        return time.process_time() - begin

    def read(size: int) -> float:
        number = size // len(before + after)
        text = before * number + "x" + after * number
        return min(once(text) for _ in range(3))  # without what the collector of a large process adds

    times = [read(size) for size in (3_000, 12_000, 48_000)]
    # 16 times as long: some 16 times the time, of a quadratic reader 256 times.
    assert times[2] < 80 * max(times[0], 0.01), times


pieces = st.sampled_from(
    [*MARKUP, "}}", "]]", "|", "\n", "a", "1", "=", "</sup>", "<sub>", "</sub>", "|}", "'", " "]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(pieces, max_size=60).map("".join) | st.text())
def test_any_text_is_read(wikitext: str) -> None:
    assert not {chr(i) for i in range(9)} & set(plain_text(wikitext))
