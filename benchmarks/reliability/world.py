"""What the suites of this folder share: a small world, a teacher that counts, and a kard that starts in milliseconds.

A command of kard takes seconds to import torch. `Kard` is a process that has imported everything and has no thread;
for each command it forks a child, which runs the command line as `python -m kard` does. The child can be told to kill
itself before its n-th write.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "KARD_THREADS"):
    os.environ[_name] = "1"  # a process with threads cannot be forked
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", OPENAI_API_KEY="none")

PRELOADED = (  # what the commands import when they are needed
    *("kard.cli.run", "kard.cli.teach", "kard.cli.load", "kard.cli.knowledge", "kard.cli.query", "kard.cli.merge"),
    *(
        "kard.cli.show",
        "kard.cli.choose",
        "kard.cli.report",
        "kard.cli.demo",
        "kard.pipeline.steps",
        "kard.pipeline.demo",
    ),
    *("kard.student.training.train", "kard.reranker.training", "kard.retrieval.rerank", "kard.evaluation.answer"),
    *(
        "kard.teacher.teach",
        "kard.teacher.verify",
        "kard.knowledge.indexing",
        "kard.knowledge.repair",
        "kard.publish.card",
    ),
    *(
        "kard.student.generation.engine",
        "kard.student.generation.batch",
        "kard.pipeline.contamination",
        "peft.tuners.lora",
    ),
    *(
        "transformers.models.llama.modeling_llama",
        "transformers.models.bert.modeling_bert",
        "transformers.masking_utils",
    ),
    *(
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.cache_utils",
    ),
    *("safetensors.torch", "kard.programs.atlas", "dspy", "tantivy", "http.server", "openai", "torch.optim"),
)
COLOURS = ("red", "blue", "green", "white", "black", "brown")
WORDS = [
    "old",
    "tall",
    "grey",
    "wide",
    "quiet",
    "stone",
    "river",
    "hill",
    "market",
    "tower",
    "wall",
    "bridge",
    "road",
    "lake",
    "field",
    "north",
    "south",
]
QUERIES = ("gate red", "tower", "Quildon")
SIDES = ("-wal", "-shm", "-journal")  # SQLite's own files beside a database
NOT_COMPARED = {"claims", "steps_log", "_sqlite_migrations", "sqlite_sequence", "sqlite_stat1"}
VARYING = {
    "created",
    "milliseconds",
    "metrics",
}  # columns that differ between two runs: times, and times within JSON
STATEMENTS = ("begin", "commit", "insert", "update", "delete", "create", "drop", "replace", "savepoint", "release")
FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}

TASK = """
from kard.config import Decoding, Lora, RerankerTraining, Retrieval, TaskSettings, StudentTraining, Teaching
from kard.programs import Answer, RetrieveThenAnswer, Teach, plain
from kard.tasks import Task


class Explain(Teach):
    '''Explain the colour of a town's gate.'''


class Choose(Answer):
    '''Read, then name the colour.'''


