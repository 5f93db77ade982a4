"""Settings: frozen dataclasses, each default written once with its unit, nonsense refused at birth.

`paper()` of each gives the values of KARD's own experiments (arXiv 2305.18395, section 4 and appendix).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from kard.errors import BadConfig
from kard.records import canonical, digest


def require(holds: bool, message: str) -> None:
    """Raise BadConfig with `message` unless the condition holds."""
    if not holds:
        raise BadConfig(message)


class Settings:
    """What every configuration can do: say its canonical form and the hash of it."""

    def values(self) -> dict[str, object]:
        """Field names and values, as kept in the store."""
        return asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass

    def hash(self) -> str:
        """A hash of the canonical form; equal settings have equal hashes on every machine."""
        return digest(canonical(self.values()))


@dataclass(frozen=True, slots=True)
class Retrieval(Settings):
    """BM25 and what is read of it (sections 3.2 and 3.3)."""

    kappa: int = 100  # candidates by BM25(question), then reranked
    k: int = 3  # passages that the student reads
    depth: int = 32  # candidates a query when grounding: top by rationale, top by question
    max_df: float = 0.05  # query terms in more than this share of passages are dropped
    encoder: str = ""  # of dense search: a base; `reranker` for the trained one; '' for the task's own, untrained

    def __post_init__(self) -> None:
        require(self.kappa >= 1, f"kappa must be at least 1, not {self.kappa}")
        require(1 <= self.k <= self.kappa, f"k must be between 1 and kappa={self.kappa}, not {self.k}")
        require(self.depth >= 1, f"depth must be at least 1, not {self.depth}")
        require(0 < self.max_df <= 1, f"max_df must be in (0, 1], not {self.max_df}")


@dataclass(frozen=True, slots=True)
class Teaching(Settings):
    """How the teacher is asked (section 3.1)."""

    samples: int = 5  # rationales a question
    temperature: float = 1.0
    max_tokens: int = 512  # of one rationale
    workers: int = 8  # concurrent requests

    def __post_init__(self) -> None:
        require(self.samples >= 1, f"samples must be at least 1, not {self.samples}")
        require(self.temperature >= 0, f"temperature must not be negative, not {self.temperature}")
        require(self.max_tokens >= 1, f"max_tokens must be at least 1, not {self.max_tokens}")
        require(self.workers >= 1, f"workers must be at least 1, not {self.workers}")


@dataclass(frozen=True, slots=True)
class Lora(Settings):
    """Low-rank adapters, as peft understands them."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str = "all-linear"  # or names of linear layers, comma-separated: q_proj,v_proj
    rslora: bool = False  # scale by alpha / sqrt(rank) instead of alpha / rank
    dora: bool = False  # learn the length of each weight's rows apart from their direction

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

    By default the encoder of questions learns, and passages are encoded by the base as it is: once for all
    trainings and rankings. A step then costs so little that it compares a question with all of its candidates.
    """

    side: Side = "question"  # what learns: the encoder of questions alone, or of `both` (the paper)
    scorer: Scorer = "pooled"  # mean-pooled cosine; `maxsim` is the paper's; `cross` reads both texts together
    loss: Loss = "kl"  # the paper's; `ce` and `infonce` want the rationale's best, `mix` the best with BM25's say
    lora: Lora = Lora(rank=16, alpha=32)  # dropout copies every layer's input: 1.3 times the time, 1.6 the memory
    upper_half: bool = False  # adapters in the upper half only: of `both` sides, two fifths of the time
    full: bool = False  # every weight is trained instead of adapters
    projection: bool = False  # a trained map over token vectors, the identity at first (`pooled`, `maxsim`)
    epochs: int = 2  # 0 keeps the encoder as it is: a control
    batch: int = 16  # questions a step
    peak_lr: float = 5e-4  # reached after 5% of the steps, then linear to 0
    pool: int = 24  # candidates of a question: so many by its rationales together, and so many by itself
    candidates: int = 64  # of these a step, drawn anew each epoch
    from_rationale: float = 0.5  # share of the candidates that the rationale found; the question found the rest
    rationales: int = 5  # a question and epoch, as the mean of their distributions; each epoch takes the next ones
    mix: float = 0.7  # the rationale's say in `mix`, beside the question's own ranking
    tau_teacher: float = 5.0  # divides BM25(rationale, passage)
    tau_student: float = 0.1  # divides the score; 1 suits `cross`; at 0.05 training blurs an untrained encoder
    anneal: float = 1.0  # share of themselves that both temperatures fall to by the last step
    held_out: float = 0.1  # share of the questions, at most 100, that Hits@k is measured on; none of fewer than 20
    patience: int = 0  # epochs without better held-out Hits@k that end it, the best kept; 0 trains to the end
    max_length: int = 256  # tokens of a passage, for `cross` of question and passage together
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("side", get_args(Side)), ("scorer", get_args(Scorer)), ("loss", get_args(Loss))):
            value = getattr(self, name)
            require(value in known, f"{name} must be one of {', '.join(known)}, not {value}")
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
        """The paper's loss, scorer, layers, dropout, rate, epochs, teacher's temperature and length.

        Its student's temperature, 100, divides sums of dot products; a cosine divided by 100 would not learn.
        Its projection begins at random, ours as the identity, so that a good encoder stays one.
        """
        return cls(
            side="both",
            scorer="maxsim",
            loss="kl",
            lora=Lora(rank=16, alpha=32, dropout=0.1),
            upper_half=False,
            projection=True,
            epochs=3,
            peak_lr=1e-4,
            pool=32,
            candidates=8,
            rationales=1,
            tau_teacher=1.0,
            tau_student=0.15,
            max_length=512,
        )


@dataclass(frozen=True, slots=True)
class StudentTraining(Settings):
    """How a student is trained (section 3.2)."""

    lora: Lora = Lora()
    epochs: int = 3
    batch: int = 8  # examples a step
    peak_lr: float = 1e-3  # reached after 5% of the steps, then linear to 0
    rationales: int = 1  # a question and epoch: each epoch takes the next ones
    k: int = 1  # silver passages that a training prompt holds
    shuffle: bool = False  # hold them in a random order: a student that saw the best one first reads no further
    full: bool = False  # weights themselves are trained instead of adapters, at smaller steps: 3e-4 for 135M
    upper_half: bool = True  # train the upper half only, over a lower half that runs once (decoders of known build)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the base; what is trained is float32
    recompute: bool = False  # a layer's inner states in the backward pass, for a fraction of the memory
    pass_tokens: int = 16_384  # padded, in one pass: a step of more is several passes whose gradients are summed
    held_out: float = 0.0  # share of the training questions that only measure; the best epoch's weights stay
    patience: int = 1  # epochs without a better loss on them before training ends
    max_length: int = 512  # tokens of prompt and target; longer prompts lose passage text from the end
    answer: Literal["text", "letter"] = "text"  # what stands after `Answer:`
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        require(self.batch >= 1, f"batch must be at least 1, not {self.batch}")
        require(self.peak_lr > 0, f"peak_lr must be positive, not {self.peak_lr}")
        require(self.rationales >= 1, f"rationales must be at least 1, not {self.rationales}")
        require(self.k >= 1, f"k must be at least 1, not {self.k}")
        require(self.max_length >= 32, f"max_length must be at least 32, not {self.max_length}")
        require(
            self.precision in ("auto", "float32", "bfloat16", "float16"),
            f"precision must be auto, float32, bfloat16 or float16, not {self.precision}",
        )
        require(
            not self.full or self.precision in ("auto", "float32"),
            f"with full=true the base's own weights are trained, in float32 and not in {self.precision}",
        )
        require(self.pass_tokens >= 1, f"pass_tokens must be at least 1, not {self.pass_tokens}")
        require(0 <= self.held_out < 1, f"held_out must be in [0, 1), not {self.held_out}")
        require(self.patience >= 1, f"patience must be at least 1, not {self.patience}")
        require(self.answer in ("text", "letter"), f"answer must be text or letter, not {self.answer}")

    def values(self) -> dict[str, object]:
        """All but `pass_tokens`, which changes rounding and the draws of dropout alone, and `full` where not set.

        So students from before these existed are still found.
        """
        values = asdict(self)
        del values["pass_tokens"]
        if not self.full:
            del values["full"]
        return values

    @classmethod
    def paper(cls) -> StudentTraining:
        """The paper's learning rate, epochs, batch and passages; LoRA stays."""
        return cls(peak_lr=1e-4, epochs=3, batch=32, k=1, rationales=5, upper_half=False)


