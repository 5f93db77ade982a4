"""Small base models from scratch, for benchmarks with students of a known size that know nothing at first."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from shutil import rmtree

# Nothing is asked of a hub, not even what kind of model a folder holds.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kard.config import StudentTraining
from kard.files import atomic
from kard.models import bases
from kard.student.tokens import Tokens
from kard.student.training.checkpoint import Checkpoint
from kard.student.training.loss import Example
from kard.student.training.train import fit, prepare_model

HEAD_WIDTH = 32  # of an attention head
MAX_LENGTH = 1024  # tokens of a prompt and its target
READ = "read.json"  # in a base's folder: texts, tokens and the last loss
SPECIAL = ("<s>", "</s>", "<pad>")  # a tokenizer's first words: start, end, padding


def tokenizer_of(texts: Iterable[str], words: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with so many words, learned from the texts."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    start, end, pad = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=start, eos_token=end, pad_token=pad)


def write_base(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    *,
    width: int,
    layers: int,
    settings: StudentTraining,
) -> None:
    """Write a base of this width and depth that was trained on the texts; an existing folder stays as it is.

    The number of texts and tokens and the loss are written to its file `READ`. A killed training continues.
    """
    if folder.exists():
        return
    blank = folder.with_name(f".{folder.name}.blank")
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        _random_model(tokenizer, width, layers).save_pretrained(blank)
        tokenizer.save_pretrained(blank)
        base = bases.resolve(str(blank))
        tokens = Tokens.load(blank, decoder=True)
        examples = [_example(tokens, key, text) for key, text in enumerate(texts)]
        model, loss = prepare_model(base, tokens, settings)
        checkpoint = Checkpoint(folder.with_name(f".{folder.name}.checkpoint"))
        trained = fit(model, loss, [examples] * settings.epochs, settings, lambda _: None, checkpoint=checkpoint)
    with atomic(folder, folder=True) as part:
        model.save_pretrained(part)  # pyright: ignore[reportCallIssue]  # a transformers model, typed as any
        tokenizer.save_pretrained(part)
        read = {"texts": len(examples), "tokens": trained.tokens, "loss": trained.loss}
        (part / READ).write_text(json.dumps(read), encoding="utf-8")
    checkpoint.discard()
    rmtree(blank)


def _random_model(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlamaForCausalLM:
    start, end, pad = range(len(SPECIAL))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
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


def _example(tokens: Tokens, key: int, text: str) -> Example:
    """Return an example that learns all of the text, after its first token."""
    first, *rest = tokens.ids(text)
    return Example(key, [first], [*rest, tokens.eos])
