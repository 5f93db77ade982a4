"""The students that are served: found by name, loaded when they are first asked, and asked.

One thread holds the store, the knowledge base and the rerankers, whose connections and tokenizers belong to a
thread. It loads students and finds passages, one question at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from random import getrandbits
from typing import TYPE_CHECKING, Any, cast

from kard.db import rows
from kard.errors import Missing
from kard.evaluation.ask import StudentReply, ask_lm
from kard.methods import METHODS
from kard.outgoing import clean
from kard.pipeline.evaluate import live_retriever, of_seed, reading
from kard.serve.wire import ChatRequest, CompletionRequest, Refused, Reply, Text, prompt_options

if TYPE_CHECKING:
    from kard.config import Decoding
    from kard.pipeline.run import Run
    from kard.records import Sample
    from kard.retrieval.live import LiveRetriever, RankedHit
    from kard.student.generation.engine import EngineLM, StudentEngine
    from kard.student.generation.student import Student
    from kard.tasks import Task

SHORTEST_ID = 6  # characters of an id's beginning that may stand for it
LISTED = 12  # names in the message about an unknown one


@dataclass(frozen=True, slots=True)
class ServedStudent:
    """A trained student of the store."""

    id: str
    task: str
    size: str
    method: str
    seed: int
    created: str

    @property
    def kind(self) -> str:
        """The name that the newest of its kind answers to: `choice/135m/kard`."""
        return f"{self.task}/{self.size}/{self.method}"


@dataclass(frozen=True)
class LoadedStudent:
    """A student in memory, with its task, the way it decodes and what finds its passages (None: it reads none)."""

    student: Student
    task: Task
    method: str
    decoding: Decoding
    retriever: RemoteRetriever | None

    def new_lm(self, request: ChatRequest | CompletionRequest) -> EngineLM:
        """Return an LM for one request, to be closed after it."""
        from kard.student.generation.engine import EngineLM

        decoding = self.decoding if request.n is None else replace(self.decoding, samples=request.n)
        lm = EngineLM(self.student, decoding)
        sampling = dict(request.sampling) if isinstance(request, ChatRequest) else {}
        if "max_tokens" in sampling:  # more than it was taught would change the texts that do not end
            budget = self.student.budgeted(decoding).max_new_tokens
            sampling["max_tokens"] = min(sampling["max_tokens"], budget)
        lm.kwargs.update(sampling)
        return lm

    def prompt_of(self, request: ChatRequest) -> str | None:
        """Return the message if it is a prompt of this student's form: one that ends with the cue of an output."""
        from kard.student.prompt import cue_of

        before, _, cue = request.question.rpartition("\n")
        cues = {cue_of(name) for name in self.task.answer.output_fields}
        return request.question if before and cue in cues else None

    def answer(
        self,
        request: ChatRequest | CompletionRequest,
        lm: EngineLM,
        *,
        on_passages: Callable[[Sequence[Mapping[str, object]]], None],
        wanted: Callable[[], bool],
    ) -> Reply:
        """Return what the student says. `on_passages` gets the passages before the student writes.

        Nothing is retrieved once it is no longer `wanted`. Raises BadInput for what `kard ask` refuses, Refused for
        a question that would take too much memory.
        """
        import dspy

        if isinstance(request, CompletionRequest):
            return self._complete(request, lm)
        if problem := self.student.too_long(request.question, *request.options):
            raise Refused(413, problem, "too_long")
        prompt = self.prompt_of(request)
        with dspy.context(disable_history=True, trace=[]):  # else DSPy would keep thousands of questions
            if prompt is not None:
                on_passages(())
                return self._continue(prompt, request, lm)

            def on_hits(hits: list[RankedHit]) -> None:
                on_passages(_read(hits))

            reply = ask_lm(
                self.task,
                lm,
                self.method,
                request.question,
                request.options,
                retriever=self.retriever and replace(self.retriever, wanted=wanted),
                on_hits=on_hits,
            )
        return _reply(reply, "none" if self.retriever is None else self.retriever.live.name)

    def _continue(self, prompt: str, request: ChatRequest, lm: EngineLM) -> Reply:
        """Return texts that go on after a prompt, as a student's engine gives them; their vote is not taken."""
        from kard.student.prompt import StudentAdapter

        options = request.options or prompt_options(prompt)
        responses = StudentAdapter().responses(lm, prompt, lm.kwargs, options)
        texts = tuple(
            Text(r.text or "", "", "", r.usage.input_tokens or 0, r.usage.output_tokens or 0) for r in responses
        )
        return Reply(texts, "", None, {}, (), "none")

    def _complete(self, request: CompletionRequest, lm: EngineLM) -> Reply:
        """Return texts that go on after a prompt as it is, or the scores of its tokens. Raises Refused."""
        from kard.student.generation.student import Row

        tokens, prompt = self.student.base.tokens, request.prompt
        ids = [*tokens.before, *tokens.ids(prompt), *tokens.after] if isinstance(prompt, str) else list(prompt)
        if len(ids) > 2 * self.student.settings.max_length:
            limit = 2 * self.student.settings.max_length
            raise Refused(413, f"the prompt has more than the {limit:,} tokens that fit", "too_long")
        if not all(0 <= id < len(tokens.tokenizer) for id in ids):
            raise Refused(400, "prompt holds an id that is no token's", "invalid_request", param="prompt")
        if request.scored:
            scores = tuple(zip(map(tokens.text, ([id] for id in ids)), self._scores(ids), strict=True))
            return Reply(
                (Text("".join(t for t, _ in scores), "", "", len(ids), 0, False, scores),), "", None, {}, (), "none"
            )
        decoding = replace(
            self.decoding,
            samples=2 if request.temperature else 1,
            temperature=request.temperature or 1.0,
            top_p=request.top_p,
            max_new_tokens=request.max_tokens,
        )
        seed, engine = getrandbits(60) if request.seed is None else request.seed, cast("StudentEngine", lm.engine)
        rows = [Row(self.student, "", (), seed + i, request.max_tokens, ids) for i in range(request.n)]
        with ThreadPoolExecutor(request.n) as pool:
            samples = list(pool.map(partial(engine.queue.ask, engine, decoding=decoding), rows))
        return Reply(tuple(_continued(sample, request.stop) for sample in samples), "", None, {}, (), "none")

    def _scores(self, ids: Sequence[int]) -> list[float | None]:
        """Return the log-probability of each id but the first after those before it. Raises Refused."""
        from kard.student.generation.decoder import Decoder
        from kard.student.generation.student import LoadedBase

        base = self.student.base
        if not isinstance(base, LoadedBase) or not isinstance(base.generator, Decoder):
            raise Refused(400, "this student tells no log-probabilities", "invalid_request", param="logprobs")
        with base.lock:
            base.activate(self.student.adapter)
            return [None, *base.generator.log_probabilities(ids)]


