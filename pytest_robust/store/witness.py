"""A witness: an adversarial example in a file of its own, to be committed and tested forever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pytest_robust.budget import Budget
from pytest_robust.data.examples import Examples, Inputs
from pytest_robust.errors import DamagedError, RobustError, ThreatError
from pytest_robust.evaluation.memory import Arrays, unpack
from pytest_robust.evaluation.retry import Retried, retry
from pytest_robust.models import NonDifferentiable, Normalize
from pytest_robust.objectives import Objective, Targeted, Untargeted
from pytest_robust.reports import words
from pytest_robust.store import files
from pytest_robust.store.held import Held
from pytest_robust.threats import L0, L1, L2, EmbeddingBall, Linf, Negation, Photometric, Spatial, Threat

_SCHEMA = "pytest-robust witness 1"
_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Linf, L2, L1, L0, EmbeddingBall, Spatial, Photometric, Negation, Untargeted, Targeted)
}
"""What a file can describe."""
_INPUT = "input"


@dataclass(frozen=True, eq=False)
class Witness:
    """A verified adversarial example that stands by itself.

    Attributes:
        check: the id of the check that it is from. id: content id of the example. found_by: the attack.
        example: the one input with its label. predicted: the class that the model named when it was found.
        threat, objective: within which, and for what, it was found.
        origin, adversarial: (...) the clean point and the adversarial one, in the space of the threat: pixels or features,
            embeddings, or the parameters of a transform.
        file: where it was read.
    """

    check: str
    id: str
    found_by: str
    example: Examples
    predicted: int
    threat: Threat
    objective: Objective
    origin: Tensor
    adversarial: Tensor
    file: Path

    @property
    def label(self) -> int:
        return int(self.example.labels[0])

    def assert_right(
        self,
        model: object,
        *,
        device: str = "auto",
        normalize: Normalize | None = None,
        classes: Sequence[str] | None = None,
        non_differentiable: NonDifferentiable | None = None,
        draws: int | None = None,
        waive: Mapping[str, str] | None = None,
    ) -> None:
        """The model is right on this adversarial example, and on the clean input.

        Args:
            model, device, ...: see ``evaluate``; what the check was called with, such as ``normalize``, is needed here too.

        Raises:
            AssertionError: it is not; one sentence. RobustError: the model cannot be asked.
        """
        __tracebackhide__ = True
        again = retry(
            model,
            self.example,
            self.id,
            self.threat,
            self.adversarial,
            origin=self.origin,
            objective=self.objective,
            device=device,
            normalize=normalize,
            classes=classes,
            non_differentiable=non_differentiable,
            draws=draws,
            waive=waive,
        )
        sentence = told(again, f"witness {self.id}", str(self.threat.summary()), self.found_by)
        if again.verdict == "broken":
            raise AssertionError(f"{sentence} ({self.file})")
        if again.verdict != "mended":
            raise RobustError(f"{self.file}: {sentence}")


def told(again: Retried, called: str, threat: str, found_by: str) -> str:
    """What came of it, in one sentence.

    Args:
        called: what to call the example. threat: in short. found_by: the attack that found it.
    """

    def name(label: int) -> str:
        names = again.example.classes
        known = names[label] if names is not None and 0 <= label < len(names) else str(label)
        return words.class_name({"label": label, "name": known})

    label = name(int(again.example.labels[0]))
    if again.verdict == "mended":
        return f"mended: the model is right on {called} ({label}) at {threat}, found by {found_by}"
    if again.verdict == "outside":
        return (
            f"{called} ({label}) was moved farther than {threat} allows now, and the nearest point within breaks nothing: "
            "that says nothing about the stored example; run the check again for one within the threat"
        )
    if again.verdict == "contested":
        return (
            f"{called} ({label}) at {threat}: the draws of this random model do not say whether it is still broken; "
            "run the check itself"
        )
    sentence = f"still broken: {called} ({label} -> {name(again.predicted)})"
    if again.clean_wrong:
        return f"{sentence} without any attack; its adversarial example at {threat} was found by {found_by}"
    smaller = "" if again.inside else ", where the stored change is larger and was cut down"
    return f"{sentence} at {threat}, found by {found_by}{smaller}"


def stored_point(root: Path, held: Held) -> Tensor:
    """(...) the adversarial example, in the space of its threat.

    Args:
        root: the folder ``.robust``.

    Raises:
        RobustError: its file cannot be read, or does not hold it any more.
    """
    path = held.file(root)
    advice = "delete it and run the check again without --robust-replay"
    try:
        content, arrays = files.read_arrays(path)
        found = unpack(arrays).get(content["ids"].index(held.id))
    except OSError as error:
        raise RobustError(f"{path} cannot be read: {error.strerror or error}") from None
    except (DamagedError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise DamagedError(f"{path} cannot be used ({error}); {advice}") from None
    if found is None:
        raise RobustError(f"{path} holds no adversarial example of {held.id} any more; run the check again")
    return found


def save_witness(path: Path, held: Held, again: Retried, threat: Threat, objective: Objective | None) -> Witness:
    """Write an adversarial example that was put to a model to a file of its own, and read it back.

    Raises:
        RobustError: it is not within the threat, the file cannot describe it, or cannot be written.
    """
    if not again.inside:
        raise RobustError(f"no witness is written: the stored point is not within {threat.norm} {threat.budget}")
    arrays: Arrays = {"origin": again.origin.numpy(), "adversarial": again.point.numpy()}
    content = {
        "schema": _SCHEMA,
        "check": held.check,
        "id": held.id,
        "found_by": held.found_by,
        "label": int(again.example.labels[0]),
        "predicted": held.predicted,
        "classes": None if again.example.classes is None else list(again.example.classes),
        "norm": threat.norm,
        "eps": str(threat.budget),
        "threat": _plain(threat, "threat", arrays),
        "objective": _plain(objective or Untargeted(), "objective", arrays),
        _INPUT: _plain_inputs(again.example.take([0]), arrays),
    }
    try:
        files.write_arrays(path, content, arrays)
    except OSError as error:
        raise RobustError(f"{path} cannot be written: {error.strerror or error}") from None
    return load_witness(path)


def load_witness(path: str | Path) -> Witness:
    """Read a witness.

    Raises:
        DamagedError: the file is not whole, or no witness, or its point is not within the threat that it names.
        RobustError: it cannot be read.
    """
    path = Path(path)
    try:
        content, arrays = files.read_arrays(path)
    except OSError as error:
        raise RobustError(
            f"the witness {path} cannot be read: {error.strerror or error}; a witness is written by "
            "pytest --robust-replay ID --robust-witness PATH, and committed"
        ) from None
    if content.get("schema") != _SCHEMA:
        raise DamagedError(f"{path} is no witness, or one of a version that is not known here")
    try:
        inputs = _inputs(content[_INPUT], arrays)
        example = Examples.of(inputs, torch.tensor([content["label"]]), content["classes"])
        witness = Witness(
            check=content["check"],
            id=content["id"],
            found_by=content["found_by"],
            example=example,
            predicted=content["predicted"],
            threat=cast("Threat", _made(content["threat"], arrays)),
            objective=cast("Objective", _made(content["objective"], arrays)),
            origin=torch.from_numpy(arrays["origin"]),
            adversarial=torch.from_numpy(arrays["adversarial"]),
            file=path,
        )
        region = witness.threat.region(witness.origin.unsqueeze(0))
        inside = witness.adversarial.shape == witness.origin.shape and bool(
            witness.threat.contains(witness.adversarial.unsqueeze(0), region)
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DamagedError(f"{path} cannot be read as a witness: {type(error).__name__}: {error}") from None
    if example.ids[0] != witness.id:
        raise DamagedError(f"{path}: the input is not the one of content id {witness.id}; write the witness again")
    if not inside:
        raise DamagedError(f"{path}: the adversarial example is not within {witness.threat.summary()}, as the file says")
    return witness


def _plain(described: object, name: str, arrays: Arrays) -> dict[str, Any]:
    """A threat or an objective as its kind and arguments; tensors go into ``arrays``."""
    kind = type(described).__name__
    if _KINDS.get(kind) is not type(described):
        raise ThreatError(f"no witness is written: a file cannot describe {kind}, which is your own")
    values = [getattr(described, field.name) for field in fields(cast("Any", described)) if field.init]
    return {"kind": kind, "arguments": [_value(value, f"{name}.{i}", arrays) for i, value in enumerate(values)]}


def _value(value: Any, name: str, arrays: Arrays) -> Any:
    if isinstance(value, (Tensor, np.ndarray)):
        arrays[name] = torch.as_tensor(value).detach().cpu().numpy()
        return {"array": name}
    if isinstance(value, tuple):
        return [_value(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    # Numbers of other kinds count as they are written, as budgets do.
    return str(value) if isinstance(value, (Budget, Real)) and not isinstance(value, (bool, float)) else value


def _made(told: Mapping[str, Any], arrays: Arrays) -> object:
    def value(plain: Any) -> Any:
        if isinstance(plain, dict):
            return torch.from_numpy(arrays[plain["array"]])
        return tuple(map(value, plain)) if isinstance(plain, list) else plain

    return _KINDS[told["kind"]](*map(value, told["arguments"]))


def _plain_inputs(inputs: Inputs, arrays: Arrays) -> Any:
    """One input: the names of its tensors in ``arrays``, or its texts."""
    if isinstance(inputs, list):
        return {"texts": inputs}
    columns = inputs if isinstance(inputs, dict) else {"": inputs}
    for key, column in columns.items():
        if cast("Tensor", column).dtype == torch.bfloat16:
            raise RobustError("no witness is written: its input is bfloat16, which the file cannot hold; use float32 data")
        arrays[f"{_INPUT}.{key}"] = cast("Tensor", column).numpy()
    return {"columns": list(columns), "mapping": isinstance(inputs, dict)}


def _inputs(told: Mapping[str, Any], arrays: Arrays) -> Inputs:
    if "texts" in told:
        return [tuple(text) if isinstance(text, list) else text for text in told["texts"]]
    columns = {key: torch.from_numpy(arrays[f"{_INPUT}.{key}"]) for key in told["columns"]}
    return cast("Inputs", columns) if told["mapping"] else columns[""]
