"""The words of a model's vocabulary, and which of them a gradient likes best in place of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples
from pytest_robust.models.embedded_text import EmbeddedText
from pytest_robust.models.spans import Span, owners_of
from pytest_robust.models.tokens import Row

Gradient = Callable[[Tensor, dict[str, Tensor], Tensor], Tensor]
"""Of what an attack raises, with respect to the embeddings of a batch with these labels, in their shape."""
_TEXTS, _SITES = 64, 32
"""How many are looked at together, so that memory holds them."""
_RANDOM = 8
"""One word in so many is a random one: where the gradient is wrong, it is about all that it likes."""
_STEP = 1e-4
"""Of what words are worth: smaller differences are rounding, which depends on the batch."""


class Vocabulary:
    """Words that are one token each, in a text as by themselves.

    Which of them to look at in place of a word is asked of the gradient at the text as it is: to first order a word raises
    the loss by what its embedding has along the gradient (Ebrahimi et al., "HotFlip", ACL 2018).
    """

    def __init__(self, model: EmbeddedText, admits: Callable[[str], bool], gradient: Gradient) -> None:
        self._model, self._gradient = model, gradient
        known = {i: text for i, text in model.decoded().items() if admits(text)}
        # To some tokenizers a word after a space is another token than one without.
        pieces = {before: model.pieces([before + text for text in known.values()]) for before in ("", " ")} if known else {}
        alone = {before: [own == [i] for i, own in zip(known, many, strict=True)] for before, many in pieces.items()}
        self._texts, self._ids = list(known.values()), torch.tensor(list(known), dtype=torch.int64, device=model.device)
        self._fits = {before: torch.tensor(fits, device=model.device) for before, fits in alone.items()}

    def words(self, proposed: Tensor) -> list[list[str]]:
        """For each site, (W, C) numbers as ``proposed`` gives them, its words."""
        return [[self._texts[number] for number in site if number >= 0] for site in proposed.tolist()]

    def proposed(self, examples: Examples, words: Sequence[Sequence[tuple[Span, str]]], most: int) -> list[Tensor]:
        """For each text (W, most) int64: by word the numbers of those to look at in its place, -1 where there are fewer.

        Args:
            words: of each text, where they stand, in characters counted through its parts, and the blank before.
        """
        found = [torch.empty(0)] * len(examples)
        # What all words have in common tells none from another.
        embedded = self._model.embedded(self._ids)
        embedded = (embedded - embedded.mean(0)).float()
        tokens = self._model.rows(examples)
        for group, batch in self._model.batches(tokens, _TEXTS):
            grads = self._gradient(batch.x, batch.context, examples.labels[group]).nan_to_num(0, 0, 0).float()
            for row, grad in zip(group, grads, strict=True):
                key = keyed.key(examples.ids[row], "vocabulary")
                found[row] = self._of_text(tokens[row], words[row], grad, embedded, key, most)
        return found

    def _of_text(
        self, tokens: Row, words: Sequence[tuple[Span, str]], grad: Tensor, embedded: Tensor, key: int, most: int
    ) -> Tensor:
        """(W, most) as ``proposed`` gives them, of one text; ``grad``: (L, D) at its tokens."""
        owners = owners_of(tokens.places, [span for span, _ in words])
        along = grad.new_zeros(len(words) + 1, grad.shape[1])
        along.index_add_(0, torch.tensor(owners, device=grad.device), grad[: len(owners)])
        own: list[list[int]] = [[] for _ in range(len(words) + 1)]
        for token, owner in zip(tokens.ids, owners, strict=True):
            own[owner].append(token)
        found = torch.full((len(words), most), -1, dtype=torch.int64)
        random = keyed.uniform(torch.tensor([key]), (len(words), max(1, most // _RANDOM)))[0].to(grad.device)
        for first in range(0, len(words), _SITES):
            worth = along[first : min(first + _SITES, len(words))] @ embedded.T
            for number, one in enumerate(worth, first):
                fits = self._fits[words[number][1]]
                if len(own[number]) == 1:
                    fits = fits & (self._ids != own[number][0])
                chosen = _chosen(one, fits, random[number], most)
                found[number, : len(chosen)] = chosen.cpu()
        return found


def _chosen(worth: Tensor, fits: Tensor, random: Tensor, most: int) -> Tensor:
    """(K,) numbers of at most ``most`` words that fit: those of the largest worth, (V,), and some by random numbers."""
    there = fits.nonzero().flatten()
    if not len(there):
        return there
    scale = worth[there].abs().max()
    steps = (worth[there] / torch.where(scale > 0, scale, 1.0) / _STEP).round().long()
    # Of equal worth, the first: no two are alike, so that nothing is left to chance.
    order = steps * len(worth) - there
    best = there[order.topk(min(most - len(random), len(there))).indices]
    others = there[(random * len(there)).long()]
    return torch.cat([best, others[~torch.isin(others, best)].unique()])
