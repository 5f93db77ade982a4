"""Fixtures that tests share: a store, a strict language model, a tiny task, no network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlite_utils import Database

from kard.db import open_store
from kard.models.bases import cache_folder
from kard.records import Question
from kard.tasks import Task

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tiny models: the processor is faster, and the same everywhere
# The same examples in every run, so that a failure comes from a change; try others with HYPOTHESIS_PROFILE=default.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
Ending = dict[str, Any]  # {said, finish}: a text or an lm15 part, and why it ended
Reply = str | Exception | Ending | tuple[str, str | Exception | Ending]


class Script:
    """Engine that gives scripted replies in order. A reply `(part, text)` waits for a prompt that contains `part`.

    A call too many fails, and so does an unused reply. Threads may share it.
    """

    def __init__(self, *replies: Reply, input_tokens: int = 10, output_tokens: int = 5) -> None:
        self.replies = list(replies)
        self.prompts: list[str] = []
        self.excess: list[str] = []
        self.usage = (input_tokens, output_tokens)
        self._lock = threading.Lock()

    def complete(self, request: Any) -> Any:
        """Return the next reply as an lm15 response."""
        from dspy import lm15

        parts = [request.system or "", *(message.text or "" for message in request.messages)]
        prompt = "\n".join(str(part) for part in parts)
        with self._lock:
            self.prompts.append(prompt)
            index = next((i for i, r in enumerate(self.replies) if isinstance(r, tuple) and r[0] in prompt), None)
            if index is None:
                index = next((i for i, r in enumerate(self.replies) if not isinstance(r, tuple)), None)
            if index is None:
                self.excess.append(prompt)
                raise AssertionError(f"one call too many: ...{prompt[-300:]}")
            reply = self.replies.pop(index)
        text: Any = reply[1] if isinstance(reply, tuple) else reply
        if isinstance(text, Exception):
            raise text
        said, finish = (text["said"], text["finish"]) if isinstance(text, dict) else (text, "stop")
        return lm15.Response(
            id="scripted",
            model=request.model,
            message=lm15.Message.assistant(said),
            finish_reason=finish,
            usage=lm15.Usage(input_tokens=self.usage[0], output_tokens=self.usage[1]),
        )


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Create scripted engines. At the end, each must have given all of its replies and no more."""
    engines: list[Script] = []

    def make(*replies: Reply, **usage: int) -> Script:
        engines.append(Script(*replies, **usage))
        return engines[-1]

    yield make
    for engine in engines:
        assert not engine.excess, f"{len(engine.excess)} calls too many: ...{engine.excess[0][-300:]}"
        assert not engine.replies, f"{len(engine.replies)} replies were never used: {engine.replies}"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests learn of their bases out of a person's cache; bases fetched before may be read."""
    fetched, folder = cache_folder() / "bases", tmp_path_factory.mktemp("cache")
    if fetched.is_dir():
        (folder / "bases").symlink_to(fetched)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_CACHE", str(folder))
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests connect to this machine alone."""
    connect = socket.socket.connect

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test connects to the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_connect)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """Return an empty store."""
    db = open_store(tmp_path / "kard.db")
    yield db
    db.conn.close()


class Case:
    """Writer of rows for the task `tiny`: questions with hits, rationales and answers.

    Every question has the options yes and no, of which yes is right. There is one index and one reranker.
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
        """Run one statement and commit it, since a command has its own connection."""
        with self.db.atomic():
            self.db.execute(sql, list(values))

    def passages(self, *ids: str) -> None:
        """Write the passages with these ids, where they are missing: `d1-0` is the first of the document `d1`."""
        for key in ids:
            document, _, part = key.partition("-")
            row = [key, document, int(part or 0), f"Title of {document}", f"Text of {key}."]
            self.write("insert or ignore into passages values (?, ?, ?, ?, ?)", *row)

    def question(self, key: str, *evidence: str, split: str = "test") -> int:
        """Write a question with these evidence documents. Return its row id."""
        question = self._put(
            "questions", task="tiny", key=key, split=split, text=f"Is {key} so?", options='["yes", "no"]',
            answer="A", kind="", facts="[]", hash=key,
        )  # fmt: skip
        for document in evidence:
            self.write("insert into evidence values (?, ?)", question, document)
        return question

    def rationale(self, question: int, *hits: str, accepted: bool = True, sample: int = 0, text: str = "") -> int:
        """Write a rationale, with the passages that it found if it was searched with. Return its row id."""
        rationale = self._put(
            "rationales", question_id=question, teacher_id="t", sample=sample,
            text=text or f"Because of {sample}.",
            conclusion="A" if accepted else "B", accepted=int(accepted),
        )  # fmt: skip
        if hits:
            self._hits(question, rationale, hits)
        return rationale

    def hits(self, question: int, *passages: str) -> None:
        """Write the question's own hits, best first."""
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
        """Write the reranker's order of the question's hits."""
        sql = "select id from retrievals where question_id = ? and query = 'question'"
        retrieval = self.db.execute(sql, [question]).fetchone()[0]
        for rank, passage in enumerate(passages, 1):
            row = {"reranker_id": self.RERANKER, "retrieval_id": retrieval, "rank": rank, "passage_id": passage}
            self._put("rerank_scores", **row, score=1 / rank)

    def answered(self, question: int, retriever: str, *read: str, answer: str | None = "B", k: int = 2) -> int:
        """Write an answer under this retriever's condition, with one sample. Return the id of the condition."""
        self.passages(*read)
        split = self.db.execute("select split from questions where id = ?", [question]).fetchone()[0]
        condition = f"{split} {retriever} {k}"
        stored = self.db.execute("select id from evaluations where hash = ?", [condition]).fetchone()
        reads, reranks = retriever != "none", retriever in ("reranker", "shuffled")
        evaluation = stored[0] if stored else self._put(
            "evaluations", task="tiny", split=split, student_id="s", retriever=retriever,
            index_id=self.INDEX if reads else None, reranker_id=self.RERANKER if reranks else None,
            k=k if reads else 0, decoding="{}", hash=condition, max_df=1.0 if reads else None,
            form="rationale" if retriever == "silver" else "question" if reads else "none",
            accept="own" if retriever == "silver" else None,
        )  # fmt: skip
        prediction = self._put(
            "predictions", evaluation_id=evaluation, question_id=question, answer=answer,
            correct=int(answer == "A"), votes=int(answer is not None), passages=json.dumps(read), milliseconds=1,
            flops=1,
        )  # fmt: skip
        self._put(
            "samples", prediction_id=prediction, sample=0, text=f"I say {answer}.", answer=answer, forced=None,
            prompt_tokens=1, completion_tokens=1,
        )  # fmt: skip
        return int(evaluation)


