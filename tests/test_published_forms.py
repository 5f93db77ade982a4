"""From files in their published form to a report: T5 students and rerankers like LinkBERT's, random weights."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kard import tasks
from kard.cli import main
from kard.db import open_store
from kard.models import bases
from kard.records import LETTERS

PLANTS = {"Fernal": "roots", "Mossic": "leaves", "Pinola": "bark", "Reedon": "seeds", "Thistor": "petals"}
PARTS = tuple(PLANTS.values())
TEXTS = {plant: f"The medicine of {plant} is made of its {part}." for plant, part in PLANTS.items()}
WORDS = sorted({word.strip(".").lower() for text in TEXTS.values() for word in text.split()} | {"which", "part"})
TESTED = ("Reedon", "Thistor")  # the others are trained on
RETRIEVERS = "bm25,reranker,silver"
QUICK = (
    "--size", "250m", "--epochs", "1", "--kappa", "4", "-k", "2", "--set", "student.batch=4",
    "--set", "reranker.batch=4", "--set", "reranker.candidates=4", "--set", "decoding.max_new_tokens=6",
)  # fmt: skip
Row = Mapping[str, Any]


def medqa_row(plant: str) -> Row:
    options = dict(zip("ABCD", choices(plant), strict=True))
    answer = next(letter for letter, part in options.items() if part == PLANTS[plant])
    question = f"A 30-year-old woman takes {plant}. Of which part is it made?"
    return {
        "question": question, "answer": PLANTS[plant], "options": options, "meta_info": "step1",
        "answer_idx": answer, "metamap_phrases": ["woman", plant],
    }  # fmt: skip


def openbookqa_row(plant: str) -> Row:
    options = [{"text": part, "label": letter} for letter, part in zip("ABCD", choices(plant), strict=True)]
    answer = next(option["label"] for option in options if option["text"] == PLANTS[plant])
    stem = f"The medicine of {plant} is made of its"
    return {"id": f"9-{plant}", "question": {"stem": stem, "choices": options}, "answerKey": answer}


def choices(plant: str) -> Sequence[str]:
    """Return the right part among three others, in a fixed order."""
    others = [part for part in PARTS if part != PLANTS[plant]]
    return sorted([PLANTS[plant], *others[:3]])


# A task, the base of its reranker, its student, and how its rows look.
CASES = {
    "medqa": ("biolinkbert", "michiyasunaga/BioLinkBERT-base", medqa_row),
    "openbookqa": ("linkbert", "michiyasunaga/LinkBERT-base", openbookqa_row),
}


def write_t5(folder: Path) -> Path:
    """Write a random T5 of a few thousand weights, whose tokenizer ends each text."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]  # no setter in stubs
    raw.decoder = decoders.ByteLevel()  # type: ignore[assignment]  # as above
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([*TEXTS.values(), "Question: Options: Rationale: Answer:"], trainer)
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])  # type: ignore[assignment]  # as above
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=raw.get_vocab_size(), d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2,
            pad_token_id=0, eos_token_id=1, initializer_factor=3.0,
        )  # fmt: skip
        config.decoder_start_token_id = 0  # pyright: ignore[reportAttributeAccessIssue]  # an extra field of every config
        T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def kard(folder: Path, *words: str) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db")])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("name", CASES)
