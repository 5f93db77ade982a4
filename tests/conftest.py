"""What tests share: a store, a strict language model, a tiny task, and no way out to the network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlite_utils import Database

from kard.db import open_store
from kard.records import Question
from kard.tasks import Task

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tiny models: the processor is faster, and the same everywhere
# The same examples in every run, so that a run says something of a change; look for others with
# HYPOTHESIS_PROFILE=default.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
Reply = str | Exception | tuple[str, str | Exception]


class Script:
    """An engine that gives its replies in order. A reply `(part, text)` waits for a prompt that holds `part`.

    A call too many fails, and so does a reply that nobody asked for. Safe in threads.
    """

    def __init__(self, *replies: Reply, input_tokens: int = 10, output_tokens: int = 5) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []
        self.excess: list[str] = []
        self.usage = (input_tokens, output_tokens)
        self._lock = threading.Lock()

    def complete(self, request: Any) -> Any:
        """The reply to the request, as an lm15 response."""
        from dspy import lm15

        parts = [request.system or "", *(message.text or "" for message in request.messages)]
        prompt = "\n".join(str(part) for part in parts)
        with self._lock:
            self.prompts.append(prompt)
            at = next((i for i, r in enumerate(self.replies) if isinstance(r, tuple) and r[0] in prompt), None)
            if at is None:
                at = next((i for i, r in enumerate(self.replies) if not isinstance(r, tuple)), None)
            if at is None:
                self.excess.append(prompt)
                raise AssertionError(f"one call too many: ...{prompt[-300:]}")
            reply = self.replies.pop(at)
        text = reply[1] if isinstance(reply, tuple) else reply
        if isinstance(text, Exception):
            raise text
        return lm15.Response(
            id="scripted",
            model=request.model,
            message=lm15.Message.assistant(text),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=self.usage[0], output_tokens=self.usage[1]),
        )


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Makes scripted engines, and at the end holds each to its script."""
    made: list[Script] = []

    def make(*replies: Reply, **usage: int) -> Script:
        made.append(Script(*replies, **usage))
        return made[-1]

    yield make
    for engine in made:
        assert not engine.excess, f"{len(engine.excess)} calls too many: ...{engine.excess[0][-300:]}"
        assert not engine.replies, f"{len(engine.replies)} replies were never asked for: {engine.replies}"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests reach this machine only."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    db = open_store(tmp_path / "kard.db")
    yield db
    db.conn.close()


