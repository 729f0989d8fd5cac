"""Does a model give the same outputs for the embeddings of its tokens as for the token ids? And what to do where not.

Several architectures treat the two differently: Marian scales embeddings only on the way from ids, RoBERTa and its kin count
positions by ids, heads of encoder-decoders look for the end of the text in them. An attack on embeddings would then be on
another model than the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pytest_robust.errors import ModelError
from pytest_robust.models.isolation import uncompiled

PADDINGS = (16, 1)
"""Lengths are padded to a multiple of the first of these under which padding does not change the outputs: 16 lets texts of
similar length share a batch; models that read the last position (GPT-2) need 1."""
_FINE = {torch.float64, torch.float32}


@dataclass(frozen=True)
class Entry:
    """A way for embeddings to enter a model.

    Attributes:
        name: what messages call it, after "embeddings".
        call: the model, its embeddings (B, L, D), and its other arguments with ``input_ids``; gives the model's output.
        repair: whether it is not the plain way, so that the user is told.
    """

    name: str
    call: Callable[[Any, Tensor, dict[str, Tensor]], object]
    repair: bool = False


def _as_argument(module: Any, x: Tensor, arguments: dict[str, Tensor]) -> object:
    return module(inputs_embeds=x, **{name: value for name, value in arguments.items() if name != "input_ids"})


def _in_place(module: Any, x: Tensor, arguments: dict[str, Tensor]) -> object:
    """The ids are given as in use, and ``x`` replaces what the embedding layer returns for them.

    So all that the model does with ids it does as in use. Other calls of the layer are left alone: a decoder looks up its
    own ids in the same table.
    """
    ids = arguments["input_ids"]
    replaced = 0

    def replace(_: object, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        nonlocal replaced
        given = args[0] if args else next(iter(kwargs.values()))
        if given.data_ptr() != ids.data_ptr() or given.numel() != ids.numel():
            return output
        replaced += 1
        return x.to(output.dtype).view(output.shape)

    handles = [layer.register_forward_hook(replace, with_kwargs=True) for layer in _embedding_layers(module)]
    try:
        with uncompiled():
            output = module(**arguments)
    finally:
        for handle in handles:
            handle.remove()
    if not replaced:
        raise ModelError(f"{type(module).__name__} does not look up its token ids by its get_input_embeddings()")
    return output


def _embedding_layers(module: Any) -> Iterator[Any]:
    """All that look up in the table of ``get_input_embeddings()``: encoders may have a layer of their own around it."""
    own = module.get_input_embeddings()
    yield own
    for layer in module.modules():
        if layer is not own and isinstance(layer, torch.nn.Embedding) and layer.weight is getattr(own, "weight", None):
            yield layer


AS_ARGUMENT = Entry("as inputs_embeds", _as_argument)
IN_PLACE = Entry("in place of what the embedding layer returns for the token ids", _in_place, repair=True)


def fitting(
    name: str, entries: Sequence[Entry], gap: Callable[[Entry, int], float], dtype: torch.dtype
) -> tuple[Entry, int, str | None]:
    """The first way in, and length to pad to a multiple of, that gives the outputs of the token ids; and what to tell.

    Every way is tried with every padding, in their order.

    Args:
        name: of the model. gap: see ``difference``, for a way and a multiple; it may raise ModelError.
        dtype: the model's.

    Raises:
        ModelError: none does; says what was tried, and how far each was off.
    """
    allowed = 1e-4 if dtype in _FINE else 5e-2
    tried: list[str] = []
    for entry in entries:
        for multiple in PADDINGS:
            try:
                found = gap(entry, multiple)
            except ModelError as error:
                reason = error.__cause__ or error
                off = f"{type(reason).__name__}: {' '.join(str(reason).split())}"
            else:
                if found <= allowed:
                    return entry, multiple, _note(name, entry, tried)
                off = f"they differ by {found:.2g} of their size"
            tried.append(f"{entry.name}{'' if multiple > 1 else ', without padding'}: {off}")
    raise ModelError(
        f"{name} gives other outputs for embeddings than for the same token ids, so an attack would be on another model "
        f"than yours (allowed is {allowed:g}). Tried were embeddings {'; '.join(tried)}. Check that its forward() uses "
        "inputs_embeds as get_input_embeddings() returns them"
    )


def _note(name: str, entry: Entry, tried: Sequence[str]) -> str | None:
    if not entry.repair:
        return None
    why = f" (not {tried[0]})" if tried else ""
    return f"the embeddings of {name} are put {entry.name}{why}"


def difference(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> float:
    """Largest difference of outputs, relative to the largest wanted; 0 where those are not finite: Preflight says so better.

    Args:
        found: (B, ...), by embeddings, each row the same text. wanted: (1, ...), by token ids. Of outputs per token,
            ``found`` may have more, by padding. dtype: the model's.
    """
    if not wanted.isfinite().all():
        return 0.0
    # Outputs that are small all over are no more exact than the larger numbers that they are computed from.
    size = wanted.abs().max().clamp(min=0.1 if dtype in _FINE else 1)
    gap = float((found[:, : wanted.shape[1]] - wanted).abs().max() / size)
    return gap if gap == gap else float("inf")
