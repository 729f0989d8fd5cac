"""One of several jobs that share the examples of every check out among them. No torch here."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Shard:
    """The ``number``-th of ``of`` jobs, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/16``.

        Raises:
            ValueError: it is not of this form, or there is no such shard.
        """
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
        shard = None if found is None else cls(int(found[1]), int(found[2]))
        if shard is None or not 1 <= shard.number <= shard.of:
            raise ValueError(f"{text!r} is no shard; write i/N with i from 1 to N, such as 3/16")
        return shard

    def takes(self, rank: int) -> bool:
        """Whether the example of this rank, from 0 in an order that all shards agree on, is in its share.

        Each share has so many examples, or one fewer.
        """
        return rank % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"