class Case:
    """Rows of a store, written by hand: questions of the task `tiny` with what was found, read and answered.

    Every question has the options yes and no, and A for its gold answer; there is one index and one reranker.
    """

    INDEX, RERANKER = "i" * 16, "r" * 16

    def __init__(self, db: Database) -> None:
        self.db = db
        self._put("indexes", id=self.INDEX, path="-", passages=9, analyser="-")
        self._put("teachers", id="t", name="guide", model="-", instructions="", sampling="{}")
        self._put(
            "rerankers", id=self.RERANKER, task="tiny", base="-", base_sha256="-", index_id=self.INDEX,
            settings="{}", data_sha256="-", questions=0, metrics="{}", path="-", sha256="-", milliseconds=0,
        )  # fmt: skip
        self._put(
            "students", id="s", task="tiny", method="kard", size="9m", base="-", base_sha256="-", settings="{}",
            data_sha256="-", seed=0, examples=1, tokens=1, loss=0, path="-", sha256="-", milliseconds=0,
        )  # fmt: skip

    def _put(self, table: str, **row: Any) -> int:
        dated = (
            row
            if table in ("passages", "evidence", "hits", "rerank_scores", "samples")
            else {**row, "created": "-"}
        )
        self.db.table(table).insert(dated)
        return int(self.db.execute("select last_insert_rowid()").fetchone()[0])

    def write(self, sql: str, *values: object) -> None:
        """One statement, committed: a command has a connection of its own."""
        with self.db.atomic():
            self.db.execute(sql, list(values))

    def passages(self, *ids: str) -> None:
        """Passages with these ids that are not there yet: `d1-0` is the first of the document `d1`."""
        for key in ids:
            document, _, part = key.partition("-")
            row = [key, document, int(part or 0), f"Title of {document}", f"Text of {key}."]
            self.write("insert or ignore into passages values (?, ?, ?, ?, ?)", *row)

    def question(self, key: str, *evidence: str, split: str = "test") -> int:
        """A question with gold documents."""
        question = self._put(
            "questions", task="tiny", key=key, split=split, text=f"Is {key} so?", options='["yes", "no"]',
            answer="A", kind="", facts="[]", hash=key,
        )  # fmt: skip
        for document in evidence:
            self.write("insert into evidence values (?, ?)", question, document)
        return question

    def rationale(self, question: int, *found: str, accepted: bool = True, sample: int = 0) -> int:
        """A rationale, and the passages that were found with it: none for one that was not searched with."""
        rationale = self._put(
            "rationales", question_id=question, teacher_id="t", sample=sample, text=f"Because of {sample}.",
            conclusion="A" if accepted else "B", accepted=int(accepted),
        )  # fmt: skip
        if found:
            self._hits(question, rationale, found)
        return rationale

    def found(self, question: int, *passages: str) -> None:
        """The question's own hits, best first."""
        self._hits(question, None, passages)

    def _hits(self, question: int, rationale: int | None, passages: tuple[str, ...]) -> None:
        self.passages(*passages)
        kind = "question" if rationale is None else "rationale"
        retrieval = self._put(
            "retrievals", index_id=self.INDEX, question_id=question, rationale_id=rationale, query=kind,
            depth=len(passages), milliseconds=0,
        )  # fmt: skip
        for rank, passage in enumerate(passages, 1):
            self._put("hits", retrieval_id=retrieval, rank=rank, passage_id=passage, bm25=9.0 - rank)

    def ranked(self, question: int, *passages: str) -> None:
        """The reranker's order of the question's hits."""
        sql = "select id from retrievals where question_id = ? and query = 'question'"
        retrieval = self.db.execute(sql, [question]).fetchone()[0]
        for rank, passage in enumerate(passages, 1):
            row = {"reranker_id": self.RERANKER, "retrieval_id": retrieval, "rank": rank, "passage_id": passage}
            self._put("rerank_scores", **row, score=1 / rank)

    def answered(self, question: int, retriever: str, *read: str, answer: str | None = "B", k: int = 2) -> int:
        """A prediction under the condition of that retriever, with one sample; the id of the evaluation."""
        self.passages(*read)
        split = self.db.execute("select split from questions where id = ?", [question]).fetchone()[0]
        known = self.db.execute(
            "select id from evaluations where hash = ?", [f"{split} {retriever} {k}"]
        ).fetchone()
        reads, reranks = retriever != "none", retriever in ("reranker", "shuffled")
        evaluation = known[0] if known else self._put(
            "evaluations", task="tiny", split=split, student_id="s", retriever=retriever,
            index_id=self.INDEX if reads else None, reranker_id=self.RERANKER if reranks else None,
            k=k if reads else 0, decoding="{}", hash=f"{split} {retriever} {k}",
        )  # fmt: skip
        prediction = self._put(
            "predictions", evaluation_id=evaluation, question_id=question, answer=answer,
            correct=int(answer == "A"), votes=int(answer is not None), passages=json.dumps(read), milliseconds=1,
            flops=1,
        )  # fmt: skip
        self._put(
            "samples", prediction_id=prediction, sample=0, text=f"I say {answer}.", answer=answer, forced=0,
            prompt_tokens=1, completion_tokens=1,
        )  # fmt: skip
        return int(evaluation)


@pytest.fixture
def new_case() -> type[Case]:
    """Writes rows into a store that the test opened."""
    return Case


@pytest.fixture
def case(store: Database) -> Case:
    """Writes rows into the empty store."""
    return Case(store)


def _write_encoder(folder: Path, kind: str = "BertModel", *, words: Sequence[str], seed: int = 0) -> Path:
    """A random encoder of one layer of a transformers class, with a tokenizer of whole words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "passage", "query", ":", ".", "and", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]  # the stubs know no setter
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # as above
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # as above
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    form = transformers.DPRConfig if kind.startswith("DPR") else transformers.BertConfig
    config = form(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.3,  # at the usual 0.02 a random model gives every text the same vector
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(transformers, kind)(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def write_encoder() -> Callable[..., Path]:
    """Writes a tiny encoder into a folder: `write_encoder(folder, words=[...])`."""
    return _write_encoder


@pytest.fixture
def tiny_task() -> Task:
    """Yes/no questions in the plain form, with one example for the teacher."""
    parts = import_module("kard.programs._common")

    def parse(row: Any) -> Question | None:
        return parts.plain(row, parts.YES_NO)

    return Task(
        name="tiny",
        about="Two questions about metals.",
        parse=parse,
        teach=parts.Teach,
        answer=parts.Answer,
        program=parts.RetrieveThenAnswer,
        shots=(parts.shot("Does iron rust?", parts.YES_NO, "A", "Iron reacts with oxygen and water."),),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, where it is installed; elsewhere the tests that need it are skipped, and say so."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: the browser tests were left out")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver: the browser tests were left out")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
                 "disable-background-networking", "disable-component-update"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped, and say so, without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data: the checks on real data were left out")
    return folder
