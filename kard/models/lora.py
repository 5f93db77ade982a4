"""Set up what is trained of a model: low-rank layers of peft, with a cheaper product, or weights themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from kard.config import Lora
from kard.errors import BadConfig, NoBase
from kard.models.adapters import PREFIX, WholeConfig

WARM_UP = 0.05  # of the steps


def adapt_language_model(model: Any, lora: Lora, *, spec: str, layers: Sequence[int] | None, decoder: bool) -> Any:
    """Return the model with a trainable adapter (float32) on its linear layers; everything else is frozen.

    `layers` are the numbers of a decoder's layers that get one, None for all. Raises BadConfig when no layer has a
    name in the settings.
    """
    names: list[str] | str = _target_names(lora) or lora.targets
    if lora.targets == "all-linear" and layers is not None:
        # peft: layers_to_transform needs the names, and knows `all-linear` only without it
        first = model.model.layers[layers[0]]
        names = sorted(
            {name.rpartition(".")[2] for name, part in first.named_modules() if isinstance(part, nn.Linear)}
        )
    try:
        adapt_language_model = _with_adapter(
            model,
            lora,
            names,
            layers_to_transform=None if layers is None else list(layers),
            task_type="CAUSAL_LM" if decoder else "SEQ_2_SEQ_LM",
        )
    except ValueError as error:
        raise _no_layer(spec, lora) from error
    for module in adapt_language_model.modules():
        plain = type(module) is LoraLinear and type(module.get_base_layer()) is nn.Linear
        if plain and not lora.dora:
            module.forward = partial(_forward, module)
    return adapt_language_model


def adapt_encoder(model: Any, lora: Lora, *, spec: str, upper_half: bool, new: Sequence[str] = ()) -> Any:
    """Return the encoder with a trainable adapter on its linear layers, or on those of `upper_half_names`.

    The modules in `new` are trained whole. Raises NoBase when there is no linear layer to adapt, BadConfig when
    none has a name in the settings.
    """
    names = [name for name in (upper_half_names if upper_half else linear_names)(model) if name not in new]
    if not names:
        raise NoBase(f"{spec} has no linear layers that LoRA could adapt; name another encoder")
    if targets := _target_names(lora):
        names = [name for name in names if name.rpartition(".")[2] in targets]
        if not names:
            raise _no_layer(spec, lora)
    return _with_adapter(model, lora, names, modules_to_save=list(new) or None)


def linear_names(model: Any) -> list[str]:
    """Return the full name of every linear module, whatever the architecture calls it."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def upper_half_names(model: Any) -> list[str]:
    """Return the linear modules in the upper half of an encoder's layers, and those outside of all layers.

    The lower half then needs no gradient: 124 against 304 seconds of processor time for 250 questions of
    a real yes/no data set, both on a shared machine, and Hits@k apart by less than 100 questions can tell.
    """
    names = linear_names(model)
    # The number of a module's layer is the first whole number in its name.
    layers = [next((int(part) for part in name.split(".") if part.isdigit()), None) for name in names]
    half = (max((layer for layer in layers if layer is not None), default=-1) + 1) // 2
    return [name for name, layer in zip(names, layers, strict=True) if layer is None or layer >= half]


def unfreeze(model: Any, layers: Sequence[int] | None) -> Any:
    """Return the model with trainable weights: all, or those of these layers of a decoder and of its last norm."""
    model.requires_grad_(layers is None)
    for part in () if layers is None else (*(model.model.layers[n] for n in layers), model.model.norm):
        part.requires_grad_(True)
    return model


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step (from 0): up over 5% of the steps, then linear to 0.

    The first step already learns, where transformers' `get_linear_schedule_with_warmup` begins with a rate of 0.
    """
    warm_up = max(1, round(WARM_UP * steps))
    return (step + 1) / warm_up if step < warm_up else (steps - step) / (steps - warm_up + 1)


def state_of(model: Any) -> Mapping[str, Tensor]:
    """Return the adapter's weights under peft's names, or every weight that is trained itself."""
    if hasattr(model, "peft_config"):
        return get_peft_model_state_dict(model, save_embedding_layers=False)
    return {PREFIX + name: value for name, value in model.named_parameters() if value.requires_grad}


def config_of(model: Any, spec: str) -> Any:
    """Return the configuration that is stored beside those weights; it names the base `spec`."""
    if not hasattr(model, "peft_config"):
        return WholeConfig(spec)
    model.active_peft_config.base_model_name_or_path = spec  # never a path of this machine
    return model.active_peft_config


def _target_names(lora: Lora) -> list[str]:
    """Return the names of layers in the settings, [] for all linear layers."""
    if lora.targets == "all-linear":
        return []
    return [name.strip() for name in lora.targets.split(",") if name.strip()]


def _no_layer(spec: str, lora: Lora) -> BadConfig:
    return BadConfig(f"no layer of {spec} is called {lora.targets}: give other lora targets")


def _with_adapter(model: Any, lora: Lora, names: Sequence[str] | str, **options: Any) -> Any:
    """Wrap the model by peft with a LoRA adapter on the modules of these names; `options` are LoraConfig's."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names if isinstance(names, str) else list(names),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        **options,
    )
    with warnings.catch_warnings():
        # peft asks transformers for a property that transformers has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        # GPT-2's layers keep their weights the other way round; peft sees that by itself.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False", category=UserWarning)
        adapt_language_model: Any = get_peft_model(model, config)
    return adapt_language_model


def _forward(layer: Any, x: Tensor) -> Tensor:
    """Compute what a LoRA layer of peft computes, by `_Product`."""
    base = layer.get_base_layer()
    name = layer.active_adapters[0]
    dropped = layer.lora_dropout[name](x)
    return cast(
        Tensor,
        _Product.apply(
            x,
            dropped,
            base.weight,
            base.bias,
            layer.lora_A[name].weight,
            layer.lora_B[name].weight,
            layer.scaling[name],
        ),
    )


class _Product(torch.autograd.Function):
    """x W^T + b + scale (x A^T) B^T with W frozen.

    The low-rank term is added in place and computed in W's precision: peft's own forward casts x to float32 and
    writes three more tensors of the output's size. 520 against 550 tokens/s a thread for SmolLM2-135M.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = flat if dropped is x else dropped.reshape(-1, x.shape[-1])
        a, b = a.to(x.dtype), (scale * b).to(x.dtype)
        h = low @ a.t()
        y = F.linear(flat, w, bias)
        y.addmm_(h, b.t())
        ctx.save_for_backward(low, h, w, a, b)
        ctx.scale, ctx.same = scale, dropped is x
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        low, h, w, a, b = ctx.saved_tensors
        shape = grads[0].shape
        g = grads[0].reshape(-1, shape[-1])
        gh = g @ b
        db = (g.t() @ h).float().mul_(ctx.scale)
        da = (gh.t() @ low).float()
        dx = dropped = None
        if ctx.needs_input_grad[0]:
            dx = g @ w
            if ctx.same:
                dx.addmm_(gh, a)
            dx = dx.view(*shape[:-1], -1)
        if ctx.needs_input_grad[1] and not ctx.same:
            dropped = (gh @ a).view(*shape[:-1], -1)
        return dx, dropped, None, None, da, db, None
