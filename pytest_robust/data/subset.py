"""A stratified subset that depends on what the examples are, not on the order they come in."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from pytest_robust.data.examples import Examples


def stratified(examples: Examples, n: int, seed: int) -> list[int]:
    """``n`` indices, in data order, with the classes in the proportions of the data.

    Within a class, examples are ranked by a hash of ``seed`` and their content id, so that the same examples are chosen
    however the data is ordered, and another seed chooses others. Each class gets its share by largest remainders; where
    ``n`` allows, at least one. With ``n`` at or above the number of examples, all of them.

    Raises:
        ValueError: n is not positive.
    """
    if n <= 0:
        raise ValueError(f"n must be at least 1, got {n}; leave it out to use every example")
    if n >= len(examples):
        return list(range(len(examples)))
    members: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(examples.labels.tolist()):
        members[label].append(i)
    sizes = {label: len(members[label]) for label in sorted(members)}
    chosen: list[int] = []
    for label, count in _allocate(sizes, n).items():
        ranked = sorted(members[label], key=lambda i: _rank(seed, examples.ids[i]))
        chosen += ranked[:count]
    return sorted(chosen)


def _allocate(sizes: dict[int, int], n: int) -> dict[int, int]:
    """``n`` shared out in proportion to ``sizes`` by largest remainders (Hamilton's method), in integers throughout."""
    total = sum(sizes.values())
    shares = {label: n * size // total for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (-(n * sizes[label] % total), label))
    for label in by_remainder[: n - sum(shares.values())]:
        shares[label] += 1
    if n >= len(sizes):
        for label in sizes:
            if shares[label] == 0:
                # A class the report shows as "no examples" would hide its weakness: the best provided class gives one up.
                richest = max(shares, key=lambda other: (shares[other], -other))
                shares[richest] -= 1
                shares[label] = 1
    return shares


def _rank(seed: int, content_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{content_id}".encode(), digest_size=16).digest()