TASK = Task(
    "gates",
    "Colours of town gates.",
    lambda row: plain(row, options=row["options"].split(";")),
    Explain,
    Choose,
    RetrieveThenAnswer,
    students={{"tiny": {decoder!r}}},
    encoders={{"tiny": {encoder!r}}},
    settings=TaskSettings(
        teaching=Teaching(samples=2),
        retrieval=Retrieval(kappa=4, k=2, depth=3, max_df=1.0),
        reranker=RerankerTraining(lora=Lora(rank=2, alpha=4), batch=4, candidates=4),
        student=StudentTraining(lora=Lora(rank=2, alpha=4), epochs=2, batch=4, k=2),
        decoding=Decoding(max_new_tokens=6, batch=4),
    ),
)
"""


# --- the world ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """The folder of a world, with the paths that commands take."""

    folder: Path

    @property
    def task(self) -> str:
        """The file of the task `gates`."""
        return str(self.folder / "gates.py")

    @property
    def questions(self) -> str:
        """The file of questions: for each town, two ways to ask."""
        return str(self.folder / "questions.csv")

    @property
    def docs(self) -> str:
        """The folder of documents, one a town."""
        return str(self.folder / "docs")

    @property
    def changed_docs(self) -> str:
        """The documents again: a third is gone, a third differs."""
        return str(self.folder / "docs-changed")


def build(folder: Path, towns: int = 16) -> World:
    """Write a world of so many towns; every fourth is for the test."""
    draw = random.Random(0)
    names = [f"{a}{b}" for a in ("Quil", "Brac", "Tars", "Vel", "Mos", "Fen") for b in ("don", "mar", "tik", "ro")]
    lines, texts = ["id,split,question,options,answer"], list[str]()
    for changed in (False, True):
        (folder / ("docs-changed" if changed else "docs")).mkdir(parents=True)
    for number, town in enumerate(names[:towns]):
        colour = COLOURS[number % len(COLOURS)]
        rest = " ".join(draw.choice(WORDS) for _ in range(150))
        texts.append(f"The gate of {town} is {colour}. It is {rest}.")
        (folder / "docs" / f"{town}.md").write_text(f"# {town}\n\n{texts[-1]}\n", encoding="utf-8")
        if number % 3:
            end = " It was painted." if number % 3 == 1 else ""
            (folder / "docs-changed" / f"{town}.md").write_text(f"# {town}\n\n{texts[-1]}{end}\n", encoding="utf-8")
        for form, question in enumerate(
            (f"What colour is the gate of {town}?", f"{town} has a gate of which colour?")
        ):
            split = "test" if number % 4 == 3 else "train"
            letter = "ABCDEF"[number % len(COLOURS)]
            lines.append(f"{town}-{form},{split},{question},{';'.join(COLOURS)},{letter}")
    (folder / "questions.csv").write_text("\n".join(lines), encoding="utf-8")
    bases = {"decoder": str(folder / "decoder"), "encoder": str(folder / "encoder")}
    (folder / "gates.py").write_text(TASK.format(**bases), encoding="utf-8")
    forked(lambda: _write_bases(folder, texts))
    return World(folder)


def _write_bases(folder: Path, texts: Sequence[str]) -> None:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    for kind in ("decoder", "encoder"):
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(texts, vocab_size=400, special_tokens=["<end>"], show_progress=False)
        (folder / kind).mkdir()
        bpe.save(str(folder / kind / "tokenizer.json"))
        names = {"eos_token": "<end>", "pad_token": "<end>"}
        fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / kind / "tokenizer.json"), **names)
        fast.save_pretrained(folder / kind)
        length = {"vocab_size": len(fast), "max_position_embeddings": 1024, **size}
        if kind == "decoder":
            tokens = {"eos_token_id": 0, "pad_token_id": 0, "num_key_value_heads": 2}
            model: Any = LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, **tokens, **length))
        else:
            model = BertModel(BertConfig(num_hidden_layers=2, **length))
        model.save_pretrained(folder / kind)


# --- processes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int  # negative: the signal that killed it
    output: str  # stdout and stderr
    writes: int  # of a command that was not killed
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether it did what it should, or said in one line why not."""
        return self.code in (0, 1, 2) and "Traceback" not in self.output


