"""Small bases from nothing: a tokenizer, Llama's layers at random, and texts to learn to read from.

For benchmarks that need students of a known size which knew nothing before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from shutil import rmtree

# No hub is asked for anything, also not what a folder on this machine may be.
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
from kard.student.training.train import fit, prepared

HEAD = 32  # states of an attention head
ROOM = 1024  # tokens of a prompt and its target
READ = "read.json"  # in a base's folder: texts, tokens and the last loss
SPECIAL = ("<s>", "</s>", "<pad>")  # a tokenizer's first words: start, end, padding


def tokenizer_of(texts: Iterable[str], words: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with so many words, learned from the texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    start, end, pad = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=start, eos_token=end, pad_token=pad)


def write_base(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    *,
    width: int,
    layers: int,
    settings: StudentTraining,
) -> None:
    """A base of this width and depth that has gone through the texts as `settings` say; one that is there stays.

    What it took lies beside it, as `READ`. A killed one goes on where it was.
    """
    if folder.exists():
        return
    blank = folder.with_name(f".{folder.name}.blank")
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        _blank(tokenizer, width, layers).save_pretrained(blank)
        tokenizer.save_pretrained(blank)
        base = bases.resolve(str(blank))
        tokens = Tokens.load(blank, decoder=True)
        examples = [_whole(tokens, key, text) for key, text in enumerate(texts)]
        model, loss = prepared(base, tokens, settings)
        saved = Checkpoint(folder.with_name(f".{folder.name}.checkpoint"))
        trained = fit(model, loss, [examples] * settings.epochs, settings, lambda _: None, saved=saved)
    with atomic(folder, folder=True) as part:
        model.save_pretrained(part)  # pyright: ignore[reportCallIssue]  # a transformers model, typed as any
        tokenizer.save_pretrained(part)
        read = {"texts": len(examples), "tokens": trained.tokens, "loss": trained.loss}
        (part / READ).write_text(json.dumps(read), encoding="utf-8")
    saved.discard()
    rmtree(blank)


def _blank(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlamaForCausalLM:
    start, end, pad = range(len(SPECIAL))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=8 * width // 3 // HEAD * HEAD,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD,
            num_key_value_heads=width // HEAD,
            max_position_embeddings=ROOM,
            tie_word_embeddings=True,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )


def _whole(tokens: Tokens, key: int, text: str) -> Example:
    """All of the text is learned, from its first token on."""
    first, *rest = tokens.ids(text)
    return Example(key, [first], [*rest, tokens.eos])
