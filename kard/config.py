"""Settings: frozen dataclasses with every default and its unit; `paper()` gives those of arXiv 2305.18395.

A value out of its range raises BadConfig.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from kard.errors import BadConfig
from kard.records import canonical, digest

SILVER_DEPTH = 3  # first passages of a rationale that count as needed; as many as in the view rationale_passages
LEAST_SEEDS = 3  # below which the spread of trainings is not estimated
CUTOFFS = (1, 3, 5, 10)  # k of the paper's Hits@k
MAX_TARGET = 256  # tokens of a target, unless settings say otherwise: a quarter of StudentTraining.max_length
PROMPTED_TOKENS = 128  # that a base without training may write
MIN_TOKENS = 96  # that a student may write: an answer may be longer than all that were taught


def require(condition: bool, message: str) -> None:
    """Raise BadConfig with `message` unless the condition holds."""
    if not condition:
        raise BadConfig(message)


class Settings:
    """Base of all settings: values for the store, and their hash."""

    def values(self) -> dict[str, object]:
        """Return field names and values, as the store keeps them."""
        return asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass

    def hash(self) -> str:
        """Return the hash of the values. Equal settings have equal hashes on every machine."""
        return digest(canonical(self.values()))


QueryForm = Literal["question", "question+options", "options"]
RationaleForm = Literal["rationale", "question+rationale"]


@dataclass(frozen=True, slots=True)
class Retrieval(Settings):
    """How passages are found (sections 3.2 and 3.3)."""

    kappa: int = 100  # passages per question that BM25 finds and the reranker orders
    k: int = 3  # passages that a student reads, in training and when it answers
    depth: int = 32  # passages per query when grounding: the rationale's first ones and the question's first ones
    query: QueryForm = "question"  # what is searched with; `options`: a query an option, best score of each passage
    rationale_query: RationaleForm = "rationale"  # what a rationale is grounded with; or the question before it
    max_df: float = 0.05  # share of passages; query terms that occur in more of them are dropped
    # Dropping them costs .072 nDCG@10 by question among 38,119 passages of textbooks, .018 among 44,048 sentences;
    # among 306,549 passages of Wikipedia it gains .005 and is four times faster (benchmarks/query_forms.py).
    max_df_from: int = 100_000  # passages; smaller knowledge bases keep every query term
    encoder: str = ""  # base for dense search; `reranker`: the trained one; '': the task's encoder, untrained

    def __post_init__(self) -> None:
        require(self.kappa >= 1, f"kappa must be at least 1, not {self.kappa}")
        require(1 <= self.k <= self.kappa, f"k must be between 1 and kappa={self.kappa}, not {self.k}")
        require(self.depth >= 1, f"depth must be at least 1, not {self.depth}")
        require(0 < self.max_df <= 1, f"max_df must be in (0, 1], not {self.max_df}")
        require(self.max_df_from >= 0, f"max_df_from must not be negative, not {self.max_df_from}")
        for name, choices in (("query", get_args(QueryForm)), ("rationale_query", get_args(RationaleForm))):
            value = getattr(self, name)
            require(value in choices, f"{name} must be one of {', '.join(choices)}, not {value}")

    def max_df_among(self, passages: int) -> float:
        """Return the share of passages above which terms are dropped in a knowledge base of this size."""
        return self.max_df if passages >= self.max_df_from else 1.0

    @property
    def forms(self) -> dict[str, object]:
        """Return the parameters :form, :rationale_form, :max_df and :max_df_from of a named query."""
        forms = {"form": self.query, "rationale_form": self.rationale_query}
        return {**forms, "max_df": self.max_df, "max_df_from": self.max_df_from}


Accept = Literal["own", "verified", "both", "none"]
READERS = ("verified", "both")  # rules that ask for the verdict of readers


@dataclass(frozen=True, slots=True)
class Teaching(Settings):
    """How the teacher is called, and which of its rationales train (section 3.1)."""

    samples: int = 5  # rationales per question
    temperature: float = 1.0  # of sampling
    max_tokens: int = 512  # tokens of a rationale, at most
    k: int = 0  # passages that the teacher reads, found with the question and its answer; 0: it explains by heart
    workers: int = 8  # concurrent requests
    accept: Accept = "own"  # whose verdict must be right: its own, `verified`: its readers', both, `none`: any
    fraction: float = 1.0  # share of the training questions, drawn by the seed; those of .1 are among those of .3

    def __post_init__(self) -> None:
        for name, least in {"samples": 1, "temperature": 0, "max_tokens": 1, "workers": 1, "k": 0}.items():
            require(getattr(self, name) >= least, f"{name} must be at least {least}, not {getattr(self, name)}")
        require(self.accept in get_args(Accept), f"accept must be own, verified, both or none, not {self.accept}")
        require(0 < self.fraction <= 1, f"fraction must be in (0, 1], not {self.fraction}")


@dataclass(frozen=True, slots=True)
class Lora(Settings):
    """Low-rank adapters, as peft defines them."""

    rank: int = 16  # inner dimension of an adapter's two matrices
    alpha: int = 32  # an adapter's output is multiplied by alpha / rank
    dropout: float = 0.0  # share of an adapter's inputs that is zero in training
    targets: str = "all-linear"  # the layers with adapters: all linear ones, or names: q_proj,v_proj
    rslora: bool = False  # multiply by alpha / sqrt(rank) instead of alpha / rank
    dora: bool = False  # train the length of a weight's rows separately from their direction (DoRA)

    def __post_init__(self) -> None:
        require(self.targets.strip(" ,") != "", "targets must name linear layers, or be all-linear")
        require(self.rank >= 1, f"rank must be at least 1, not {self.rank}")
        require(self.alpha >= 1, f"alpha must be at least 1, not {self.alpha}")
        require(0 <= self.dropout < 1, f"dropout must be in [0, 1), not {self.dropout}")


Scorer = Literal["pooled", "maxsim", "cross"]
Loss = Literal["kl", "ce", "infonce", "mix"]
Side = Literal["question", "both"]


@dataclass(frozen=True, slots=True)
class RerankerTraining(Settings):
    """How the reranker is trained (section 3.3).

    By default only the encoder of questions is trained. Passages are encoded by the untrained base, once for all
    trainings and rankings. A step then costs so little that it compares a question with all of its candidates.
    """

    side: Side = "question"  # which encoder is trained: that of questions, or `both` (the paper)
    scorer: Scorer = "pooled"  # cosine of mean vectors; `maxsim`: the paper's; `cross`: reads both texts together
    loss: Loss = "kl"  # the paper's; `ce`, `infonce`: the rationales' best passage; `mix`: theirs and BM25's best
    lora: Lora = Lora(rank=16, alpha=32)  # dropout copies every layer's input: 1.3 times the time, 1.6 the memory
    upper_half: bool = False  # adapters in the upper half of the layers: with side=both, two fifths of the time
    full: bool = False  # train every weight instead of adapters
    projection: bool = False  # train a map of token vectors too, the identity at first (`pooled`, `maxsim`)
    epochs: int = 2  # passes over the questions; 0 leaves the encoder untrained, as a control
    batch: int = 16  # questions per step
    peak_lr: float = 5e-4  # reached after 5% of the steps, then linear to 0
    pool: int = 24  # candidates per question: this many by its rationales and this many by the question
    candidates: int = 64  # candidates per question and step, drawn from the pool anew each epoch
    from_rationale: float = 0.5  # share of these that a rationale found; the question found the others
    rationales: int = 5  # per question and epoch, their distributions averaged; the next epoch takes the next ones
    mix: float = 0.7  # weight of the rationales in the loss `mix`; the question's own ranking has the rest
    tau_teacher: float = 5.0  # temperature: divides BM25(rationale, passage)
    tau_student: float = 0.1  # temperature: divides the score; 1 suits `cross`; 0.05 blurs an untrained encoder
    anneal: float = 1.0  # both temperatures fall to this share of themselves by the last step
    held_out: float = 0.1  # share of questions, at most 100, for Hits@k alone; none where there are fewer than 20
    patience: int = 0  # epochs without a better held-out Hits@k before training ends; 0: train to the end
    max_length: int = 256  # tokens of a passage; for `cross`, of question and passage together
    seed: int = 0  # of every random draw

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must not be negative, not {self.seed}")
        for name, choices in (("side", get_args(Side)), ("scorer", get_args(Scorer)), ("loss", get_args(Loss))):
            value = getattr(self, name)
            require(value in choices, f"{name} must be one of {', '.join(choices)}, not {value}")
        require(
            self.side == "both" or self.scorer == "pooled",
            f"{self.scorer} reads passages while it learns: set side=both, and candidates=8 for a start",
        )
        require(self.epochs >= 0, f"epochs must not be negative, not {self.epochs}")
        require(self.batch >= 1, f"batch must be at least 1, not {self.batch}")
        require(self.pool >= 1, f"pool must be at least 1, not {self.pool}")
        require(self.candidates >= 2, f"candidates must be at least 2, not {self.candidates}")
        require(self.rationales >= 1, f"rationales must be at least 1, not {self.rationales}")
        require(self.patience >= 0, f"patience must not be negative, not {self.patience}")
        require(self.peak_lr > 0, f"peak_lr must be positive, not {self.peak_lr}")
        for name in ("from_rationale", "mix"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be in [0, 1], not {getattr(self, name)}")
        require(0 <= self.held_out < 1, f"held_out must be in [0, 1), not {self.held_out}")
        require(0 < self.anneal <= 1, f"anneal must be in (0, 1], not {self.anneal}")
        require(
            self.tau_teacher > 0 and self.tau_student > 0,
            f"temperatures must be positive, not {self.tau_teacher} and {self.tau_student}",
        )
        require(
            not (self.projection and self.scorer == "cross"),
            "a projection maps token vectors, which the scorer cross has none of; use pooled or maxsim",
        )

    @classmethod
    def paper(cls) -> RerankerTraining:
        """Return the authors' loss, scorer, layers, rate, epochs, candidates, teacher's temperature and length.

        The paper divides sums of dot products by 100; a cosine divided by 100 would not learn. The paper's
        projection starts at random, ours as the identity, so that a good encoder stays good.
        """
        return cls(
            side="both",
            scorer="maxsim",
            loss="kl",
            lora=Lora(rank=16, alpha=32, dropout=0.1, targets="query,value"),
            upper_half=False,
            projection=True,
            epochs=3,
            peak_lr=1e-4,
            pool=32,
            candidates=8,
            rationales=1,
            tau_teacher=1.0,
            tau_student=0.15,
            held_out=0.05,
            max_length=512,
        )


TrainingPassages = Literal["silver", "bm25", "shuffled", "dense", "hybrid", "reranker", "fused"]


@dataclass(frozen=True, slots=True)
class StudentTraining(Settings):
    """How a student is trained (section 3.2)."""

    lora: Lora = Lora()
    epochs: int = 3  # passes over the questions
    batch: int = 8  # examples per step
    peak_lr: float = 1e-3  # reached after 5% of the steps, then linear to 0
    rationales: int = 1  # rationales per question and epoch; the next epoch takes the next ones
    k: int = 0  # silver passages in a training prompt; 0: as many as it answers with (`retrieval.k`)
    shuffle: bool = False  # put them in random order: a student that always finds the best first reads no further
    full: bool = False  # train the base's own weights instead of adapters; smaller steps: 3e-4 for 135M
    upper_half: bool = True  # train only a known decoder's upper half; its lower half runs once per example
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the base; adapters are float32
    recompute: bool = False  # recompute activations in the backward pass: less memory, more time
    pass_tokens: int = 16_384  # padded tokens per forward pass; a larger step is several passes, gradients summed
    held_out: float = 0.0  # share of questions that only measure the loss; the best epoch's weights are kept
    patience: int = 1  # epochs without a better loss on them before training ends
    max_length: int = 1024  # tokens; a prompt of more than three quarters of it loses passage text from the end
    max_target: int = 0  # tokens; longer targets are taught only if a question has no other; 0: the budget or 256
    answer: Literal["text", "letter"] = "text"  # what follows `Answer:`: the option's text or its letter
    distinct: int = 0  # different rationales a question, its shortest ones, that are taught at all; 0: every one
    wrong: float = 0.0  # share of the rationales in whose place another question's is taught, as a control
    passages: TrainingPassages = "silver"  # the rationale's; `shuffled`: another's; else as a retriever finds them
    answer_alone: bool = False  # in each epoch teach every answer a second time, without a rationale
    own: int = 0  # texts of an earlier student on each question without a rationale; right ones are learned
    seed: int = 0  # of every random draw

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "rationales", "pass_tokens", "patience"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "k", "max_target", "distinct", "own"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")
        require(self.peak_lr > 0, f"peak_lr must be positive, not {self.peak_lr}")
        require(self.max_length >= 32, f"max_length must be at least 32, not {self.max_length}")
        require(
            self.precision in ("auto", "float32", "bfloat16", "float16"),
            f"precision must be auto, float32, bfloat16 or float16, not {self.precision}",
        )
        require(
            not self.full or self.precision in ("auto", "float32"),
            f"with full=true the base's own weights are trained, in float32 and not in {self.precision}",
        )
        require(0 <= self.held_out < 1, f"held_out must be in [0, 1), not {self.held_out}")
        require(self.answer in ("text", "letter"), f"answer must be text or letter, not {self.answer}")
        require(0 <= self.wrong <= 1, f"wrong must be in [0, 1], not {self.wrong}")
        passages = get_args(TrainingPassages)
        require(self.passages in passages, f"passages must be one of {', '.join(passages)}, not {self.passages}")

    def values(self) -> dict[str, object]:
        """Return field names and values without `pass_tokens` and `recompute`, which change rounding alone.

        Controls are there only where they are set: a new one changes no student's id.
        """
        plain, controls = StudentTraining(), ("distinct", "wrong", "passages", "answer_alone", "own")
        left_out = {"pass_tokens", "recompute", *(n for n in controls if getattr(self, n) == getattr(plain, n))}
        return {n: v for n, v in asdict(self).items() if n not in left_out}

    @classmethod
    def paper(cls) -> StudentTraining:
        """Return the authors' full fine-tuning: rate, epochs, batch size, rationales, passages and target."""
        return cls(
            full=True,
            upper_half=False,
            peak_lr=1e-4,
            epochs=3,
            batch=32,
            rationales=5,
            k=1,
            max_length=512,
            answer="letter",
        )


