"""Text models whose weakness, or strength, is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from text_models import Classifier, SummedLinear, scored, tokenizer
from torch import Tensor

from pytest_robust import CharacterEdits, EmbeddingBall, adapt, curve, evaluate

pytest.importorskip("transformers")

TEXTS = ["the film was good", "the plot was bad", "a great film", "very poor plot is awful", "fine", "not a good plot"]


def labelled(model: Classifier, tokens) -> list[tuple[str, int]]:
    with torch.no_grad():
        return [(text, int(model(**tokens([text], return_tensors="pt")).argmax())) for text in TEXTS]


def test_the_smallest_radius_of_a_linear_model_is_the_closed_form():
    """Every token that may move goes by eps along the difference of the two rows of weights."""
    tokens = tokenizer()
    torch.manual_seed(0)
    model = SummedLinear(len(tokens)).eval()
    data = labelled(model, tokens)
    slope = (model.head.weight[0] - model.head.weight[1]).norm().item()
    known = []
    for text, _ in data:
        columns = tokens([text], return_tensors="pt")
        with torch.no_grad():
            logits = model(**columns)[0]
        known.append(float((logits[0] - logits[1]).abs()) / slope / (columns["input_ids"].shape[1] - 2))
    found = curve((model, tokens), data, EmbeddingBall(2 * max(known)), waive={"chance": "random weights"})
    np.testing.assert_allclose(found.distances, known, rtol=0.01)
    assert (found.distances >= np.array(known) * (1 - 1e-6)).all()


class FirstWord(SummedLinear):
    """Reads the first word alone."""

    def read(self, embedded: Tensor, there: Tensor) -> Tensor:
        return self.head(embedded[:, 1])


def test_a_model_of_the_first_word_cannot_be_moved_by_the_others():
    tokens = tokenizer()
    torch.manual_seed(0)
    model = FirstWord(len(tokens)).eval()
    data = labelled(model, tokens)
    rest = adapt((model, tokens), spans=lambda text: [(text.index(" ") + 1, len(text))] if " " in text else [(0, len(text))])
    several = [pair for pair in data if " " in pair[0]]
    ball = EmbeddingBall(1e3)
    waive = {"chance": "random weights", "gradient": "the words that move play no part", "gradients": "the same"}
    held = evaluate(rest, several, ball, waive=waive)
    assert held.robust.all()
    free = evaluate((model, tokens), several, ball, waive={"chance": "random weights"})
    assert not free.robust.any()


class Quantised(SummedLinear):
    """Rounds embeddings, so that no gradient comes back."""

    def read(self, embedded: Tensor, there: Tensor) -> Tensor:
        return super().read((embedded * 2).round() / 2, there)


def test_rounded_embeddings_are_noticed_and_broken_without_gradients():
    model, tokens = scored({"good": 2.0, "great": 1.0, "bad": -2.0, "awful": -1.0}, default=0.1)
    rounded = Quantised(len(tokens), dimensions=2).eval()
    rounded.load_state_dict(model.state_dict())
    data = [
        (text, label) for text, label in labelled(rounded, tokens) if any(word in text for word in ("good", "great", "bad"))
    ]
    with pytest.raises(Exception, match="gradient: no gradient reaches the input"):
        evaluate((rounded, tokens), data, EmbeddingBall(0.5), waive={"chance": "few"})
    waive = {"chance": "few", "gradient": "to see what else says so", "one-class": "few"}
    ball = evaluate((rounded, tokens), data, EmbeddingBall(2.5), waive=waive)
    assert not ball.believable or not ball.robust.any()
    assert "square" in " ".join(map(str, ball.broken_by))
    typos = evaluate((rounded, tokens), data, CharacterEdits(1), waive=waive)
    assert "edit-search" in typos.broken_by or "hotflip" in typos.broken_by
