"""A random model: many draws of its randomness, each repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples, Inputs
from pytest_robust.models.modes import random_parts
from pytest_robust.models.protocol import Batch, Model
from pytest_robust.models.seen import Seen
from pytest_robust.random_state import seed_random_state

_KEY = "key of draws"
"""Where a batch carries the (B,) keys of its examples; no column of a user's is called that."""
_VOTES = 2**32
"""Number of the first draw for votes: the search never meets these."""


class Randomised(Seen[Model]):
    """A ``Model`` whose logits are the mean over ``draws`` draws of another's randomness.

    The mean is that of expectation over transformation (EOT: Athalye et al., "Synthesizing robust adversarial examples" and
    "Obfuscated gradients give a false sense of security", both ICML 2018): gradients of a loss of these logits go through
    every draw.

    A draw is one forward pass on one example alone, after the global random states were seeded for that example and the
    number of the draw. So neither the batch nor the order has a say, whatever the model draws: noise for each row, or one
    size for the whole batch. It costs a pass of batch size one for every draw. What the model draws from generators of its
    own is not repeatable that way.

    Parts that act at random in training mode only (dropout, stochastic depth) act where the user left them in it.
    """

    def __init__(self, model: Model, draws: int, seed: int) -> None:
        """
        Args:
            draws: at least 1. seed: of all draws, with the content of each example.
        """
        super().__init__(model)
        self.space, self.draws, self._seed = model.space, draws, seed
        self._acting = random_parts(getattr(model, "module", None))

    def training_parts(self) -> tuple[str, ...]:
        """Those that are not meant to be random: batch statistics."""
        return tuple(part for part in self._model.training_parts() if part not in self._acting)

    def encode(self, examples: Examples) -> Examples:
        encoded = self._model.encode(examples)
        acting = ", ".join(self._acting)
        self.notes = (*self._model.notes, *([f"in training mode, and so acting: {acting}"] if acting else []))
        return encoded

    def batch(self, inputs: Inputs) -> Batch:
        batch = self._model.batch(inputs)
        # Of the content, as the ids are, so that equal examples get equal draws wherever they stand.
        ids = Examples.of(inputs, torch.zeros(len(batch.x), dtype=torch.int64)).ids
        keys = torch.tensor([keyed.key(self._seed, i, "draws") for i in ids], device=self.device)
        return Batch(batch.x, batch.context | {_KEY: keys}, batch.free)

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        """The mean over the draws; see the protocol."""
        alone = self._alone(x, context)
        return torch.stack([self._draws(one, rest, key, range(self.draws)).mean(0) for one, rest, key in alone])

    def votes(self, x: Tensor, context: dict[str, Tensor], numbers: Sequence[int]) -> Tensor:
        """(len(numbers), C) logits of fresh draws at one point (1, ...). Equal numbers give equal draws."""
        ((one, rest, key),) = self._alone(x, context)
        return self._draws(one, rest, key, [_VOTES + number for number in numbers])

    @contextmanager
    def isolated(self) -> Iterator[None]:
        with self._model.isolated():
            # Put back by the isolation around.
            for part in self._acting.values():
                part.training = True
            yield

    def _alone(self, x: Tensor, context: dict[str, Tensor]) -> Iterator[tuple[Tensor, dict[str, Tensor], int]]:
        rest = {name: tensor for name, tensor in context.items() if name != _KEY}
        for i, key in enumerate(context[_KEY].tolist()):
            one = slice(i, i + 1)
            yield x[one], {name: tensor[one] for name, tensor in rest.items()}, key

    def _draws(self, x: Tensor, context: dict[str, Tensor], key: int, numbers: Sequence[int]) -> Tensor:
        logits = []
        for number in numbers:
            seed_random_state(keyed.key(key, number))
            logits.append(self._model.logits(x, context))
        return torch.cat(logits)


def redrawn(context: dict[str, Tensor], keys: Tensor, step: Tensor) -> dict[str, Tensor]:
    """The context of a batch with other draws, for each key and step; of a model that is not random: as it is.

    Args:
        keys, step: (B,) int64.
    """
    return context | {_KEY: keyed.child(keys, step)} if _KEY in context else context