@dataclass(frozen=True, slots=True)
class Decoding(Settings):
    """How answers are drawn (section 3.4)."""

    samples: int = 1  # 1 is greedy; more are sampled and voted on
    temperature: float = 1.0  # only when samples > 1
    top_p: float = 0.95
    max_new_tokens: int = 96  # of rationale and answer; then `Answer:` is forced
    batch: int = 64  # prompts a forward pass, fewer where they are long

    def __post_init__(self) -> None:
        require(self.samples >= 1, f"samples must be at least 1, not {self.samples}")
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], not {self.top_p}")
        require(self.max_new_tokens >= 1, f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        require(self.batch >= 1, f"batch must be at least 1, not {self.batch}")


@dataclass(frozen=True, slots=True)
class Prompting(Settings):
    """How a base model without adapter is asked (the paper's in-context rows, section 4.1)."""

    shots: int = 3  # worked examples: training questions with an accepted rationale
    k: int = 1  # silver passages of each, where the method reads
    max_length: int = 2048  # tokens of prompt and answer; examples that do not fit are left out
    seed: int = 0  # which training questions are shown

    def __post_init__(self) -> None:
        require(self.shots >= 1, f"shots must be at least 1, not {self.shots}")
        require(self.k >= 1, f"k must be at least 1, not {self.k}")
        require(self.max_length >= 128, f"max_length must be at least 128, not {self.max_length}")


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the paper's table: what the prompt holds and what the target holds (section 4.1).

    A method that is not `trained` asks the base model itself; with the retriever `none` it reads nothing.
    """

    name: str
    reads: bool  # passages stand in the prompt
    reasons: bool  # a rationale stands before the answer
    trained: bool = True  # an adapter learned it
    shots: bool = False  # worked examples stand in the prompt


METHODS: Mapping[str, Method] = {
    m.name: m
    for m in (
        Method("zero-shot", reads=True, reasons=False, trained=False),
        Method("few-shot", reads=True, reasons=False, trained=False, shots=True),
        Method("few-shot-cot", reads=True, reasons=True, trained=False, shots=True),
        Method("ft", reads=False, reasons=False),
        Method("ka-ft", reads=True, reasons=False),
        Method("rd", reads=False, reasons=True),
        Method("kard", reads=True, reasons=True),
    )
}

RETRIEVERS = ("none", "bm25", "reranker", "fused", "dense", "hybrid", "silver", "shuffled")
"""Where the passages of a prompt come from; `shuffled` gives each question another one's, as a control."""
RANKED = ("fused", "dense", "hybrid")  # BM25 with the reranker; nearest vectors; BM25 with nearest vectors
RERANKED = ("reranker", "fused", "shuffled")  # what rests on the reranker's scores


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """Everything that a task's runs are made with; a task declares its own, the command line overrides it."""

    retrieval: Retrieval = Retrieval()
    teaching: Teaching = Teaching()
    reranker: RerankerTraining = RerankerTraining()
    student: StudentTraining = StudentTraining()
    prompting: Prompting = Prompting()
    decoding: Decoding = Decoding()

    def seeded(self, seed: int) -> TaskSettings:
        """The same settings with every training seed set to `seed`."""
        return replace(
            self,
            reranker=replace(self.reranker, seed=seed),
            student=replace(self.student, seed=seed),
            prompting=replace(self.prompting, seed=seed),
        )