Decide = Literal["written", "likelihood"]
_ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?(/[\w./~-]*)?")


@dataclass(frozen=True, slots=True)
class Decoding(Settings):
    """How answers are generated (section 3.4)."""

    samples: int = 1  # texts per question: 1 is greedy; several are sampled, and the majority is the answer
    temperature: float = 1.0  # of sampling; unused with one sample
    top_p: float = 0.95  # probability mass of the tokens that are sampled from; unused with one sample
    max_new_tokens: int = 0  # then an answer is forced; 0: the longest target that it was taught, 96 to 256
    batch: int = 64  # prompts per forward pass, at most; fewer where they are long
    decide: Decide = "written"  # the answer that is read, or the likeliest option after the rationale
    endpoint: str = ""  # address of a server that generates, like http://localhost:8000/v1; '': kard does

    def __post_init__(self) -> None:
        require(self.decide in get_args(Decide), f"decide must be written or likelihood, not {self.decide}")
        require(self.samples >= 1, f"samples must be at least 1, not {self.samples}")
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], not {self.top_p}")
        require(self.max_new_tokens >= 0, f"max_new_tokens must not be negative, not {self.max_new_tokens}")
        require(self.batch >= 1, f"batch must be at least 1, not {self.batch}")
        address = _ADDRESS.fullmatch(self.endpoint or "http://localhost")
        require(
            address is not None and int(address["port"] or 0) < 65536,
            "endpoint must be an address like http://localhost:8000/v1, without a user or a query; a key goes into "
            "the variable KARD_ENDPOINT_KEY",
        )

    def values(self) -> dict[str, object]:
        """Return field names and values; of an endpoint only that there is one: its address decides nothing."""
        values = asdict(self)
        remote = values.pop("endpoint")
        return {**values, "engine": "endpoint"} if remote else values

    def budgeted(self, longest: int, max_target: int) -> Decoding:
        """Return the same with its number of tokens for a student whose longest target has `longest` of them.

        A rationale beyond `max_target` gives no further room. A base that is only prompted has no target: 0.
        """
        if self.max_new_tokens:
            return self
        taught = max(min(longest, max_target or longest), MIN_TOKENS)
        return replace(self, max_new_tokens=taught if longest else PROMPTED_TOKENS)