def test_a_student_is_made_from_published_files_and_asked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_encoder: Callable[..., Path]
) -> None:
    encoder, hub_id, row_of = CASES[name]
    hub = {hub_id: write_encoder(tmp_path / "bert", words=WORDS), "google/flan-t5-base": write_t5(tmp_path / "t5")}
    monkeypatch.setattr(bases, "fetch_hub", hub.__getitem__)  # what a person would fetch from the model hub
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    parse, rationales = tasks.load(name).parse, list[str]()
    for split in ("train", "test"):
        rows = [row_of(plant) for plant in PLANTS if (plant in TESTED) == (split == "test")]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        kard(tmp_path, "load", name, str(tmp_path / f"{split}.jsonl"), "--split", split, "--quiet")
    for plant in PLANTS:
        question = parse(row_of(plant))
        assert question is not None
        text = f"{TEXTS[plant]} Therefore, the answer is ({question.answer}) {question.gold}."
        rationales.append(
            json.dumps({"question_id": question.key, "sample": 0, "rationale": text, "model": "guide"})
        )
    (tmp_path / "rationales.jsonl").write_text("\n".join(rationales), encoding="utf-8")
    kard(tmp_path, "load", name, "--rationales", str(tmp_path / "rationales.jsonl"))
    (tmp_path / "docs").mkdir()
    for plant, text in TEXTS.items():
        (tmp_path / "docs" / f"{plant}.md").write_text(f"# {plant}\n\n{text}\n", encoding="utf-8")
    kard(tmp_path, "index", str(tmp_path / "docs"), "--quiet")

    run = (
        "run",
        name,
        "--method",
        "ft,kard,named",
        "--retriever",
        RETRIEVERS,
        "--encoder",
        encoder,
        *QUICK,
        "--quiet",
    )
    first = kard(tmp_path, *run).output
    assert "reranker +1" in first
    assert "student +3" in first
    assert f"answer +{2 * (1 + 3 + 3)}" in first  # ft without passages, kard and named with three retrievers
    assert "nothing was missing" in kard(tmp_path, *run).output
    lines = json.loads(kard(tmp_path, "report", name, "--json").output)["accuracy"]
    assert [(line["size"], line["method"], line["retriever"], line["questions"]) for line in lines[2:]] == [
        *(("-", "named", retriever, 2) for retriever in RETRIEVERS.split(",")),
        ("250m", "ft", "none", 2),
        *(("250m", "kard", retriever, 2) for retriever in RETRIEVERS.split(",")),
    ]
    rules = [line["right"] for line in lines if line["method"] == "named"]
    assert rules[-1] == 2  # a rationale finds the passage that names the answer
    db = open_store(tmp_path / "kard.db")
    used = {row[0] for row in db.execute("select base from rerankers union select base from students")}
    assert used == {*hub, ""}
    db.close()

    question = parse(row_of("Thistor"))
    assert question is not None
    options = [word for option in question.options for word in ("--option", option)]
    reply = json.loads(kard(tmp_path, "ask", question.text, *options, "--task", name, "--json").output)
    assert (reply["retriever"], reply["student"]["method"]) == ("reranker", "kard")
    assert reply["answer"] in question.options
    assert len(reply["passages"]) >= 1

    exported_rows_hold_ids_and_letters_alone(tmp_path, name)


def exported_rows_hold_ids_and_letters_alone(folder: Path, name: str) -> None:
    """Check that no text of questions, options, passages, rationales or students leaves the store."""
    db = open_store(folder / "kard.db")
    stored = {"questions": ("text",), "passages": ("title", "text"), "rationales": ("text",), "samples": ("text",)}
    columns = [f"select {name} from {table}" for table, names in stored.items() for name in names]
    texts = {str(text) for sql in columns for (text,) in db.execute(sql) if len(text) > 1} | set(PARTS)
    keys = {str(key) for (key,) in db.execute("select key from questions")}
    db.close()
    exported = {
        "answers": "evaluation_id size method seed retriever k kind key options gold answer correct votes"
        " prompt_tokens completion_tokens forced f1 variant",
        "hits": "key gold teacher accept rationale_form index_id documents form max_df retriever rank depth"
        " needed held",
    }
    for what, names in exported.items():
        file = folder / f"{what}.jsonl.gz"
        kard(folder, "export", name, str(file), f"--{what}")
        rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
        assert rows
        for row in rows:
            assert set(row) == set(names.split())
            assert row.pop("key") in keys
            if what == "answers":
                assert {row["gold"], row["answer"]} <= {*LETTERS, None}
            values = [str(value) for value in row.values()]
            assert not [text for text in texts if any(text in value for value in values)]
