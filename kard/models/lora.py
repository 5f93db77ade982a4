"""What is trained of a model: peft's low-rank layers, with a product that costs little, or weights themselves."""

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
from kard.errors import BadConfig
from kard.models.adapters import PREFIX, WholeConfig


def adapted(model: Any, settings: Lora, *, spec: str, layers: Sequence[int] | None, decoder: bool) -> Any:
    """The model with a trainable adapter (float32) on its linear layers; everything else is frozen.

    `layers` are the numbers of the decoder's layers that get one, None for all there are in the model.
    """
    names: list[str] | str = settings.targets
    if settings.targets != "all-linear":
        names = [name.strip() for name in settings.targets.split(",") if name.strip()]
    elif layers is not None:  # peft: layers_to_transform needs the names, and knows `all-linear` only without it
        first = model.model.layers[layers[0]]
        names = sorted(
            {name.rpartition(".")[2] for name, part in first.named_modules() if isinstance(part, nn.Linear)}
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        layers_to_transform=None if layers is None else list(layers),
        task_type="CAUSAL_LM" if decoder else "SEQ_2_SEQ_LM",
    )
    with warnings.catch_warnings():
        # peft asks transformers for a property that transformers has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        # GPT-2's layers keep their weights the other way round; peft sees that by itself.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False", category=UserWarning)
        try:
            made = get_peft_model(model, config)
        except ValueError as error:
            raise BadConfig(f"no layer of {spec} is called {settings.targets}: give other lora targets") from error
    for module in made.modules():
        plain = type(module) is LoraLinear and type(module.get_base_layer()) is nn.Linear
        if plain and not settings.dora:
            module.forward = partial(_forward, module)
    return made


def thawed(model: Any, layers: Sequence[int] | None) -> Any:
    """The model with trainable weights: those of these layers of a decoder and of its last norm, None for all."""
    model.requires_grad_(layers is None)
    for part in () if layers is None else (*(model.model.layers[n] for n in layers), model.model.norm):
        part.requires_grad_(True)
    return model


def state_of(model: Any) -> Mapping[str, Tensor]:
    """The adapter's weights under peft's names, or every weight that is trained itself."""
    if hasattr(model, "peft_config"):
        return get_peft_model_state_dict(model, save_embedding_layers=False)
    return {PREFIX + name: value for name, value in model.named_parameters() if value.requires_grad}


def config_of(model: Any, spec: str) -> Any:
    """What stands beside those weights, with the base that they are of."""
    if not hasattr(model, "peft_config"):
        return WholeConfig(spec)
    model.active_peft_config.base_model_name_or_path = spec  # never a path of this machine
    return model.active_peft_config


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The weights that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


def _forward(layer: Any, x: Tensor) -> Tensor:
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
