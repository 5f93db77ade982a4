"""The report as one page: it shows what the store holds, executes no text, and fetches nothing."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from kard.cli import main
from kard.db import open_store
from kard.errors import BadInput, Missing, NoExtra
from kard.evaluation.failures import count_failures, read_failures
from kard.evaluation.graded import GradedAnswer
from kard.evaluation.page import sections
from kard.evaluation.page.drawing import VARIABLES, drawing, inline
from kard.evaluation.page.figures import Point, by_size, sizes_of
from kard.evaluation.page.questions import sample_keys
from kard.evaluation.page.sections import curves_of
from kard.evaluation.page.text import amount, money, visible
from kard.evaluation.page.write import read_page, render_page, write_page
from kard.evaluation.report import TeacherCosts, report_rows
from kard.metrics.intervals import wilson
from kard.tasks import Task

HURT = '<script>window.hurt = 1</script>"\'><img src=x onerror="window.hurt = 1">&amp;{{ 7 * 7 }}</style>'
UNSEEN = "\x1b[31mred\x00\x07\x9b\u202eabc\u2066\u200b\ufeff\U000e0041"
NASTY = f"{HURT} {UNSEEN}"
VOID = {"meta", "br", "input", "img", "link", "hr"}


class Reader(HTMLParser):
    """The elements of a page with their attributes, in order, and the text in each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "an element was not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "\n".join(data for tag, data in self.texts if tag not in ("script", "style"))


class World:
    """A store filled by hand: questions whose answer is yes, with passages, rationales and answers."""

    def __init__(self, path: Path) -> None:
        self.db = open_store(path)
        self.added: Counter[str] = Counter()

    def put(self, table: str, **row: object) -> int:
        columns = {c.name for c in self.db.table(table).columns}
        with self.db.atomic():
            self.db.table(table).insert(
                {**({"created": "2026-01-02T03:04:05+00:00"} if "created" in columns else {}), **row}
            )
        return int(self.db.execute("select last_insert_rowid()").fetchone()[0])

    def question(
        self, key: str, text: str = "Does iron rust?", evidence: str = "", kind: str = "", split: str = "test"
    ) -> int:
        options = ["yes", f"no {HURT}"]
        question_id = self.put(
            "questions", task="tiny", key=key, split=split, text=text, options=json.dumps(options), answer="A",
            kind=kind, facts="[]", hash=key,
        )  # fmt: skip
        if evidence:
            self.put("evidence", question_id=question_id, document=evidence)
        return question_id

    def knowledge(self, *texts: str) -> None:
        """Store an index with these passages, `p0`, `p1` ..., each a document of its own, and a reranker."""
        self.put("indexes", id="index", path="-", passages=len(texts), analyser="-")
        for number, text in enumerate(texts):
            self.put("passages", id=f"p{number}", document=f"p{number}", part=0, title=f"Title {text}", text=text)
        self.put(
            "rerankers", id="ranker", task="tiny", base="-", base_sha256="-", index_id="index", settings="{}",
            data_sha256="-", questions=1, metrics="{}", path="-", sha256="-", milliseconds=1,
        )  # fmt: skip

    def search(self, question: int, *passages: str, ranked: Sequence[str] = ()) -> None:
        retrieval = self.put(
            "retrievals",
            index_id="index",
            question_id=question,
            query="question",
            depth=len(passages),
            milliseconds=1,
        )
        for rank, passage in enumerate(passages, 1):
            self.put("hits", retrieval_id=retrieval, rank=rank, passage_id=passage, bm25=9.0 - rank)
        for rank, passage in enumerate(ranked, 1):
            self.put(
                "rerank_scores",
                reranker_id="ranker",
                retrieval_id=retrieval,
                rank=rank,
                passage_id=passage,
                score=-rank,
            )

    def rationale(self, question: int, text: str) -> None:
        if not self.added["teachers"]:
            self.added["teachers"] += 1
            self.put("teachers", id="t", name=f"guide {NASTY}", model="-", instructions="", sampling="{}")
        self.put(
            "rationales", question_id=question, teacher_id="t", sample=0, text=text, conclusion="A", accepted=1,
            prompt_tokens=7, completion_tokens=5, milliseconds=1,
        )  # fmt: skip

    def condition(self, method: str, retriever: str = "none", *, size: str = "9m", seed: int = 0) -> int:
        student = f"{size} {method} {seed}"
        if not self.added[student]:
            self.added[student] += 1
            self.put(
                "students", id=student, task="tiny", method=method, size=size, base="-", base_sha256="-",
                settings=json.dumps({"seed": seed}), data_sha256="-", seed=seed, examples=4, tokens=9, loss=0.5,
                path="-", sha256="-", milliseconds=1,
            )  # fmt: skip
        reads = retriever != "none"
        return self.put(
            "evaluations", task="tiny", split="test", student_id=student, retriever=retriever,
            index_id="index" if reads else None, reranker_id="ranker" if retriever == "reranker" else None,
            k=1 if reads else 0, decoding="{}", hash=f"{student} {retriever}",
        )  # fmt: skip

    def answer(self, evaluation: int, question: int, *read: str, right: bool = True, text: str = "So: yes.",
               flops: float = 2e9) -> None:  # fmt: skip
        prediction = self.put(
            "predictions", evaluation_id=evaluation, question_id=question, answer="A" if right else "B",
            correct=int(right), votes=1, passages=json.dumps(read), milliseconds=5, flops=flops,
        )  # fmt: skip
        self.put(
            "samples", prediction_id=prediction, sample=0, text=text, answer="A" if right else "B", forced=None,
            prompt_tokens=3, completion_tokens=4,
        )  # fmt: skip


