"""What an evaluation is of, as digests: where they are equal, so is the outcome."""

from __future__ import annotations

import functools
import hashlib
import inspect
import struct
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import FunctionType, MethodType, ModuleType

import numpy as np
import torch
from torch import Tensor, nn

import pytest_robust
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.submodules import named_submodules


class UnknownError(Exception):
    """A value that cannot be seen through: nothing may be concluded from what is known of it."""


def digest(*values: object) -> str:
    """32 hexadecimal digits that depend on the values and nothing else: not on process, device or the order of a dict.

    Tensors count by content, functions and classes by their source and what they close over, modules by their class, state
    and plain attributes, other objects by their class and attributes.

    Raises:
        UnknownError: a value that has none of these.
    """
    return _Digester().of(values)


@functools.cache
def code_digest() -> str:
    """Of the source of all that an outcome depends on, and the minor version of torch."""
    root = Path(pytest_robust.__file__).parent
    folders = ("attacks", "data", "evaluation", "models", "objectives", "threats")
    files = sorted([*(path for folder in folders for path in (root / folder).glob("*.py")), *root.glob("*.py")])
    text = b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)
    version = ".".join(torch.__version__.split(".")[:2])
    return hashlib.blake2b(text + version.encode(), digest_size=16).hexdigest()


class _Digester:
    def __init__(self) -> None:
        self._inside: dict[int, int] = {}
        """Objects whose digest is being taken: one that holds itself is named by its depth."""

    def of(self, value: object) -> str:
        if id(value) in self._inside:
            return f"^{self._inside[id(value)]}"
        self._inside[id(value)] = len(self._inside)
        try:
            return self._hash(*self._parts(value))
        finally:
            del self._inside[id(value)]

    @staticmethod
    def _hash(*parts: str | bytes) -> str:
        state = hashlib.blake2b(digest_size=16)
        for part in parts:
            raw = part.encode(errors="surrogatepass") if isinstance(part, str) else part
            state.update(len(raw).to_bytes(8, "little") + raw)
        return state.hexdigest()

    def _parts(self, value: object) -> tuple[str | bytes, ...]:
        for kinds, parts in self._KINDS:
            if isinstance(value, kinds):
                return (type(value).__qualname__, *parts(self, value))
        raise UnknownError(f"{type(value).__module__}.{type(value).__qualname__}")

    def _plain(self, value: object) -> tuple[str | bytes, ...]:
        return (repr(value),)

    def _float(self, value: float) -> tuple[str | bytes, ...]:
        return (struct.pack("<d", value),)

    def _tensor(self, value: Tensor) -> tuple[str | bytes, ...]:
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            raise UnknownError(f"a tensor that is {value.layout}, quantised or without values")
        # Of one number, too, which may have any stride and be called contiguous.
        content = value.detach().cpu().contiguous().as_strided((value.numel(),), (1,))
        # In inference mode, and for bfloat16, numpy() is no way to the bytes.
        return (str(value.dtype), str(tuple(value.shape)), content.view(torch.uint8).numpy().tobytes())

    def _array(self, value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> tuple[str | bytes, ...]:
        if value.dtype.hasobject:
            return ("objects", self.of(value.tolist()))
        return (str(value.dtype), str(value.shape), np.ascontiguousarray(value).tobytes())

    def _mapping(self, value: Mapping[object, object]) -> tuple[str | bytes, ...]:
        return tuple(sorted(self.of(key) + self.of(item) for key, item in value.items()))

    def _sequence(self, value: Sequence[object]) -> tuple[str | bytes, ...]:
        return tuple(map(self.of, value))

    def _set(self, value: Set[object]) -> tuple[str | bytes, ...]:
        return tuple(sorted(map(self.of, value)))

    def _function(self, value: FunctionType) -> tuple[str | bytes, ...]:
        closed = [cell.cell_contents for cell in value.__closure__ or ()]
        return (
            value.__module__,
            value.__qualname__,
            _source(value),
            self.of((closed, value.__defaults__, value.__kwdefaults__)),
        )

    def _method(self, value: MethodType) -> tuple[str | bytes, ...]:
        return (self.of(value.__func__), self.of(value.__self__))

    def _partial(self, value: functools.partial[object]) -> tuple[str | bytes, ...]:
        return (self.of(value.func), self.of(value.args), self.of(value.keywords))

    def _class(self, value: type) -> tuple[str | bytes, ...]:
        # Of torch itself the version is known, see ``code_digest``.
        own = [_source(part) for part in value.__mro__[:-1] if not part.__module__.startswith("torch.")]
        return (value.__module__, value.__qualname__, *own)

    def _builtin(self, value: Callable[..., object]) -> tuple[str | bytes, ...]:
        return (str(value.__module__), value.__qualname__)

    def _module(self, value: nn.Module) -> tuple[str | bytes, ...]:
        if isinstance(value, torch.jit.ScriptModule):
            return (str(value.code), self.of(dict(value.state_dict())))
        original = getattr(value, "_orig_mod", None)
        if isinstance(original, nn.Module):  # torch.compile: the same function, faster
            return ("compiled", self.of(original))
        parts = [(name, self._one_module(part)) for name, part in named_submodules(value)]
        return tuple(name + found for name, found in parts)

    def _one_module(self, module: nn.Module) -> str:
        """Without the modules inside it, which have their own."""
        own = {
            name: item
            for name, item in vars(module).items()
            if name not in _NO_STATE and not name.endswith("_hooks_always_called") and not isinstance(item, nn.Module)
        }
        own |= {"_buffers": dict(module._buffers), "_parameters": dict(module._parameters)}
        return self._hash(self.of(type(module)), self.of(own))

    def _object(self, value: object) -> tuple[str | bytes, ...]:
        if is_dataclass(value):
            return (self.of(type(value)), *(self.of(getattr(value, field.name)) for field in fields(value)))
        if type(value).__module__ == "tokenizers" and hasattr(value, "to_str"):
            return (value.to_str(),)
        try:
            inspect.getfile(type(value))
        except TypeError:
            # Written in another language: what it holds need not be in its attributes.
            raise UnknownError(f"{type(value).__module__}.{type(value).__qualname__}") from None
        except OSError:
            pass  # typed into a console
        if not hasattr(value, "__dict__") or isinstance(value, ModuleType):
            raise UnknownError(f"{type(value).__module__}.{type(value).__qualname__}")
        # A model is the same model whatever it was asked before.
        passing = value.of_examples if isinstance(value, EmbeddedText) else ()
        return (self.of(type(value)), self.of({name: item for name, item in vars(value).items() if name not in passing}))

    _KINDS: tuple[tuple[type | tuple[type, ...], Callable[..., tuple[str | bytes, ...]]], ...] = (
        (float, _float),
        ((type(None), bool, int, str, bytes, Fraction, Path, Enum, torch.dtype, slice, type(Ellipsis)), _plain),
        # Where it runs makes no difference to what it is.
        (torch.device, lambda self, value: ()),
        (Tensor, _tensor),
        (np.ndarray, _array),
        (np.generic, lambda self, value: (str(value.dtype), value.tobytes())),
        (nn.Module, _module),
        (Mapping, _mapping),
        ((list, tuple), _sequence),
        ((set, frozenset), _set),
        (type, _class),
        (FunctionType, _function),
        (MethodType, _method),
        (functools.partial, _partial),
        (type(len), _builtin),
        (object, _object),
    )
    """How values of a kind are seen; the first that fits is taken."""


_NO_STATE = frozenset({"training", "_modules", "_parameters", "_buffers", "_is_full_backward_hook", "_compiled_call_impl"})
"""Attributes of a module that are looked at elsewhere, or change nothing in an evaluation: it sets the mode itself."""


@functools.lru_cache(maxsize=1024)
def _source(value: type | FunctionType) -> str:
    """The source, or where there is none (typed into a console), the code itself."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        if isinstance(value, FunctionType):
            return repr((value.__code__.co_code, value.__code__.co_names, list(map(str, value.__code__.co_consts))))
        if value.__module__ in ("builtins", "torch._C"):
            return ""
        return repr([_source(item) for item in vars(value).values() if isinstance(item, FunctionType)])