@dataclass(frozen=True, slots=True)
class Prompting(Settings):
    """How a base model without adapter is prompted (the paper's in-context rows, section 4.1)."""

    shots: int = 3  # worked examples in the prompt: training questions with an accepted rationale
    k: int = 1  # silver passages per example, where the method reads passages
    max_length: int = 2048  # tokens of prompt and answer; examples that do not fit are left out
    seed: int = 0  # of the choice of examples

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must not be negative, not {self.seed}")
        require(self.shots >= 1, f"shots must be at least 1, not {self.shots}")
        require(self.k >= 1, f"k must be at least 1, not {self.k}")
        require(self.max_length >= 128, f"max_length must be at least 128, not {self.max_length}")


EVALUATION_SPLITS = ("test", "dev", "validation", "valid")  # the first of these that a task has is answered


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """All settings of a run. A task declares its own; the command line overrides them."""

    retrieval: Retrieval = Retrieval()
    teaching: Teaching = Teaching()
    reranker: RerankerTraining = RerankerTraining()
    student: StudentTraining = StudentTraining()
    prompting: Prompting = Prompting()
    decoding: Decoding = Decoding()

    @classmethod
    def paper(cls) -> TaskSettings:
        """Return the settings of the paper's experiments; docs/paper.md says item by item what departs."""
        return cls(
            retrieval=Retrieval(kappa=100, k=1, depth=32),
            teaching=Teaching(samples=5, temperature=1.0, accept="verified"),
            reranker=RerankerTraining.paper(),
            student=StudentTraining.paper(),
            decoding=Decoding(samples=5, temperature=1.0, top_p=0.95, max_new_tokens=1024),
        )

    @property
    def student_training(self) -> StudentTraining:
        """The student's settings as it is trained and stored: with the numbers that its zeros stand for."""
        student = self.student
        return replace(
            student,
            k=student.k or self.retrieval.k,
            max_target=student.max_target or self.decoding.max_new_tokens or MAX_TARGET,
        )

    def seeded(self, seed: int) -> TaskSettings:
        """Return the same settings with every seed set to `seed`."""
        return replace(
            self,
            reranker=replace(self.reranker, seed=seed),
            student=replace(self.student, seed=seed),
            prompting=replace(self.prompting, seed=seed),
        )