@dataclass(frozen=True)
class RemoteRetriever:
    """A retriever that works in the thread that opened it, for callers of any thread."""

    live: LiveRetriever
    thread: ThreadPoolExecutor
    wanted: Callable[[], bool] = lambda: True

    def find(self, question: str, options: Sequence[str] = ()) -> list[RankedHit]:
        """Return what the retriever finds. Raises Refused if nobody waits for it any more when its turn comes."""

        def find() -> list[RankedHit]:
            if not self.wanted():
                raise Refused(503, "the request was given up", "given_up")
            return self.live.find(question, options)

        return self.thread.submit(find).result()


class Students:
    """The students of a store by name, each loaded when it is first asked."""

    def __init__(
        self,
        run_of: Callable[[str], Run],
        tasks: Sequence[str],
        names: Sequence[str] = (),
        *,
        retriever: str | None = None,
        k: int | None = None,
        adapter_bytes: int | None = None,
    ) -> None:
        """Serve the students of these tasks, or those of them that have one of the `names`.

        `run_of` opens a task's run. A student reads `k` passages, by default as many as when it was taught. Beside
        each base at most `adapter_bytes` of adapters stay in memory. Raises Missing if there is no such student.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._retriever, self._k, self._adapter_bytes = retriever, k, adapter_bytes
        self._loaded: dict[str, LoadedStudent] = {}
        self._retrievers: dict[tuple[str, int, int], RemoteRetriever | None] = {}
        self._runs: dict[str, Run] = {}
        opened = self._thread.submit(lambda: {run.name: run for run in map(run_of, tasks)})
        self._runs = opened.result()
        self.listed = self._thread.submit(self._list, names).result()
        self._names = _names(self.listed)

    def find(self, name: str) -> ServedStudent:
        """Return the student of that name: an id, its beginning, or the newest of its kind. Raises Refused."""
        if name in self._names:
            return self._names[name]
        begun = [student for student in self.listed if len(name) >= SHORTEST_ID and student.id.startswith(name)]
        if len(begun) == 1:
            return begun[0]
        kinds = dict.fromkeys(student.kind for student in self.listed)
        known = ", ".join(list(kinds)[:LISTED]) + (", ..." if len(kinds) > LISTED else "")
        raise Refused(
            404, f"no student {name[:80]!r}; there are {known}, and their ids", "model_not_found", param="model"
        )

    def load(self, student: ServedStudent) -> LoadedStudent:
        """Return the student in memory. Raises Missing, NoBase or BadConfig if it cannot be had."""
        return self._loaded.get(student.id) or self._thread.submit(self._load, student).result()

    def resident(self) -> list[Any]:
        """Return the adapter caches of the bases in memory."""
        bases = {id(loaded.student.base): loaded.student.base for loaded in list(self._loaded.values())}
        return [base.adapters for base in bases.values()]

    def close(self) -> None:
        """End the thread that holds the store."""
        self._thread.shutdown()

    def _list(self, names: Sequence[str]) -> tuple[ServedStudent, ...]:
        found: list[Mapping[str, Any]] = []
        for task, run in self._runs.items():
            found += rows(run.db, "internal/find_students", student=None, task=task, size=None, method=None)
        found.sort(key=lambda row: (not row["spoiled"], row["created"]), reverse=True)
        listed = [ServedStudent(**{name: row[name] for name in ServedStudent.__slots__}) for row in found]
        by_name = _names(listed)
        unknown = [name for name in names if name not in by_name]
        if unknown or not listed:
            words = f" {unknown[0]!r}" if unknown else ""
            raise Missing(
                f"no student{words} is trained; see them with: kard models, or train one with: kard run TASK"
            )
        return tuple(dict.fromkeys(by_name[name] for name in names)) or tuple(listed)

    def _load(self, served: ServedStudent) -> LoadedStudent:
        """Load the student, in the store's thread."""
        from kard.student.generation.student import load_student

        if served.id in self._loaded:
            return self._loaded[served.id]
        run = reading(of_seed(self._runs[served.task], served.seed), served.id, self._k)
        key = (served.task, served.seed, run.options.settings.retrieval.k)
        reads = METHODS[served.method].reads
        if reads and key not in self._retrievers:
            live = live_retriever(run, served.method, self._retriever)
            self._retrievers[key] = None if live is None else RemoteRetriever(live, self._thread)
            if live is not None and live.note:
                sys.stderr.write(f"{clean(live.note)}\n")
        student = load_student(run.db, served.id, run.adapters, run.options.settings.decoding.endpoint)
        if self._adapter_bytes is not None:
            student.base.adapters.limit = self._adapter_bytes
        self._loaded[served.id] = LoadedStudent(
            student,
            run.task,
            served.method,
            run.options.settings.decoding,
            self._retrievers[key] if reads else None,
        )
        return self._loaded[served.id]


