"""The options of an edited text as tokens: what gradients say of them, and embeddings mixed of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Word = tuple[int, int, int, int]
"""The part, the start and the end of a word in a text as it is, and its turn among those that are to stand at one place."""


@dataclass
class Options:
    """The options of one text as tokens, for gradients.

    Attributes:
        words: by number, each word that has sites. word: (O,) int64, of each option.
        site, place: (O,) int64, where it stands in a point. ids: (I,) int64, the token ids that occur.
        tokens: (O, T) int64, places in ``ids``; -1 beyond its own. own: (W, T) the same of the words as they are.
    """

    words: list[Word]
    word: Tensor
    site: Tensor
    place: Tensor
    ids: Tensor
    tokens: Tensor
    own: Tensor


class Led(torch.autograd.Function):
    """Passes embeddings on, and gives the point that made their text a gradient in return."""

    @staticmethod
    def forward(ctx: Any, embedded: Tensor, x: Tensor, embed: Any, options: Any, owners: Any) -> Tensor:
        ctx.shape, ctx.more = x.shape, (embed, options, owners)
        return embedded.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        embed, options, owners = ctx.more
        found = grad.new_zeros(ctx.shape)
        for i, (one, owner) in enumerate(zip(options, owners, strict=True)):
            if not len(one.ids):
                continue
            at_words = grad.new_zeros(len(one.words) + 1, grad.shape[2])
            at_words.index_add_(0, torch.tensor(owner, device=grad.device), grad[i, : len(owner)])
            # (I, W): what a token would be worth in place of a word's.
            worth = embed(one.ids).to(grad.dtype) @ at_words[:-1].T
            whole = _mean(worth, one.own, torch.arange(len(one.words), device=grad.device))
            found[i, one.site, one.place] = _mean(worth, one.tokens, one.word) - whole[one.word]
        return None, found, None, None, None


class Mixture:
    """The embeddings of a text as it is, with options in place of its words by degrees.

    Token for token where an option has as many as its word; otherwise each token of the word goes towards the mean of the
    option's.
    """

    def __init__(self, options: Options, owners: Sequence[int]) -> None:
        """
        Args:
            owners: for each token of the text the number of the word that it is of; the number of words: of none.
        """
        self._options, device = options, options.ids.device
        self._owners = torch.tensor(owners, dtype=torch.int64, device=device)
        of_words: list[list[int]] = [[] for _ in range(len(options.words) + 1)]
        for position, owner in enumerate(owners):
            of_words[owner].append(position)
        # (O, P) where the word of each option stands, and (O, T) its tokens, -1 beyond.
        positions, tokens = table(of_words[:-1]).to(device)[options.word], options.tokens
        lengths = [(values >= 0).sum(1).view(-1, 1, 1) for values in (positions, tokens)]
        alike, there = lengths[0] == lengths[1], (positions >= 0).unsqueeze(2) & (tokens >= 0).unsqueeze(1)
        same = torch.arange(positions.shape[1], device=device).unsqueeze(1) == torch.arange(tokens.shape[1], device=device)
        option, at, which = (there & (~alike | same)).nonzero(as_tuple=True)
        self._option, self._share = option, torch.where(alike, 1.0, 1 / lengths[1].clamp_min(1)).flatten()[option]
        self._place = positions[option, at] * len(options.ids) + tokens[option, which]

    def __call__(self, point: Tensor, x: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """(L, D) embeddings for the weights of options, (S, C), of the text's own, ``point``."""
        one, n = self._options, len(self._owners)
        taken = x[one.site, one.place].to(point.dtype)
        left = 1 - point.new_zeros(len(one.words) + 1).index_add(0, one.word, taken)[self._owners]
        shares = point.new_zeros(n * len(one.ids)).index_add(
            0, self._place, taken[self._option] * self._share.to(point.dtype)
        )
        mixed = point[:n] * left.unsqueeze(1) + shares.view(n, len(one.ids)) @ embed(one.ids).to(point.dtype)
        return torch.cat([mixed, point[n:]])


def _mean(worth: Tensor, tokens: Tensor, word: Tensor) -> Tensor:
    """(O,) the mean worth of each option's tokens, (O, T), for its word, (O,)."""
    there = tokens >= 0
    each = worth[tokens.clamp_min(0), word.unsqueeze(1)] * there
    return each.sum(1) / there.sum(1).clamp_min(1)


def table(pieces: list[list[int]]) -> Tensor:
    """(O, T) int64, -1 beyond the end of each."""
    table = torch.full((len(pieces), max(map(len, pieces), default=1) or 1), -1, dtype=torch.int64)
    for i, piece in enumerate(pieces):
        table[i, : len(piece)] = torch.tensor(piece, dtype=torch.int64)
    return table