class Started:
    """A child that runs a command. `before` is the write before which it kills itself; 0: none."""

    def __init__(self, words: Sequence[str], *, folder: Path, before: int = 0, home: Path | None = None) -> None:
        self._began = time.monotonic()
        self._output = (home or folder.parent) / f".output-{random.SystemRandom().getrandbits(48):x}"
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            _child(list(words), folder, before, self._output, writer)
        os.close(writer)

    def kill(self) -> None:
        """Kill it, wherever it is."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def wait(self, timeout: float = 600) -> Ended:
        """Return how it ended; after `timeout` seconds it is killed."""
        while not (waited := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - self._began > timeout:
                self.kill()
            time.sleep(0.002)
        status = waited[1]
        with os.fdopen(self._reader, "rb") as stream:
            writes = stream.read()
        output = self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""
        self._output.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, output, int(writes or 0), time.monotonic() - self._began)


def run(words: Sequence[str], *, folder: Path, before: int = 0) -> Ended:
    """Run a command to its end, or until it kills itself before that write below `folder`."""
    return Started(words, folder=folder, before=before).wait()


def preload() -> None:
    """Import what commands need. Raises RuntimeError if that has started threads, after which nothing is forked."""
    from kard.cli import main

    for name in main.list_commands(None):  # type: ignore[arg-type]  # the context is not used
        main.get_command(None, name)  # type: ignore[arg-type]  # as above
    for name in PRELOADED:
        import_module(name)
    names = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    if threads := [name for name in names[1:] if name != "jemalloc_bg_thd"]:  # pyarrow's, which heeds forks
        raise RuntimeError(f"threads after the imports: {threads}")


def end_with_parent() -> None:
    """Let the system kill this child when its parent ends."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def forked(call: Callable[[], Any]) -> Any:
    """Return what a call gives in a child, as JSON carries it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as stream:
                json.dump(call(), stream)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"a child ended with {status}")
    return json.loads(text)


def _child(words: list[str], folder: Path, before: int, output: Path, writer: int) -> None:
    """Run the command and end the process."""
    code = 1
    try:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        writes = _Writes(folder, before)
        sys.addaudithook(writes.heard)
        sqlite3.connect = writes.connecting(sqlite3.connect)
        from kard.cli import main

        try:
            main(words, prog_name="kard")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writer, str(writes.count).encode())
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(code)


class _Writes:
    """Counts the writes of this process: statements that change a database, and changes of files below a folder."""

    def __init__(self, folder: Path, before: int) -> None:
        self._folder, self._before, self.count = str(folder), before, 0

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of something that the interpreter does."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._write(path)
        elif event in FILE_EVENTS:
            self._write(arguments[0])

    def connecting(self, connect: Callable[..., sqlite3.Connection]) -> Any:
        """Return `connect` for connections whose statements are heard."""

        def connected(*arguments: Any, **settings: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **settings)
            connection.set_trace_callback(self._stated)
            return connection

        return connected

    def _stated(self, statement: str) -> None:
        if statement.lstrip()[:9].lower().startswith(STATEMENTS):
            self._count()

    def _write(self, path: object) -> None:
        if isinstance(path, str | os.PathLike) and str(path).startswith(self._folder):
            self._count()

    def _count(self) -> None:
        self.count += 1
        if self.count == self._before:
            os.kill(os.getpid(), signal.SIGKILL)


# --- what a store holds ---------------------------------------------------------------------------


def contents(store: Path) -> dict[str, dict[str, int]]:
    """Return how often each row stands in each table, without row ids and times.

    A reference to a row is that row's content, so that two stores are equal if they hold the same, whatever the
    order in which it came.
    """
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        tables = [
            r[0] for r in db.execute("select name from sqlite_master where type = 'table'") if "_fts" not in r[0]
        ]
        reader = _Contents(db)
        return {name: reader.rows(name) for name in sorted(set(tables) - NOT_COMPARED)}


class _Contents:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._parents: dict[str, dict[str, str]] = {}
        self._known: dict[tuple[str, int], str] = {}

    def rows(self, table: str) -> dict[str, int]:
        return dict(Counter(self._text(table, row) for row in self._db.execute(f'select * from "{table}"')))

    def _text(self, table: str, row: sqlite3.Row) -> str:
        if table not in self._parents:
            links = self._db.execute(f'pragma foreign_key_list("{table}")').fetchall()
            self._parents[table] = {link["from"]: link["table"] for link in links}
        shown: dict[str, object] = {}
        for column in row.keys():
            value = row[column]
            if column in VARYING or (column == "id" and isinstance(value, int)):
                continue
            parent = self._parents[table].get(column)
            shown[column] = self._of(parent, value) if parent and isinstance(value, int) else value
        return json.dumps(shown, sort_keys=True, default=str)

    def _of(self, table: str, key: int) -> str:
        if (table, key) not in self._known:
            row = self._db.execute(f'select * from "{table}" where id = ?', [key]).fetchone()
            self._known[table, key] = "none" if row is None else self._text(table, row)
        return self._known[table, key]


def damage(store: Path) -> list[str]:
    """Return what SQLite finds wrong in a database: pages, references, search indexes."""
    with closing(sqlite3.connect(store)) as db:
        wrong = [row[0] for row in db.execute("pragma integrity_check") if row[0] != "ok"]
        wrong += [f"reference of {row[0]}" for row in db.execute("pragma foreign_key_check")]
        names = [
            r[0] for r in db.execute("select name from sqlite_master where sql like 'create virtual table%fts5%'")
        ]
        for name in names:
            try:
                db.execute(f"insert into {name} ({name}, rank) values ('integrity-check', 1)")
            except sqlite3.DatabaseError as error:
                wrong.append(f"{name}: {error}")
        db.rollback()
    return wrong


def knowledge(folder: Path) -> dict[str, object]:
    """Return what a knowledge base says of itself and finds; {} if there is none."""
    from kard.knowledge.knowledge_base import KnowledgeBase

    def look() -> dict[str, object]:
        base = KnowledgeBase.open(folder)
        hits = [(h.passage.id, round(h.bm25, 4)) for q in QUERIES for h in base.search(q, 9)]
        return {"id": base.id, "passages": sorted(base.passage_ids()), "hits": hits}

    return forked(look) if folder.exists() else {}


def files(folder: Path) -> dict[str, int]:
    """Return how many files of each name lie below a folder; names that are drawn by chance count by their ending."""
    names: Counter[str] = Counter()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.endswith(SIDES):
            inside = "tantivy/" in name and path.stem not in ("meta", ".managed")
            names[f"{path.parent.name}/*{path.suffix}" if inside else name] += 1
    return dict(names)


# --- the teacher ----------------------------------------------------------------------------------


class Teacher:
    """A server on this machine that speaks OpenAI's protocol and counts, in a process of its own."""

    def __init__(self, world: World, delay: float = 0.02) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            end_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with suppress(BaseException):
                _serve(world, delay, writer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            self.port = int(stream.readline())

    @property
    def url(self) -> str:
        """The address for --api-base."""
        return f"http://127.0.0.1:{self.port}/v1"

    def asked(self) -> dict[str, int]:
        """Return how often each thing was asked for."""
        from http.client import HTTPConnection

        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", "/asked")
            return json.loads(connection.getresponse().read())

    def stop(self) -> None:
        """End the server."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _serve(world: World, delay: float, writer: int) -> None:
    import csv
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    with open(world.questions, encoding="utf-8") as stream:
        answers = {row["question"]: row["answer"] for row in csv.DictReader(stream)}
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = str(body["messages"][-1]["content"])
            question = max((q for q in answers if q in prompt), key=prompt.rindex, default=prompt[-80:])
            kind = "opinion" if "[[ ## explanation ## ]]" in prompt else "rationale"
            with lock:
                asked[f"{kind} {question}"] += 1
            time.sleep(delay)
            letter = answers.get(question, "A")
            text = f"[[ ## answer ## ]]\n{letter}" if kind == "opinion" else _rationale(question, letter)
            self._send({
                "id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": f"{text}\n\n[[ ## completed ## ]]"}}],
            })  # fmt: skip

        def do_GET(self) -> None:
            with lock:
                self._send(dict(asked))

        def _send(self, answer: Mapping[str, object]) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            with suppress(OSError):  # a client that was killed
                self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    os.write(writer, f"{server.server_port}\n".encode())
    os.close(writer)
    server.serve_forever()


def _rationale(question: str, letter: str) -> str:
    town = next(word.strip("?,") for word in question.split() if word[0].isupper() and word != "What")
    colour = COLOURS["ABCDEF".index(letter)]
    return f"[[ ## rationale ## ]]\nThe gate of {town} is {colour}.\n\n[[ ## letter ## ]]\n{letter}"


# --- results --------------------------------------------------------------------------------------


def recorded(file: Path | None, suite: str) -> dict[str, Any]:
    """Return what a file has of a suite; {} if it has nothing."""
    return json.loads(file.read_text(encoding="utf-8")).get(suite, {}) if file and file.exists() else {}


def record(file: Path | None, suite: str, result: Mapping[str, Any]) -> None:
    """Keep the result of a suite in a file, beside those of the other suites; without a file, print it."""
    from kard.version import __version__

    date, cores = time.strftime("%Y-%m-%d", time.gmtime()), len(os.sched_getaffinity(0))
    whole = {"kard": __version__, "date": date, "python": platform.python_version(), "cores": cores, **result}
    if file is None:
        print(json.dumps(whole, indent=1, ensure_ascii=False))
        return
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**stored, suite: whole}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