def _names(listed: Sequence[ServedStudent]) -> dict[str, ServedStudent]:
    """Return the students, newest first, by id, by kind and, where they are of one task, by `size/method`."""
    names: dict[str, ServedStudent] = {student.id: student for student in listed}
    single = len({student.task for student in listed}) == 1
    for student in listed:
        names.setdefault(student.kind, student)
        if single:
            names.setdefault(student.kind.partition("/")[2], student)
    return names


def _read(hits: Sequence[RankedHit]) -> tuple[dict[str, object], ...]:
    """Return the passages that are read; a score is the reranker's where there is one, else BM25's."""
    return tuple(
        {**asdict(h.hit.passage), "rank": h.place, "score": h.hit.bm25 if h.score is None else h.score}
        for h in hits
        if h.read
    )


def _continued(sample: Sample, stops: Sequence[str]) -> Text:
    """Return what was written, up to the first stop in it."""
    found = [at for at in map(sample.text.find, stops) if at >= 0]
    text = sample.text[: min(found)] if found else sample.text
    ended = bool(found) or sample.forced is None
    return Text(text, "", "", sample.prompt_tokens, sample.completion_tokens, ended)


def _reply(reply: StudentReply, retriever: str) -> Reply:
    texts = tuple(
        Text(
            text.sample.text.strip(),
            text.rationale,
            text.answer,
            text.sample.prompt_tokens,
            text.sample.completion_tokens,
            forced=text.sample.forced,
        )
        for text in reply.texts
    )
    return Reply(texts, reply.answer, reply.letter, dict(reply.votes), _read(reply.hits), retriever)
