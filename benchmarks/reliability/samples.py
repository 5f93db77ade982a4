"""A small right file for every reader of kard, and ways to make it wrong."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

ROWS = [
    {"id": f"d{i}", "title": f"Title {i}", "text": f"Ants dig tunnels of {i} metres. Häuser, 蟻."} for i in range(4)
]
QUESTIONS: Mapping[str, Mapping[str, Any]] = {
    "arc": {"id": "a1", "question": {"stem": "Which melts?", "choices": [{"text": "ice", "label": "1"},
            {"text": "iron", "label": "2"}, {"text": "clay", "label": "3"}]}, "answerKey": "1"},
    "commonsenseqa": {"id": "c1", "question": "Where is a wet umbrella left?", "answerKey": "B",
                      "choices": {"label": list("ABCDE"), "text": ["bed", "hall", "rain", "shop", "shelf"]}},
    "medqa": {"question": "Which gland makes insulin?", "answer": "Pancreas", "answer_idx": "B",
              "options": {"A": "Thyroid", "B": "Pancreas", "C": "Thymus", "D": "Spleen"}},
    "mmlu": {"question": "Which gas do plants take up?", "subject": "biology", "answer": 1,
             "choices": ["argon", "carbon dioxide", "helium", "neon"]},
    "openbookqa": {"id": "7-1", "question_stem": "Ice that warms becomes", "answerKey": "C", "fact1": "ice melts",
                   "choices": {"text": ["steel", "sand", "water", "wood"], "label": list("ABCD")}},
    "pubmedqa": {"pubid": 1571, "question": "Does walking help sleep?", "final_decision": "yes",
                 "context": {"contexts": ["Night duty."], "labels": ["BACKGROUND"]}, "long_answer": "They slept."},
    "qasc": {"id": "K3", "question": {"stem": "What do beavers change?", "choices": [
             {"text": "tides", "label": "A"}, {"text": "a stream", "label": "B"}]}, "answerKey": "B",
             "fact1": "A dam changes it.", "fact2": "Beavers build.", "combinedfact": "Beavers change a stream."},
    "sciq": {"question": "Which floats on water?", "distractor1": "iron", "distractor2": "lead",
             "distractor3": "glass", "correct_answer": "cork", "support": "Cork is lighter than water."},
    "strategyqa": {"qid": "s1", "term": "Anvil", "question": "Could a child carry an anvil?", "answer": False,
                   "facts": ["An anvil weighs 50 kilograms."], "evidence": [[[["Anvil-3"]], ["operation"]]]},
    "choice": {"question": "Which floats?", "A": "iron", "B": "cork", "C": "", "answer": "cork",
               "explanation": "Light."},
}  # fmt: skip
RATIONALES = [
    {"question_id": "q1", "sample": i, "rationale": "Cork floats. The answer is (A).", "model": "guide"}
    for i in range(3)
]
CSV = "id,title,text\n" + "".join(f'{r["id"]},"{r["title"]}","{r["text"]} ""so"""\n' for r in ROWS)
MARKDOWN = "---\nkey: x\n---\n# Ants\n\nThey *dig*.\n\n```py\n# no heading\n```\n\nBees\n====\n\n- one\n- two\n" * 3
HTML = (
    "<!doctype html><html><head><title>Ants</title><meta charset=utf-8></head><body><nav>menu</nav><article>"
    "<h1>Ants</h1><p>They dig tunnels &amp; live in them for many years, which takes some time to read.</p><table>"
    "<tr><td>1</td><td>2</td></tr></table><!-- no --><script>x()</script></article></body></html>"
)
WIKI = (
    "'''Ants''' {{convert|3|m}} dig<ref>a</ref> [[tunnel|tunnels]] {{circa|1900}}.\n== Life ==\n{|\n|a||b\n|}\n"
    "* one\n"
    "&lt;nowiki>x&lt;/nowiki> [http://x.org y] {{lang|de|Haus}} 10&lt;sup>3&lt;/sup>\n"
)
DUMP = "<mediawiki><siteinfo/>{}</mediawiki>".format(
    "".join(
        f"<page><title>A{i}</title><ns>0</ns><id>{i}</id><revision><id>{i}</id><timestamp>2024-01-01T00:00:00Z"
        f"</timestamp><text>{WIKI}</text></revision></page>"
        for i in range(2)
    )
)


