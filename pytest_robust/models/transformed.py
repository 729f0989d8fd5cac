"""A model of images seen through a transform: its point is the row of parameters."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pytest_robust.data.examples import Inputs
from pytest_robust.models.protocol import Batch, Model
from pytest_robust.models.seen import Seen

_IMAGE = "clean image"
"""Where the context has the image; no argument of a model can be called so."""


class Transformed(Seen[Model]):
    """``model(apply(image, params))`` as a ``Model`` whose point is ``params``; the image goes into the context."""

    space = "transform"

    def __init__(self, model: Model, origin: Callable[[Tensor], Tensor], apply: Callable[[Tensor, Tensor], Tensor]) -> None:
        """
        Args:
            model: takes images. origin: from images to the parameters that leave them as they are.
            apply: from images and parameters to images, differentiable in the parameters.
        """
        super().__init__(model)
        self._origin, self._apply = origin, apply

    def batch(self, inputs: Inputs) -> Batch:
        clean = self._model.batch(inputs)
        return Batch(self._origin(clean.x), {**clean.context, _IMAGE: clean.x})

    def logits(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        others = {name: tensor for name, tensor in context.items() if name != _IMAGE}
        return self._model.logits(self._apply(context[_IMAGE], x), others)
