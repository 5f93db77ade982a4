"""A tiny random base and students with random adapters, for the tests of who generates for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from kard.config import Lora, StudentTraining
from kard.db import open_store
from kard.files import adapters_folder
from kard.models import bases
from kard.models.adapters import write_adapter
from kard.records import canonical
from kard.student.records import StudentRow, store_student

SETTINGS = StudentTraining(lora=Lora(rank=2, alpha=4), max_length=160, max_target=12, k=1)


def make_base(folder: Path) -> bases.Base:
    """Save a random decoder of a few thousand weights with a tokenizer of bytes, as a base."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]  # the stubs know no setter
    raw.decoder = decoders.ByteLevel()  # type: ignore[assignment]  # as above
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator(["Question: Options: Rationale: Answer: the town " * 3], trainer)
    torch.manual_seed(3)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=1,
            initializer_range=0.3,
        )
    ).save_pretrained(folder)  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    return bases.resolve(str(folder))


def add_student(store: Path, base: bases.Base, seed: int, method: str = "kard") -> str:
    """Write a student with a random adapter, which answers in its own way, into the store; return its id."""
    from peft import LoraConfig

    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            inner = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{inner}.lora_A.weight"] = torch.randn(2, 32, generator=generator)
            weights[f"{inner}.lora_B.weight"] = torch.randn(32 if name == "q_proj" else 16, 2, generator=generator)
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"], base_model_name_or_path=base.spec)
    name = f"{method}{seed}{'0' * 16}"[:16]
    sha256 = write_adapter(adapters_folder(store) / name, weights, config)
    db = open_store(store)
    settings = canonical(replace(SETTINGS, seed=seed).values())
    store_student(
        db,
        StudentRow(
            id=name, task="choice", method=method, size="135m", base=base.spec, base_sha256=base.sha256,
            settings=settings, data_sha256="", seed=seed, examples=1, path=name, sha256=sha256, target_tokens=12,
        ),
    )  # fmt: skip
    db.close()
    return name