def pdf() -> bytes:
    """Return a PDF of one page with one line."""
    stream = b"BT /F1 12 Tf 72 720 Td (Cork floats on water.) Tj [(a) -3 (b)] TJ ET"
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", list[int]()
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n" + table + end


def parquet() -> bytes:
    """Return the documents as parquet."""
    pa: Any = importlib.import_module("pyarrow")
    stream = io.BytesIO()
    importlib.import_module("pyarrow.parquet").write_table(pa.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


def lines(rows: list[Any]) -> bytes:
    """Return the rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


DOCUMENTS: Mapping[str, bytes] = {  # by the name of the file
    "a.jsonl": lines(ROWS),
    "a.json": json.dumps(ROWS).encode(),
    "a.csv": CSV.encode(),
    "a.tsv": CSV.replace(",", "\t").encode(),
    "a.parquet": parquet(),
    "a.jsonl.gz": lines(ROWS),
    "a.csv.bz2": CSV.encode(),
    "a.txt": "Ants dig.\r\nHäuser stehen.\n\n蟻\n".encode(),
    "a.md": MARKDOWN.encode(),
    "a.html": HTML.encode(),
    "a.pdf": pdf(),
    "a.xml": DUMP.encode(),
    "a.xml.bz2": DUMP.encode(),
}
PACK: Mapping[str, Callable[[bytes, int], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress}
TOKENS = (  # that readers are known to stumble over
    *(
        b'"',
        b"{",
        b"[",
        b"]",
        b"}",
        b"\\",
        b"\\ud800",
        b"1e999",
        b"NaN",
        b"-Infinity",
        b"9" * 5000,
        b"[" * 3000,
        b"\x00",
    ),
    *(
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\t",
        b",",
        b";",
        b'""',
        b"null",
        b"true",
    ),
    *(
        b"{{",
        b"}}",
        b"[[",
        b"]]",
        b"<ref>",
        b"<!--",
        b"<",
        b">",
        b"&",
        b"&#xD800;",
        b"&#99999999;",
        b"```",
        b"---\n",
    ),
    *("é́".encode(), "\u202e".encode(), "\x85".encode(), b"stream", b"endobj", b"<<", b">>", b"0 R", b"<page>"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**70, 1e308, float("nan"), "", " ", "\x00", "A", "(B)", "\u202e", "x" * 3000),
    *([], [[]], {}, {"a": 1}, [None], ["A"] * 30, {"label": [], "text": ["x"]}, [{"text": 1}], [[[[["a"]]]]]),
)


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return the bytes with one to four changes: bytes, pieces, tokens, ends."""
    raw = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, size = draw.randrange(len(raw) + 1), draw.choice((1, 1, 2, 8, 40))
        kind = draw.randrange(7)
        if kind == 0 and raw:
            raw[min(at, len(raw) - 1)] = draw.randrange(256)
        elif kind == 1:
            del raw[at : at + size]
        elif kind == 2:
            raw[at:at] = draw.choice(TOKENS)
        elif kind == 3:
            raw[at : at + size] = draw.choice(TOKENS)
        elif kind == 4:
            other = draw.randrange(len(raw) + 1)
            raw[at:at] = raw[other : other + 4 * size]
        elif kind == 5:
            del raw[at:]
        else:
            raw[at:at] = bytes(draw.randrange(256) for _ in range(size))
    return bytes(raw)


def mutated_file(name: str, content: bytes, draw: random.Random) -> bytes:
    """Return the bytes of a file, packed by its ending: its content or its packing is changed."""
    pack = PACK.get("." + name.rpartition(".")[2])
    if pack is None:
        return mutated(content, draw)
    return pack(mutated(content, draw), 1) if draw.random() < 0.5 else mutated(pack(content, 1), draw)


def mutated_value(value: Any, draw: random.Random) -> Any:
    """Return a JSON value in which one part is another value, missing, or under another name."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        rest = {name: inner for name, inner in value.items() if name != key}
        kind = draw.random()
        if kind < 0.15:
            return rest
        if kind < 0.3:
            return {**rest, draw.choice(("id", "question", "answer", "options", "split", "A", "C", "")): value[key]}
        return {**value, key: mutated_value(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], mutated_value(value[at], draw), *value[at + 1 :]]
    return draw.choice(VALUES)
