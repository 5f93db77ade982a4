"""Search, rerank and read the store from Python: plain, as DSPy modules, and for other libraries."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import dspy
import pytest
from click.testing import CliRunner

import kard
from kard.cli import main
from kard.db import open_store
from kard.errors import BadConfig, BadInput, Missing, NoExtra, NoStore
from kard.records import Document, Hit, Passage

WORDS = ["ant", "bee", "cat", "dog", "eel", "fox"]
TEXTS = [{"id": f"d{i}", "title": word, "text": f"The {word} of number n{i}x."} for i, word in enumerate(WORDS)]


@pytest.fixture
def knowledge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_encoder: Callable[..., Path]
) -> kard.Knowledge:
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    encoder = write_encoder(tmp_path / "encoder", words=WORDS)
    knowledge = kard.open_knowledge(tmp_path / "kb", encoder=str(encoder))
    assert knowledge.add(TEXTS).added == len(TEXTS)
    return knowledge


def documents_of(hits: list[Hit]) -> list[str]:
    return [hit.passage.document for hit in hits]


def test_a_knowledge_base_is_searched_by_words_by_vectors_and_by_both(knowledge: kard.Knowledge) -> None:
    words = knowledge.search("which cat has n2x", 3)
    assert documents_of(words) == ["d2"]
    assert (words[0].rank, words[0].score) == (1, None)
    nearest = knowledge.search("cat", 3, "dense")
    assert len(nearest) == 3
    assert [hit.score for hit in nearest] == sorted([hit.score or 0 for hit in nearest], reverse=True)
    assert all(math.isnan(hit.bm25) for hit in nearest)
    both = knowledge.search("cat", 6, "hybrid")
    assert documents_of(both)[0] == "d2"
    assert len(both) == 6
    assert documents_of(knowledge.search(["n4x", "n5x"], 5)) == ["d4", "d5"]
    assert knowledge.search("nowhere to be found") == []


def test_documents_that_are_added_are_found_at_once_and_others_stay(knowledge: kard.Knowledge) -> None:
    before = knowledge.id
    assert knowledge.search("gnu", 1, "dense") != []
    added = knowledge.add(
        ["A gnu grazes.", Document("h", "hen", "The hen clucks."), {"id": 7, "contents": "A jay."}]
    )
    assert (added.added, added.removed, added.passages) == (3, 0, 9)
    assert documents_of(knowledge.search("hen clucks")) == ["h"]
    assert documents_of(knowledge.search("jay")) == ["7"]
    assert len(knowledge.search("gnu", 20, "dense")) == 9
    assert len(knowledge) == 9
    assert knowledge.id != before
    assert (knowledge.add(["A gnu grazes."]).added, len(knowledge)) == (0, 9)


def test_a_document_that_is_added_again_is_replaced_with_all_of_its_passages(knowledge: kard.Knowledge) -> None:
    long = " ".join(f"Sentence s{i}x is about the {WORDS[i % 6]} and nothing else at all." for i in range(60))
    assert knowledge.add([{"id": "d0", "title": "ant", "text": long}]).removed == 1
    assert len(knowledge) > len(TEXTS)
    again = knowledge.add([{"id": "d0", "title": "ant", "text": "Short now."}])
    assert (again.added, len(knowledge)) == (1, len(TEXTS))
    assert knowledge.search("s59x") == []
    assert documents_of(knowledge.search("n1x")) == ["d1"]


def test_a_folder_is_added_like_a_source_and_brought_up_to_date(knowledge: kard.Knowledge, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("# Rain\n\nRain falls.")
    (notes / "b.txt").write_text("Snow melts.")
    assert knowledge.add(notes).added == 2
    (notes / "b.txt").unlink()
    assert knowledge.add(notes).removed == 1
    assert len(knowledge) == len(TEXTS) + 1


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ([{"text": "no id"}], "document 0: no id; a row needs one of id"),
        ([*TEXTS, {"id": "x"}], "document 6: no text for 'x'"),
        ([3], "document 0: .*give a text or a kard.Document"),
        ("one text", r"add\(\[text\]\)"),
        ([], "holds no document with any text"),
    ],
)
def test_what_is_no_document_is_refused_and_the_base_stays(
    knowledge: kard.Knowledge, documents: Any, problem: str
) -> None:
    before = knowledge.id
    with pytest.raises(BadInput, match=problem):
        knowledge.add(documents)
    assert kard.open_knowledge(knowledge.folder).id == before


def test_wrong_arguments_and_missing_folders_are_refused(knowledge: kard.Knowledge, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="mode must be one of bm25, dense, hybrid, not words"):
        knowledge.search("x", 3, "words")  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadConfig, match="k must be at least 1, not 0"):
        knowledge.search("x", 0)
    with pytest.raises(Missing, match=r"no knowledge base in .*typo; build one with: kard index"):
        kard.open_knowledge(tmp_path / "typo").search("x")
    assert not (tmp_path / "typo").exists()


def test_a_large_base_is_not_encoded_unasked_and_no_encoder_is_loaded_to_say_so(
    knowledge: kard.Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kard.retrieval.live.MAX_UNENCODED", 5)
    other = kard.open_knowledge(knowledge.folder, encoder="no/such-encoder")
    with pytest.raises(Missing, match="6 passages have no vector by no/such-encoder yet; make them once with"):
        other.search("cat", mode="dense")
    assert knowledge.encode() == 6
    assert len(knowledge.search("cat", 6, "dense")) == 6


def test_the_knowledge_base_beside_a_store_is_opened_by_the_stores_name(tmp_path: Path) -> None:
    open_store(tmp_path / "kard.db").close()
    kard.open_knowledge(tmp_path / "kard.knowledge").add(["A gnu."])
    assert len(kard.open_knowledge(tmp_path / "kard.db").search("gnu")) == 1


def test_threads_share_a_knowledge_base_in_every_mode(knowledge: kard.Knowledge) -> None:
    for mode in ("bm25", "dense", "hybrid"):
        alone = [documents_of(knowledge.search(word, 3, mode)) for word in WORDS]
        knowledge.close()
        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(knowledge.search, word, 3, mode) for word in WORDS * 4]
        assert [documents_of(future.result()) for future in futures] == alone * 4


# DSPy


class Counting(dspy.Module):
    """A program over a retriever without any model."""

    def __init__(self, retriever: kard.Retriever) -> None:
        super().__init__()
        self.retriever = retriever

    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=self.retriever(question).passages[0])


def test_a_retriever_is_a_dspy_module_that_gives_passages_as_text(knowledge: kard.Knowledge) -> None:
    retriever = kard.Retriever(knowledge, k=2)
    assert isinstance(retriever, dspy.Module)
    found = retriever("n3x")
    assert found.passages == ["dog: The dog of number n3x."]
    assert found.hits == knowledge.search("n3x", 2)
    assert len(retriever("number").passages) == 2
    assert len(retriever(query="number", k=4).passages) == 4
    untitled = kard.open_knowledge(knowledge.folder.with_name("other"))
    untitled.add(["A gnu grazes."])
    assert kard.Retriever(untitled)("gnu").passages == ["A gnu grazes."]


def test_programs_over_a_retriever_are_copied_evaluated_run_in_parallel_and_awaited(
    knowledge: kard.Knowledge,
) -> None:
    program = Counting(kard.Retriever(knowledge, mode="hybrid")).deepcopy()
    assert program.retriever.knowledge is knowledge
    devset = [
        dspy.Example(question=f"{word} n{i}x", answer=word).with_inputs("question") for i, word in enumerate(WORDS)
    ]

    def right(example: Any, prediction: Any, trace: Any = None) -> bool:
        return prediction.answer.startswith(example.answer)

    assert dspy.Evaluate(devset=devset, metric=right, num_threads=3, display_progress=False)(program).score == 100
    pairs = [(program, example.inputs()) for example in devset]
    assert len(dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)) == len(WORDS)
    awaited: Any = asyncio.run(program.retriever.acall("n3x"))
    assert awaited.passages[0].startswith("dog: ")


# Rerankers: those of a store and of a folder are in test_publish.py


class ByLength:
    """A reranker that scores a passage by its length, unless they are of one length."""

    id = "length"

    def rank(self, question: str, passages: list[Hit], k: int | None = None) -> list[Hit]:
        ordered = sorted(passages, key=lambda hit: -len(hit.passage.text))[:k]
        return [
            Hit(hit.passage, rank, hit.bm25, float(len(hit.passage.text))) for rank, hit in enumerate(ordered, 1)
        ]


def test_a_retriever_with_a_reranker_orders_the_first_candidates_of_the_search(knowledge: kard.Knowledge) -> None:
    knowledge.add(
        [{"id": "long", "text": "A number that is described at great length here, and without any animal."}]
    )
    retriever = kard.Retriever(knowledge, k=2, reranker=ByLength())  # pyright: ignore[reportArgumentType]
    hits = retriever("number of the ant").hits
    assert documents_of(hits)[0] == "long"
    assert (hits[0].rank, hits[0].bm25 > 0, hits[0].score) == (1, True, 72.0)
    few = kard.Retriever(knowledge, k=1, reranker=ByLength(), candidates=1)  # pyright: ignore[reportArgumentType]
    assert documents_of(few("number of the ant n0x").hits) == ["d0"]


def test_a_store_without_rerankers_names_the_next_command(tmp_path: Path) -> None:
    open_store(tmp_path / "kard.db").close()
    with pytest.raises(
        Missing, match=r"no reranker \(tiny\) in .*kard.db; train one .*reranker tiny --store .*kard.db"
    ):
        kard.load_reranker(tmp_path / "kard.db", task="tiny")
    with pytest.raises(NoStore, match="no store at"):
        kard.load_reranker(tmp_path / "typo.db")
    with pytest.raises(BadInput, match="holds no reranker that kard wrote"):
        kard.load_reranker(tmp_path)


def test_several_rerankers_must_be_told_apart(case: Any, tmp_path: Path) -> None:
    case._put(
        "rerankers", id="q" * 16, task="other", base="-", base_sha256="-", index_id=case.INDEX,
        settings="{}", data_sha256="-", questions=0, metrics="{}", path="-", sha256="-", milliseconds=0,
    )  # fmt: skip
    with pytest.raises(BadConfig, match=r"2 rerankers could be meant.*\(other\)"):
        kard.load_reranker(tmp_path / "kard.db")


# Other libraries: a strict fake of the few names that are used, where they are not installed


@pytest.fixture
def langchain(monkeypatch: pytest.MonkeyPatch) -> str:
    """Say whether langchain-core itself runs, or a fake of it."""
    try:
        importlib.import_module("langchain_core.retrievers")
    except ImportError:
        pass
    else:
        return "real"

    class Of:
        def __init__(self, *, id: str, page_content: str, metadata: dict[str, Any]) -> None:
            self.id, self.page_content, self.metadata = id, page_content, metadata

    class BaseRetriever:
        _get_relevant_documents: Any

        def invoke(self, query: str) -> list[Any]:
            return self._get_relevant_documents(query, run_manager=None)

    _install(monkeypatch, "langchain_core", documents={"Document": Of}, retrievers={"BaseRetriever": BaseRetriever})
    return "fake"


@pytest.fixture
def llama_index(monkeypatch: pytest.MonkeyPatch) -> str:
    """Say whether llama-index-core itself runs, or a fake of it."""
    try:
        importlib.import_module("llama_index.core.retrievers")
    except ImportError:
        pass
    else:
        return "real"

    class TextNode:
        def __init__(self, *, id_: str, text: str, metadata: dict[str, Any]) -> None:
            self.node_id, self.text, self.metadata = id_, text, metadata

    class NodeWithScore:
        def __init__(self, *, node: TextNode, score: float) -> None:
            self.node, self.score = node, score

    class Query:
        def __init__(self, query_str: str) -> None:
            self.query_str = query_str

    class BaseRetriever:
        _retrieve: Any

        def retrieve(self, text: str) -> list[Any]:
            return self._retrieve(Query(text))

    schema = {"TextNode": TextNode, "NodeWithScore": NodeWithScore}
    _install(monkeypatch, "llama_index.core", retrievers={"BaseRetriever": BaseRetriever}, schema=schema)
    return "fake"


def _install(monkeypatch: pytest.MonkeyPatch, package: str, **modules: dict[str, Any]) -> None:
    names = [package.rpartition(".")[0], package, *(f"{package}.{name}" for name in modules)]
    for name in filter(None, names):
        module = ModuleType(name)
        vars(module).update(modules.get(name.rpartition(".")[2], {}))
        monkeypatch.setitem(sys.modules, name, module)


def test_langchain_retrieves_documents_with_their_scores(knowledge: kard.Knowledge, langchain: str) -> None:
    documents = kard.langchain_retriever(kard.Retriever(knowledge, k=2)).invoke("n3x")
    (hit,) = knowledge.search("n3x", 2)
    (document,) = documents
    assert (document.id, document.page_content) == (hit.passage.id, "The dog of number n3x.")
    assert document.metadata == {"title": "dog", "document": "d3", "part": 0, "score": hit.bm25}


def test_llama_index_retrieves_nodes_with_their_scores(knowledge: kard.Knowledge, llama_index: str) -> None:
    (node,) = kard.llama_index_retriever(kard.Retriever(knowledge, k=1, mode="dense")).retrieve("dog")
    (hit,) = knowledge.search("dog", 1, "dense")
    assert (node.node.node_id, node.node.text, node.score) == (hit.passage.id, hit.passage.text, hit.score)
    assert node.node.metadata["title"] == hit.passage.title


@pytest.mark.parametrize(
    ("package", "make", "command"),
    [
        ("langchain_core.documents", kard.langchain_retriever, r"pip install 'kard\[langchain\]'"),
        ("llama_index.core.retrievers", kard.llama_index_retriever, r"pip install 'kard\[llama-index\]'"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_command(
    knowledge: kard.Knowledge, monkeypatch: pytest.MonkeyPatch, package: str, make: Any, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NoExtra, match=command):
        make(kard.Retriever(knowledge))


# A data set in BEIR's layout


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "animals"
    (folder / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": "1", "title": "Ant", "text": "The ant digs. " + "It digs on and on in the sand. " * 40},
        {"_id": "2", "title": "Bee", "text": "The bee makes honey."},
        {"_id": "3", "title": "Bear", "text": "The bear eats honey of the bee."},
        {"_id": "q3", "title": "", "text": "who swims"},
    ]
    queries = [{"_id": "q1", "text": "makes honey"}, {"_id": "q2", "text": "digs in the sand"}]
    queries += [{"_id": "q3", "text": "who swims"}, {"_id": "q4", "text": "nobody judged this"}]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = ("q1\t2\t1", "q1\t3\t2", "q2\t1\t1", "q3\t2\t1")
    (folder / "qrels" / "test.tsv").write_text("\n".join(("query-id\tcorpus-id\tscore", *judged, "")))
    return folder


def test_a_beir_set_is_measured_from_its_files_in_five_lines(beir: Path, tmp_path: Path) -> None:
    knowledge = kard.open_knowledge(tmp_path / "animals.knowledge")
    knowledge.add(beir / "corpus.jsonl")
    measured = kard.measure(kard.Retriever(knowledge), beir)
    # q1 finds 2, then 3 of twice the gain; q2 finds 1 in many passages; q3 finds only itself, which does not count.
    q1 = (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    assert measured == {
        "nDCG@10": pytest.approx((q1 + 1 + 0) / 3),
        "recall@100": pytest.approx(2 / 3),
        "queries": 3,
    }


def test_a_folder_that_is_no_beir_set_is_refused_in_one_line(knowledge: kard.Knowledge, beir: Path) -> None:
    retriever = kard.Retriever(knowledge)
    with pytest.raises(BadInput, match=r"dev\.tsv: no such file; the data set has the splits: test"):
        kard.measure(retriever, beir, split="dev")
    (beir / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t2\tmany\n")
    with pytest.raises(BadInput, match=r"dev\.tsv:2: a line needs query-id, corpus-id and a number as score"):
        kard.measure(retriever, beir, split="dev")
    (beir / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq9\t2\t1\n")
    with pytest.raises(BadInput, match=r"queries\.jsonl: lacks query 'q9', which qrels/dev\.tsv judges"):
        kard.measure(retriever, beir, split="dev")


def test_a_base_that_holds_none_of_the_judged_documents_is_refused(beir: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (beir / "corpus.jsonl").read_text().splitlines()]
    texts = kard.open_knowledge(tmp_path / "texts")
    texts.add([row["text"] for row in rows])  # their keys are not those of the data set
    with pytest.raises(BadInput, match=r"qrels: judges '1' and others, none .*: kard index .*animals$"):
        kard.measure(kard.Retriever(texts), beir)


def test_a_compressed_beir_folder_is_indexed_and_measured_in_three_commands(
    beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_encoder: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    for path in (beir / "corpus.jsonl", beir / "queries.jsonl", beir / "qrels" / "test.tsv"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    encoder = str(write_encoder(tmp_path / "encoder", words=WORDS))

    def run(*words: str) -> Any:
        result = CliRunner().invoke(main, [*words, "--quiet"])
        assert result.exit_code == 0, result.output
        return result.output

    run("index", str(beir))
    (words,) = json.loads(run("measure", str(beir), "--json"))
    knowledge = kard.open_knowledge("kard.knowledge", encoder=encoder)
    assert words == {"retriever": "bm25", **kard.measure(kard.Retriever(knowledge), beir)}
    monkeypatch.setattr("kard.retrieval.live.MAX_UNENCODED", 1)
    both = ["measure", str(beir), "--retriever", "hybrid,bm25,dense", "--encoder", encoder]
    refused = CliRunner().invoke(main, both)
    assert refused.exit_code == 1
    assert "have no vector by" in refused.output
    run("encodings", "fill", "--encoder", encoder)
    measured = json.loads(run(*both, "--json"))
    assert [row.pop("retriever") for row in measured] == ["bm25", "dense", "hybrid"]
    for mode, row in zip(("bm25", "dense", "hybrid"), measured, strict=True):
        assert row == kard.measure(kard.Retriever(knowledge, mode=mode), beir)
    assert "no search 'vectors'; there are bm25, dense, hybrid" in CliRunner().invoke(
        main, ["measure", str(beir), "--retriever", "vectors"]
    ).output  # fmt: skip
    (beir / "qrels" / "dev.tsv.gz").write_bytes(b"")
    missing = CliRunner().invoke(main, ["measure", str(beir), "--split", "train"])
    assert "the data set has the splits: dev, test" in missing.output


# The store


@pytest.fixture
def opened(case: Any, tmp_path: Path) -> kard.Store:
    question = case.question("q1", "d1")
    case.question("q2", split="train")
    case.rationale(question, "d1-0")
    case.hits(question, "d1-0", "d2-0")
    case.ranked(question, "d2-0", "d1-0")
    case.answered(question, "bm25", "d1-0")
    return kard.connect(tmp_path / "kard.db")


def test_rows_show_their_columns_and_their_number(opened: kard.Store) -> None:
    shown = repr(opened.query("select 1 as one, 2 as two union select 3, 4"))
    assert shown == "<2 rows: one, two>"


def test_tables_are_sequences_of_typed_records(opened: kard.Store) -> None:
    rows = opened.table("questions")
    assert [row.key for row in rows] == ["q1", "q2"]
    assert rows[0].options == ["yes", "no"]
    assert rows[-1].split == "train"
    assert [row.key for row in rows[1:]] == ["q2"]
    assert [row.key for row in opened.table("questions", task="tiny", split="test")] == ["q1"]
    assert [row.key for row in opened.table("questions", split=None)] == []
    assert opened.table("predictions")[0].passages == ["d1-0"]
    assert rows.types["id"] is int


def test_every_value_of_every_table_and_view_has_the_type_of_its_column(opened: kard.Store) -> None:
    filled = 0
    assert {"questions", "samples", "accuracy", "hits_at_k"} <= set(opened.tables)
    for name in opened.tables:
        rows = opened.table(name)
        for record in rows:
            filled += 1
            for column, value in record._asdict().items():
                expected = rows.types.get(column, Any)
                assert expected is Any or value is None or type(value) is expected, (name, column, value)
    assert filled > 10


def test_canned_queries_and_sql_give_records_too(opened: kard.Store) -> None:
    (row,) = opened.query("accuracy", task="tiny")
    assert (row.retriever, row.correct) == ("bm25", 0)
    (counted,) = opened.query(
        "select count(*), split from questions where split = :split group by 2", split="train"
    )
    assert (counted[0], counted.split) == (1, "train")


@pytest.mark.parametrize(
    ("method", "name", "values", "problem"),
    [
        ("table", "question", {}, "no table 'question' in .*there are questions"),
        ("table", "questions", {"spilt": "x"}, "questions has no column 'spilt'; it has id"),
        ("query", "accurracy", {}, "no canned query 'accurracy'; there are "),
        ("query", "accuracy", {"tusk": "x"}, "accuracy has no parameter 'tusk'; it has "),
        ("query", "search_passages", {}, "search_passages needs "),
        ("query", "select absent from questions", {}, "SQL: no such column"),
        ("query", "delete from questions", {}, "SQL: "),
    ],
)
def test_a_wrong_question_to_the_store_is_one_line(
    opened: kard.Store, method: str, name: str, values: dict[str, str], problem: str
) -> None:
    with pytest.raises(BadInput, match=problem) as error:
        getattr(opened, method)(name, **values)
    assert "\n" not in str(error.value)
    assert len(opened.table("questions")) == 2


def test_a_store_is_read_by_threads_and_closed_by_a_block(opened: kard.Store) -> None:
    with opened as store, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(store.table, "questions") for _ in range(20)]
        assert [len(future.result()) for future in futures] == [2] * 20
    with pytest.raises(BadInput, match="closed"):
        opened.table("questions")
    with pytest.raises(NoStore, match="no store at"):
        kard.connect("typo.db")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_become_frames(opened: kard.Store, library: str) -> None:
    pytest.importorskip(library, reason=f"no {library}: its frames were left out")
    frame = getattr(opened.table("questions"), library)()
    assert list(frame.columns) == opened.table("questions").columns
    assert list(frame["key"]) == ["q1", "q2"]
    assert json.loads(frame["options"][0]) == ["yes", "no"]
    empty = getattr(opened.table("questions", split="dev"), library)()
    assert (len(empty), list(empty.columns)) == (0, list(frame.columns))
    mixed = getattr(opened.query("select 1 as n union all select null union all select 2.5"), library)()
    assert [value for value in mixed["n"] if value == value and value is not None] == [1, 2.5]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_without_its_library_names_the_install_command(
    opened: kard.Store, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(NoExtra, match=rf"pip install 'kard\[{library}\]'"):
        getattr(opened.table("questions"), library)()


def test_passages_that_are_no_hits_are_texts_or_passages() -> None:
    from kard.api.reranker import PassageReranker

    class Scorer:
        def scores(self, question: str, passages: list[Passage]) -> list[float]:
            return [float(len(passage.text)) for passage in passages]

    reranker = PassageReranker(Scorer(), "x")  # pyright: ignore[reportArgumentType]
    hit = Hit(Passage.of("d", 0, "T", "four"), 3, 2.5)
    mixed: list[Any] = ["one", Passage.of("d", 1, "", "seventeen"), hit]
    assert reranker.score("?", mixed) == [3.0, 9.0, 4.0]
    ranked = reranker.rank("?", mixed, 2)
    assert [(found.passage.text, found.rank, found.score) for found in ranked] == [
        ("seventeen", 1, 9.0),
        ("four", 2, 4.0),
    ]
    assert math.isnan(ranked[0].bm25)
    assert ranked[1].bm25 == 2.5
    assert reranker.score("?", []) == []
    with pytest.raises(BadInput, match="give a list of passages"):
        reranker.score("?", "a text")
    with pytest.raises(BadConfig, match="k must be at least 1"):
        reranker.rank("?", mixed, 0)
