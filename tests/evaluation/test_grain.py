"""A budget that half precision rounds away is refused: the attack would do nothing, and everything survive."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pytest_robust import EmbeddingBall, curve, evaluate
from pytest_robust.data import load
from pytest_robust.errors import PreflightError
from pytest_robust.evaluation.preflight import check_grain
from pytest_robust.models.protocol import Batch
from pytest_robust.models.torch_module import TorchModel

TOKENS, FEATURES = 4, 16
SPACING = {torch.bfloat16: 2.0**-12, torch.float16: 2.0**-15}
"""At 0.04, which lies between 1/32 and 1/16."""


class Vectors(TorchModel):
    """Takes vectors of tokens as they are; all but the last may move."""

    space = "embedding"

    def batch(self, inputs: Any) -> Batch:
        batch = super().batch(inputs)
        return Batch(batch.x, {}, torch.arange(TOKENS + 1).view(1, -1, 1).expand(len(batch.x), -1, 1) < TOKENS)


def model(dtype: torch.dtype) -> Vectors:
    return Vectors(nn.Sequential(nn.Flatten(), nn.Linear(FEATURES * (TOKENS + 1), 2)).to(dtype).eval())


def examples() -> Any:
    signs = torch.tensor([1.0, -1.0] * (FEATURES // 2))
    inputs = (0.04 * signs).expand(2, TOKENS + 1, FEATURES).clone()
    inputs[:, TOKENS] = 100.0
    inputs[1] *= -1
    return load((inputs, [0, 1]))


@pytest.mark.parametrize("dtype", SPACING)
@pytest.mark.parametrize(
    ("norm", "per", "share"),
    [("linf", "token", 1), ("l2", "token", FEATURES**0.5), ("l2", "sequence", (FEATURES * TOKENS) ** 0.5)],
)
def test_less_than_four_spacings_of_a_typical_coordinate_are_refused(dtype: Any, norm: str, per: Any, share: float) -> None:
    least = 4 * SPACING[dtype] * share
    check_grain(model(dtype), examples(), EmbeddingBall(least * 1.01, norm=norm, per=per))
    with pytest.raises(PreflightError, match=r"grain: eps .* is 4 times the spacing of b?float16 numbers"):
        check_grain(model(dtype), examples(), EmbeddingBall(least * 0.99, norm=norm, per=per))


def test_the_figures_are_said() -> None:
    with pytest.raises(PreflightError) as caught:
        evaluate(model(torch.bfloat16), examples(), EmbeddingBall("0.0001", norm="linf"))
    assert str(caught.value) == (
        "grain: eps 0.0001 is 0.41 times the spacing of bfloat16 numbers at the median coordinate (0.00024 at 0.04): the "
        "attack would be rounded away, and everything survive. At least 4 times are needed: evaluate model.float(), or 9.8 "
        "times this eps"
    )
    with pytest.raises(PreflightError, match=r"eps 0\.001, 0\.00025 per coordinate when spent evenly, is 1 times"):
        evaluate(model(torch.bfloat16), examples(), EmbeddingBall("0.001"))


def test_every_budget_of_a_curve_is_looked_at() -> None:
    with pytest.raises(PreflightError, match="grain: eps 0.0005"):
        curve(model(torch.bfloat16), examples(), EmbeddingBall("0.5"), budgets=["0.0005", "0.5"])


@pytest.mark.parametrize("eps", [0, 1e-4])
def test_full_precision_and_no_budget_are_no_matter(eps: float) -> None:
    check_grain(model(torch.float32), examples(), EmbeddingBall(eps))
    check_grain(model(torch.bfloat16), examples(), EmbeddingBall(0))