def hostile(path: Path) -> World:
    """Store six questions under four conditions; each text by a person or model tries to be more than text."""
    world = World(path)
    world.knowledge(NASTY, f"rust {NASTY}", "water", f"air {NASTY}")
    conditions = [
        world.condition("ft"),
        world.condition("kard", "bm25"),
        world.condition("kard", "reranker"),
        world.condition("kard", "reranker", size="9m <b>$x_1$\x1b"),
    ]
    for number in range(6):
        question = world.question(
            f"q{number}", f"Question {number}? {NASTY}", evidence="p1", kind=f"kind {number % 2}"
        )
        world.search(question, "p0", "p1", "p2", ranked=("p1", "p0", "p2"))
        world.rationale(question, f"Because {NASTY}")
        for place, condition in enumerate(conditions):
            read = () if place == 0 else ("p0",) if place == 1 else ("p1",)
            world.answer(
                condition, question, *read, right=number < 2 or (number < 4 and place > 1), text=f"I say {NASTY}"
            )
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = hostile(tmp_path_factory.mktemp("page") / "kard.db")
    yield world
    world.db.close()


@pytest.fixture(scope="module")
def html(world: World) -> str:
    return render_page(read_page(world.db, "tiny", "test", shots=[NASTY]))


@pytest.fixture(scope="module")
def page(html: str) -> Reader:
    return Reader(html)


def test_no_text_becomes_an_element_or_an_attribute(page: Reader, html: str) -> None:
    assert [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "link", "base", "b")] == []
    assert len(page.all("script")) == len(page.all("style")) == 1
    names = {name for _, attributes in page.elements for name in attributes}
    assert {n for n in names if n.startswith("on") or n in ("style", "src", "srcset", "action", "srcdoc")} == set()
    assert {a["href"][:1] for _, a in page.elements if "href" in a} == {"#"}
    assert "http" not in html.replace("http-equiv", "")


def test_every_kind_of_text_stands_on_the_page_as_it_was_written(page: Reader) -> None:
    assert "(reads no passages)" in page.text
    for start in ("Question 3? ", "Because ", "I say ", "rust ", "guide ", "Title rust "):
        assert start + HURT in page.text, start