@pytest.fixture
def new_case() -> type[Case]:
    """Return the class that writes rows into a store that the test opened."""
    return Case


@pytest.fixture
def case(store: Database) -> Case:
    """Return a writer of rows into the empty store."""
    return Case(store)


def _write_encoder(folder: Path, kind: str = "BertModel", *, words: Sequence[str], seed: int = 0) -> Path:
    """Write a random encoder of one layer, of a class of transformers, with a tokenizer of whole words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "passage", "query", ":", ".", "and", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]  # the stubs know no setter
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # as above
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # as above
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    form = transformers.DPRConfig if kind.startswith("DPR") else transformers.BertConfig
    config = form(
        vocab_size=len(vocabulary),
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
    """Return the writer of a tiny encoder: `write_encoder(folder, words=[...])`."""
    return _write_encoder


def _write_decoder(folder: Path, *, words: Sequence[str]) -> Path:
    """Write a random decoder of two layers with a tokenizer that begins from these words."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([" ".join(words)], vocab_size=300, special_tokens=["<end>"], show_progress=False)
    folder.mkdir()
    bpe.save(str(folder / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<end>", pad_token="<end>"
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2048, eos_token_id=0,
                pad_token_id=0, initializer_range=0.3,
            )
        ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def write_decoder() -> Callable[..., Path]:
    """Return the writer of a tiny decoder: `write_decoder(folder, words=[...])`."""
    return _write_decoder


@pytest.fixture
def load_choice(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes a store and a knowledge base of the task `choice` in `tmp_path`: `kard index`, `kard load`.

    It takes texts of documents by id, and questions as (id, split, text, options, answer, rationale).
    """
    from click.testing import CliRunner

    from kard.cli import main

    def make(documents: Mapping[str, str], questions: Sequence[tuple[object, ...]]) -> Path:
        fields = ("id", "split", "question", "options", "answer", "rationale")
        rows = [dict(zip(fields, question, strict=True)) for question in questions]
        texts = [{"id": key, "title": "", "text": text} for key, text in documents.items()]
        for words, file, lines in (("index",), "docs.jsonl", texts), (("load", "choice"), "mine.jsonl", rows):
            (tmp_path / file).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
            place = ("--store", str(tmp_path / "kard.db"), "--quiet")
            result = CliRunner().invoke(main, [*words, str(tmp_path / file), *place])
            assert result.exit_code == 0, result.output
        return tmp_path

    return make


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """Return the file of a task `tiny` of yes/no questions in the plain form."""
    file = tmp_path / "tiny.py"
    file.write_text(
        "from kard.programs._common import Teach, Answer, RetrieveThenAnswer, plain, YES_NO\n"
        "from kard.tasks import Task\n"
        "TASK = Task(name='tiny', about='', parse=lambda row: plain(row, YES_NO), teach=Teach, answer=Answer,"
        " program=RetrieveThenAnswer)\n"
    )
    return file


@pytest.fixture
def tiny_task() -> Task:
    """Return a task of yes/no questions in the plain form, with one example for the teacher."""
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
    """Return headless Chromium. Tests that need it are skipped where it is not installed."""
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
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the checkout. Tests that need it are skipped without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data: the checks on real data were left out")
    return folder
