"""Random numbers that belong to an example: the same on every device, in every batch, at every place in it.

A counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the i-th number of a
stream is a hash of the stream's key and i, so that a batch of streams is one vectorised expression, without state. The
hash is the finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_GOLDEN, _MIX_1, _MIX_2 = (c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def key(*parts: object) -> int:
    """A 64-bit signed key from any printable parts: seed, content id, attack, run."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def order(seed: int, ids: Iterable[str]) -> list[int]:
    """Positions of ``ids`` in an order that depends on the seed and on each id alone, not on their order."""
    keys = [(key(seed, "order", i), position) for position, i in enumerate(ids)]
    return [position for _, position in sorted(keys)]


def ordered(seed: int, rows: Sequence[int], ids: Sequence[str]) -> list[int]:
    """``rows`` in the order of their ids among ``ids``, see ``order``."""
    return [rows[i] for i in order(seed, [ids[row] for row in rows])]


def child(keys: Tensor, number: Tensor) -> Tensor:
    """(B,) int64 keys of other streams, one for each key and number: of the steps of a random search, say.

    Args:
        keys, number: (B,) int64.
    """
    return _mix(keys ^ (number + 1) * _GOLDEN)


def uniform(keys: Tensor, shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Float32 numbers in [0, 1), multiples of 2**-24, shape (B, *shape).

    Args:
        keys: (B,) int64. stream: number of an independent stream of the same key.
    """
    count = 1
    for size in shape:
        count *= size
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * _GOLDEN
    start = _mix(keys + (stream + 1) * _MIX_1 % (1 << 62))
    bits = _mix(start.unsqueeze(1) + counter)
    return (_shift_right(bits, 40).to(torch.float32) * 2.0**-24).view(len(keys), *shape)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, by: int) -> Tensor:
    # torch shifts signed integers arithmetically; the mask makes the shift logical.
    return (z >> by) & ((1 << (64 - by)) - 1)
