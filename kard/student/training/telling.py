"""Bases that are told texts: of random weights, which know nothing at first, or of any base model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kard.config import StudentTraining, require
from kard.files import atomic
from kard.models import bases
from kard.models.bases import Base
from kard.models.weights import no_progress_bars
from kard.progress import SILENT, Progress
from kard.student.tokens import Tokens
from kard.student.training.checkpoint import Checkpoint
from kard.student.training.loss import Example
from kard.student.training.train import fit, prepare_model

HEAD_WIDTH = 32  # of an attention head
MAX_LENGTH = 1024  # tokens of a prompt and its target
WORDS = 1024  # of the vocabulary of a random base
LEARNED_FROM = 4_000  # texts that its vocabulary is learned from
TOLD = "told.json"  # in a base's folder: texts, tokens and the last loss
SPECIAL = ("<s>", "</s>", "<pad>")  # a tokenizer's first words: start, end, padding


def random_base(folder: Path, texts: Iterable[str], *, width: int, layers: int, seed: int) -> Base:
    """Return a base of random weights, whose tokenizer is learned from the first texts; an existing one stays."""
    if not folder.exists():
        with torch.random.fork_rng(), no_progress_bars(), atomic(folder, folder=True) as part:
            torch.manual_seed(seed)
            tokenizer = _tokenizer_of(islice(texts, LEARNED_FROM))
            _random_model(len(tokenizer), width, layers).save_pretrained(part)
            tokenizer.save_pretrained(part)
    return bases.resolve(str(folder))


def count_parameters(width: int, layers: int) -> int:
    """Return the number of weights of a random base with a full vocabulary."""
    with torch.device("meta"):
        return _random_model(WORDS, width, layers).num_parameters()


def tell(
    base: Base,
    folder: Path,
    texts: Iterable[str],
    budget: int,
    settings: StudentTraining,
    progress: Progress = SILENT,
) -> tuple[Base, int]:
    """Return the base after it was told as many texts as `budget` tokens hold, each once, and their tokens.

    It is written to the folder; an existing one stays as it is, and a killed training continues. Raises BadConfig
    for a budget without a text.
    """
    if not folder.exists():
        tokens = Tokens.load(base.folder, decoder=True)
        examples: list[Example] = []
        for key, text in enumerate(texts):
            first, *rest = tokens.ids(text)[: settings.max_length - 1]
            example = Example(key, [first], [*rest, tokens.eos])
            budget -= len(example)
            if budget < 0:
                break
            examples.append(example)
        require(bool(examples), "the tokens hold no text; raise --tokens")
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            model, loss = prepare_model(base, tokens, settings)
            checkpoint = Checkpoint(folder.with_name(f".{folder.name}.checkpoint"))
            with progress.bar(f"tell {folder.name}", len(examples)) as advance:
                trained = fit(model, loss, [examples], settings, advance, checkpoint=checkpoint)
        with no_progress_bars(), atomic(folder, folder=True) as part:
            shutil.copytree(base.folder, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors*"))
            model.save_pretrained(part)  # pyright: ignore[reportCallIssue]  # a transformers model, typed as any
            told = {"texts": len(examples), "tokens": trained.tokens, "loss": trained.loss}
            (part / TOLD).write_text(json.dumps(told), encoding="utf-8")
        checkpoint.discard()
    return bases.resolve(str(folder)), json.loads((folder / TOLD).read_text(encoding="utf-8"))["tokens"]


def _tokenizer_of(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of `WORDS` words, learned from the texts."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    start, end, pad = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=start, eos_token=end, pad_token=pad)


def _random_model(words: int, width: int, layers: int) -> LlamaForCausalLM:
    start, end, pad = range(len(SPECIAL))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=8 * width // 3 // HEAD_WIDTH * HEAD_WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD_WIDTH,
            num_key_value_heads=width // HEAD_WIDTH,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )
