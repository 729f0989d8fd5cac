"""A check that was finished before: found again, and known to be of the same model."""

from __future__ import annotations

import torch

from pytest_robust import keyed
from pytest_robust.data.examples import Examples
from pytest_robust.evaluation.identity import UnknownError, code_digest, digest
from pytest_robust.evaluation.memory import Arrays
from pytest_robust.evaluation.prepare import Opened
from pytest_robust.evaluation.result import Identity
from pytest_robust.objectives import lead

_SAMPLE = 32
"""Examples by whose logits and gradients a model is known again."""


def identify(opened: Opened, *rest: object) -> Identity:
    """The identity of a check; ``rest``: what else has a say in its outcome."""
    # Of floor and profile it is independent: they decide when to stop and what to believe, not how an example is attacked.
    attack = _digest(code_digest(), opened.threat, opened.objective, opened.steps, opened.schedule, int(opened.seed))
    how = _digest(attack, opened.profile, rest)
    model, data = _digest(opened.adapted), digest(sorted(opened.examples.ids))
    # In order, for outcomes are kept in it. Texts count as the tokens that the model sees.
    ordered = _digest(opened.examples.ids, opened.examples.classes, opened.encoded.inputs)
    known = attack is not None and how is not None and model is not None and ordered is not None
    return Identity(attack, data, model, digest(how, model, ordered) if known else None)


def digests(how: object, model: object, examples: Examples) -> Identity:
    """The identity of what is measured without a search, and not found again; ``how``: all that has a say in it."""
    return Identity(_digest(code_digest(), how), digest(sorted(examples.ids)), _digest(model), None)


def sign(opened: Opened) -> Arrays:
    """What the model makes of a few examples: logits and, of the margin's gradient, the size and one projection.

    Digests see weights and source of the model's own classes, not the functions that these call.
    """
    ids, encoded = opened.examples.ids, opened.encoded
    rows = max(encoded.groups(keyed.order(opened.seed, ids)[:_SAMPLE]), key=len)
    batch = opened.model.batch(encoded.take(rows))

    logits, _, grad = opened.passes.gradient(lambda logits, _: lead(logits), batch.x, batch.context)
    keys = torch.tensor([keyed.key("sign", ids[row]) for row in rows], device=grad.device)
    along = keyed.uniform(keys, tuple(grad.shape[1:])) - 0.5
    grad = grad.double() if grad.device.type != "mps" else grad
    features = torch.stack([grad.flatten(1).norm(dim=1), (grad * along).flatten(1).sum(1)], 1)
    return {"logits": logits.double().cpu().numpy(), "gradients": features.cpu().numpy()}


def _digest(*values: object) -> str | None:
    try:
        return digest(*values)
    except UnknownError:
        return None