def test_nothing_that_acts_unseen_is_left(html: str) -> None:
    unseen = {c for c in html if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t\u200c\u200d"}
    assert unseen == set()
    assert "\N{SYMBOL FOR ESCAPE}[31mred\N{SYMBOL FOR NULL}" in html


def test_the_policy_admits_the_pages_own_style_and_script_and_nothing_else(page: Reader) -> None:
    (content,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    texts = {kind: "".join(data for tag, data in page.texts if tag == kind) for kind in ("style", "script")}
    for kind, text in texts.items():
        assert f"{kind}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in content
    hashed = r"'sha256-[\w+/=]+'"
    allowed = rf"style-src {hashed}; script-src {hashed}"
    assert re.fullmatch(rf"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'", content)


def test_ids_are_unique_and_every_reference_has_its_target(page: Reader) -> None:
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert [name for name, times in ids.items() if times > 1] == []
    referred = {a["href"][1:] for _, a in page.elements if "href" in a}
    referred |= {n for _, a in page.elements for n in a.get("aria-labelledby", "").split()}
    referred |= set(re.findall(r"url\(#([^)]+)\)", " ".join(v for _, a in page.elements for v in a.values())))
    assert referred - set(ids) == set()


def test_tables_have_captions_and_scopes_figures_have_words_and_headings_skip_no_level(page: Reader) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 6
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert tags.count("svg") == tags.count("desc") == tags.count("title") - 1 == 5
    assert all(a["role"] == "img" and len(a["aria-labelledby"].split()) == 2 for a in page.all("svg"))
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert [tags.count(tag) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert page.all("html")[0]["lang"] == "en"


def test_the_tables_hold_the_numbers_of_the_store(world: World, page: Reader) -> None:
    cells = [data.strip() for tag, data in page.texts if tag in ("td", "th") and data.strip()]
    at = cells.index("9m kard, reranker")
    share = wilson(4, 6)
    assert cells[at + 1] == f"66.7% [{100 * share.low:.1f}, {100 * share.high:.1f}]"
    lines = count_failures(read_failures(world.db, "tiny", "test"))
    assert [line.wrong for line in lines] == [4, 4, 2, 2]
    at = cells.index("no lookup")
    assert cells[at + 1 : at + 3] == ["9m ft", "4"]


def test_each_answer_says_what_it_read_and_why_it_was_wrong(world: World) -> None:
    shown = read_page(world.db, "tiny", "test", questions=6).questions
    assert [question.key for question in shown] == [f"q{n}" for n in range(6)]
    ft, bm25, reranker, larger = shown[5].answers
    assert (ft.verdict, bm25.verdict, reranker.verdict) == ("no lookup", "retriever failure", "student failure")
    by_number = {candidate.number: candidate for candidate in shown[5].passages}
    assert [by_number[n].text for n in bm25.read] == [NASTY]
    assert [by_number[n].needed for n in larger.read] == ["evidence"]
    assert by_number[reranker.read[0]].ranks == (2, 1)
    assert by_number[reranker.read[0]].readers == ("9m kard, reranker", larger.condition)
    assert shown[0].answers[0].verdict == ""


def test_a_passage_that_a_rationales_list_only_scored_has_no_rank_in_it(tmp_path: Path) -> None:
    world = World(tmp_path / "kard.db")
    world.knowledge("water", "air", "fire")
    question = world.question("q", evidence="p2")
    world.search(question, "p0", "p1")
    world.rationale(question, "Iron rusts in water.")
    retrieval = world.put(
        "retrievals",
        index_id="index",
        question_id=question,
        rationale_id=1,
        query="rationale",
        depth=2,
        milliseconds=1,
    )
    for rank, passage in enumerate(("p0", "p1", "p2"), 1):
        world.put("hits", retrieval_id=retrieval, rank=rank, passage_id=passage, bm25=9.0 - rank)
    world.answer(world.condition("kard", "bm25"), question, "p0")
    (seen,) = read_page(world.db, "tiny", "test").questions
    assert seen.lists == ("BM25, question", "BM25, rationale")
    assert [(c.text, c.ranks) for c in seen.passages] == [
        ("water", (1, 1)), ("air", (2, 2)), ("fire", (None, None))
    ]  # fmt: skip
    world.db.close()


def test_verdicts_that_ask_for_more_documents_than_were_read_say_how_to_ask_for_one(tmp_path: Path) -> None:
    world = World(tmp_path / "kard.db")
    world.knowledge("water", "air")
    question = world.question("q", evidence="p0")
    world.search(question, "p0", "p1")
    world.answer(world.condition("kard", "bm25"), question, "p0", right=False)

    def about() -> str:
        (section,) = [s for s in read_page(world.db, "tiny", "test").sections if s.name == "failures"]
        return section.about

    assert "--needed any" not in about()
    world.put("evidence", question_id=question, document="p1")
    assert "1 wrong answers are to questions with more evidence documents than passages were read; " in about()
    assert about().endswith("where documents are alternatives, --needed any asks for one.")
    world.db.close()


def test_the_page_explains_forced_answers_and_bias_only_where_a_column_shows_it() -> None:
    graded = [
        GradedAnswer("9m", "ft", 0, "none", 0, "", str(i), options, "A", "A", 1, forced=0.5)
        for i, options in enumerate((2, 2, 3))
    ]
    for some, biased in ((graded[:2], True), (graded, False)):
        lines = report_rows(some)
        section = sections.accuracy(lines, sections.points_of(lines, TeacherCosts(), TeacherCosts()), None)
        header = section.tables[0].header
        assert ("bias" in header, "bias: the commonest" in section.about) == (biased, biased)
        assert header[-1] == "forced"
        assert [row[-1] for row in section.tables[0].rows] == ["", "", "50%"]
        assert "forced: texts that named no answer" in section.about


def test_the_same_store_gives_the_same_bytes(world: World, html: str) -> None:
    assert render_page(read_page(world.db, "tiny", "test", shots=[NASTY])) == html


def bare(path: Path) -> World:
    """Store one right answer and nothing else."""
    world = World(path)
    world.answer(world.condition("ft"), world.question("q"), flops=0)
    return world


def test_parts_that_the_store_lacks_are_left_out_with_a_sentence(tmp_path: Path) -> None:
    world = bare(tmp_path / "kard.db")
    by_name = {section.name: section for section in read_page(world.db, "tiny", "test").sections}
    for name, sentence in {
        "retrieval": "No passages were looked up",
        "failures": "No answer was wrong.",
        "costs": "stored without their FLOPs",
        "rationales": "holds no rationales",
    }.items():
        assert by_name[name].plots == [] or by_name[name].plots == (), name
        assert sentence in " ".join(by_name[name].absent), name
    assert len(by_name["accuracy"].plots) == len(by_name["size"].plots) == 1
    world.db.close()


def test_lists_without_evidence_or_reranker_say_so(tmp_path: Path) -> None:
    world = World(tmp_path / "kard.db")
    world.knowledge("water", "air")
    question = world.question("q")
    world.search(question, "p0", "p1")
    world.answer(world.condition("kard", "bm25"), question, "p0", right=False)
    by_name = {section.name: section for section in read_page(world.db, "tiny", "test").sections}
    assert "Nothing says which passages these questions need" in by_name["retrieval"].absent[0]
    assert len(by_name["retrieval"].plots) == 0
    world.put("evidence", question_id=question, document="p1")
    by_name = {section.name: section for section in read_page(world.db, "tiny", "test").sections}
    assert by_name["retrieval"].absent == ["No reranker has ranked these passages."]
    assert len(by_name["retrieval"].plots) == 1
    world.db.close()


def test_money_stands_in_the_figure_where_money_was_paid_and_tokens_where_none_was(tmp_path: Path) -> None:
    world = bare(tmp_path / "kard.db")
    world.answer(world.condition("rd"), 1)
    world.rationale(world.question("learned", split="train"), "Iron rusts.")

    def bill() -> tuple[str, list[object]]:
        (plot,) = [p for s in read_page(world.db, "tiny", "test").sections for p in s.plots if p.name == "teacher"]
        assert plot.table is not None
        return plot.title, [row[1] for row in plot.table.rows]

    assert bill() == ("Accuracy against the teacher's tokens", ["0", "12"])
    with world.db.atomic():
        world.db.execute("update rationales set cost = 0.25")
    assert bill() == ("Accuracy against the teacher's cost", ["$0.00", "$0.25"])
    world.db.close()


def test_a_rule_stands_among_the_accuracies_and_not_among_the_sizes(tmp_path: Path) -> None:
    world = bare(tmp_path / "kard.db")
    world.answer(world.condition("rd"), 1)
    world.answer(world.condition("named", size="-"), 1)
    plots = {plot.name: plot for section in read_page(world.db, "tiny", "test").sections for plot in section.plots}
    assert "- named" in plots["accuracy"].svg
    table = plots["size"].table
    assert table is not None
    assert ["named" in str(row) for row in table.rows] == [False] * len(table.rows)
    assert len(table.rows) == 2
    world.db.close()


def test_seeds_are_one_point_with_their_deviation_and_two_names_in_the_questions(tmp_path: Path) -> None:
    world = World(tmp_path / "kard.db")
    questions = [world.question(f"q{n}") for n in range(4)]
    for seed in (0, 1):
        condition = world.condition("ft", seed=seed)
        for number, question in enumerate(questions):
            world.answer(condition, question, right=number <= seed)
    page = read_page(world.db, "tiny", "test")
    (table,) = page.sections[0].tables
    row = dict(zip(table.header, table.rows[-1], strict=True))
    assert row["over seeds"] == "± 17.7 (2)"
    assert str(row["all (n = 4)"]).startswith("37.5%")
    assert page.conditions == ["9m ft, seed 0", "9m ft, seed 1"]
    world.db.close()


def test_a_page_without_questions_has_no_filter(world: World) -> None:
    read = Reader(render_page(read_page(world.db, "tiny", "test", questions=0)))
    assert read.all("form") == read.all("article") == []


def test_without_answers_the_next_command_is_named(store: Database) -> None:
    with pytest.raises(Missing, match="kard run tiny"):
        read_page(store, "tiny", "test")


def test_without_the_extra_the_install_command_is_shown_and_nothing_is_written(
    world: World, tiny_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NoExtra, match=r"pip install 'kard\[plots\]'") as raised:
        write_page(world.db, tiny_task, "test", tmp_path / "page.html")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named_and_no_part_stays(
    world: World, tiny_task: Task, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "nowhere" / "page.html", tmp_path / "folder", tmp_path / "file" / "page.html"):
        with pytest.raises(BadInput, match=re.escape(str(place))):
            write_page(world.db, tiny_task, "test", place, questions=0)
    assert {f.name for f in tmp_path.rglob("*")} == {"folder", "file"}


def test_the_command_writes_the_page_and_says_where_it_is(world: World, tmp_path: Path) -> None:
    task = tmp_path / "tiny.py"
    task.write_text(
        "from kard.programs import Answer, RetrieveThenAnswer, Teach, plain\nfrom kard.tasks import Task\n"
        "TASK = Task('tiny', 'Metals.', lambda row: plain(row, options=('yes', 'no')), Teach, Answer,"
        " RetrieveThenAnswer)\n",
        encoding="utf-8",
    )
    store = world.db.execute("pragma database_list").fetchone()[2]
    words = ["report", str(task), "--store", store, "--html", str(tmp_path / "page.html"), "--questions", "3"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/page.html: \d+ kB, open it in a browser\n", done.output)
    read = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(read.all("article")) == 3


# What is shown of a text


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Cs"))))
def test_visible_text_holds_nothing_unseen_and_stays_as_it_is_when_shown_again(text: str) -> None:
    shown = visible(text)
    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"} == set()
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff]", shown)
    assert visible(shown) == shown


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_ordinary_text_of_every_language_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_joiners_and_line_ends_that_languages_need_stay() -> None:
    persian_and_an_emoji = "\u0645\u06cc\u200c\u062e\u0648\u200e \U0001f469\u200d\U0001f52c a\u00a0b"
    assert visible(persian_and_an_emoji) == persian_and_an_emoji
    assert visible("a\r\nb\rc\u2028d") == "a\nb\nc\nd"


# Which questions are shown


@given(
    st.dictionaries(st.text(max_size=4), st.lists(st.booleans(), min_size=1, max_size=3), max_size=30),
    st.integers(0, 12),
    st.integers(0, 3),
)
def test_sampled_questions_are_different_and_spread_over_outcomes(
    outcomes: Mapping[str, Sequence[bool]], number: int, seed: int
) -> None:
    keys = sample_keys(outcomes, number, seed)
    assert len(keys) == len(set(keys)) == min(number, len(outcomes))

    def group(key: str) -> int:
        return 2 if all(outcomes[key]) else int(any(outcomes[key]))

    sizes = Counter(map(group, outcomes))
    sampled = Counter(map(group, keys))
    for first in sizes:
        for second in sizes:  # no group is passed over while another one gives two more
            assert sampled[first] >= min(sizes[first], sampled[second] - 1)
    assert sample_keys({key: outcomes[key] for key in reversed(list(outcomes))}, number, seed) == keys


def test_another_seed_samples_others_and_a_removed_question_moves_no_other() -> None:
    outcomes = {f"q{n}": [n % 2 == 0] for n in range(40)}
    keys = sample_keys(outcomes, 10, 0)
    assert set(keys) != set(sample_keys(outcomes, 10, 1))
    spare = next(key for key in outcomes if key not in keys)
    assert sample_keys({k: v for k, v in outcomes.items() if k != spare}, 10, 0) == keys


# Figures


def test_a_figure_is_drawn_in_the_pages_colours_and_its_letters_stay_letters() -> None:
    with drawing(3, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2], label="$x_1$ <b> & 'é'")
        figure.legend()
        svg = inline(figure, "one", "Title <b>", f"Words {UNSEEN}")
    read = Reader(svg)
    colours = {a[k] for _, a in read.elements for k in ("fill", "stroke") if k in a}
    assert colours <= set(VARIABLES.values())
    assert "var(--s1)" in colours
    assert "$x_1$ <b> & 'é'" in read.text
    assert not re.search(r"style=|<metadata|<style|xlink|xmlns|#[0-9a-f]{6}", svg)
    assert set(re.findall(r' id="([^"]+)"', svg)) == {
        *re.findall(r'(?:url\(#|href="#)([^)"]+)', svg), "one-title", "one-desc"
    }  # fmt: skip


def test_a_persons_own_matplotlib_settings_change_no_figure() -> None:
    import matplotlib

    def drawn() -> str:
        with drawing(3, 2) as figure:
            figure.subplots().plot([1, 2], [2, 1])
            return inline(figure, "one", "t", "d")

    plain = drawn()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert drawn() == plain


def test_letters_that_matplotlib_has_no_font_for_are_drawn_without_a_warning() -> None:
    with drawing(3, 2) as figure:
        figure.subplots().set_title("漢字")
        assert "漢字" in inline(figure, "one", "t", "d")


def test_sizes_stand_in_the_order_of_their_parameters() -> None:
    sizes = ["3b", "tiny", "780m", "135M", "1.5b", "base"]
    assert sizes_of([Point(size, "ft", "none", "", wilson(1, 2)) for size in sizes]) == [
        "135M", "780m", "1.5b", "3b", "base", "tiny"
    ]  # fmt: skip


def test_a_line_over_sizes_runs_from_small_to_large_whatever_order_its_points_come_in() -> None:
    points = [Point(size, "rd", "none", "", wilson(n, 9)) for n, size in enumerate(("135m", "780m", "1.5b", "3b"))]

    def line(shuffled: Sequence[Point]) -> list[float]:
        """Return the x of the line's corners, in the order in which they are joined."""
        paths = [a["d"] for a in Reader(by_size(shuffled, 0.5).svg).all("path") if a.get("stroke") == "var(--s4)"]
        (corners,) = [places for d in paths if len(places := re.findall(r"[ML] (\S+) \S+", d)) == 4]
        return [float(place) for place in corners]

    assert line(points) == sorted(line(points))
    assert line([points[n] for n in (2, 0, 3, 1)]) == line(points)


@given(st.lists(st.one_of(st.none(), st.integers(1, 8)), min_size=1, max_size=30))
def test_a_curve_never_falls_and_ends_at_the_share_that_was_found(ranks: list[int | None]) -> None:
    (curve,) = curves_of([{"gold": "evidence", "retriever": "bm25", "rank": rank} for rank in ranks], 8)
    values = [share.value for share in curve.shares]
    assert values == sorted(values)
    assert len(values) == 8
    assert curve.shares[-1].right == sum(rank is not None for rank in ranks)


def test_amounts_are_short_and_small_sums_are_not_rounded_away() -> None:
    assert [amount(v) for v in (0, 5, 999, 37.79e9, 2e15)] == ["0", "5", "999", "37.8 G", "2 P"]
    assert [money(v) for v in (0, 0.0042, 0.25, 1234.5)] == ["$0.00", "$0.0042", "$0.25", "$1,234.50"]


# What an eye can read


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: str, ground: str) -> float:
    high, low = sorted((luminance(text), luminance(ground)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_in_light_in_dark_and_on_paper(page: Reader) -> None:
    css = "".join(data for tag, data in page.texts if tag == "style")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        for text, ground in (("ink", "paper"), ("faint", "paper"), ("faint", "panel"), ("link", "paper"),
                             ("good", "good-panel"), ("bad", "bad-panel"), ("good", "paper")):  # fmt: skip
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground, scheme)
        for number in range(1, 9):  # numbers stand in the colour of paper on bars of these
            assert contrast(scheme[f"s{number}"], scheme["paper"]) >= 4.5, (number, scheme)


# In a browser


@pytest.fixture
def address(browser: Any, html: str, tmp_path: Path) -> str:
    """Return the address of the page in a file."""
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("pixels", [1280, 390])
def test_the_page_fits_the_screen_runs_nothing_of_a_text_and_breaks_no_policy(
    browser: Any, address: str, pixels: int
) -> None:
    screen = {"width": pixels, "height": 844, "deviceScaleFactor": 1, "mobile": pixels < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(address)
    browser.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true })")
    wide, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner == pixels
    assert browser.execute_script("return window.hurt === undefined && document.images.length === 0")
    assert browser.get_log("browser") == []


def test_the_filter_shows_what_fits_and_shows_all_again(browser: Any, address: str) -> None:
    def visible_count(selector: str) -> int:
        return sum(element.is_displayed() for element in browser.find_elements("css selector", selector))

    def choose(name: str, value: str) -> None:
        browser.execute_script(
            "const field = document.forms[0].elements[arguments[0]]; field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', { bubbles: true }))",
            name,
            value,
        )

    browser.get(address)
    assert visible_count("article") == 6
    choose("outcome", "wrong")
    assert visible_count("article") == 4
    choose("condition", "9m kard, reranker")
    assert (visible_count("article"), visible_count(".badges li")) == (2, 2)
    choose("verdict", "retriever failure")
    assert visible_count("article") == 0
    assert browser.find_element("tag name", "output").text == "0 of 6 questions shown"
    browser.find_element("css selector", "button[type=reset]").click()
    browser.implicitly_wait(0)
    assert browser.execute_async_script("const done = arguments[0]; setTimeout(() => done(true), 50)")
    assert visible_count("article") == 6
    choose("text", "QUESTION 4?")
    assert visible_count("article") == 1


def test_without_scripts_every_question_is_there_and_no_filter(browser: Any, address: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        articles = browser.find_elements("css selector", "article")
        assert [article.is_displayed() for article in articles] == [True] * 6
        assert not browser.find_element("id", "filter").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_conditions_whose_names_a_figure_must_cut_are_numbered() -> None:
    for long, numbers in (("", ("", "")), (" train.epochs=1 train.rationales=1", ("1. ", "2. "))):
        variants = [f"k=1{long} seed={i}" for i in (1, 2)]
        answers = [GradedAnswer("9m", "kard", 0, "bm25", 1, "", "q", 2, "A", "A", 1, variant=v) for v in variants]
        lines = report_rows(answers)
        section = sections.accuracy(lines, sections.points_of(lines, TeacherCosts(), TeacherCosts()), None)
        names = [f"{number}9m kard, bm25 {v}" for number, v in zip(numbers, variants, strict=True)]
        assert [row[0] for row in section.tables[0].rows][2:] == names
        assert all(f">{name[:20]}" in section.plots[0].svg for name in names)
