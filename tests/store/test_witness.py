"""A witness: an adversarial example in a file of its own, whole and within its threat, or an error."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from pytest_robust import (
    L0,
    L1,
    L2,
    Linf,
    Negation,
    Photometric,
    RobustError,
    Spatial,
    Targeted,
    ThreatError,
    Untargeted,
    evaluate,
    load_witness,
)  # fmt: skip
from pytest_robust.conformance import networks
from pytest_robust.conformance.networks import Wrapped
from pytest_robust.errors import DamagedError
from pytest_robust.evaluation.retry import Retried, retry
from pytest_robust.store import files
from pytest_robust.store.held import Held, check_file
from pytest_robust.store.witness import save_witness, stored_point, told

NET, (X, Y) = networks.trained(), networks.blobs(60, seed=2)
IMAGES = X.view(-1, 1, 3, 4), Y
CLASSES = list("abcde")


class Images(nn.Module):
    """The network on images of 3 x 4 pixels."""

    def forward(self, x):
        return NET(x.flatten(1))


class Named(nn.Module):
    """The network on a mapping."""

    def forward(self, pixels, shift):
        return NET(pixels + 0 * shift.unsqueeze(1))


def held(result, row, check="test_it.py::test_a"):
    by = result.broken_by[row]
    return Held(
        check,
        "run",
        "k",
        result.ids[row],
        row,
        int(result.predicted[row]),
        by,
        {"norm": result.threat.norm, "eps": result.threat.eps},
    )


def saved(path, threat=None, model=NET, data=(X, Y), objective=None):
    """A witness as a replay writes it, of the first example that is broken."""
    threat = threat or Linf("0.1")
    result = evaluate(model, data, threat, objective=objective, attacks="fgsm-t" if threat.terrain == "smooth" else None)
    row, point = next(iter(result.witnesses.items()))
    again = retry(model, data, result.ids[row], threat, point, objective=objective, classes=CLASSES)
    return save_witness(path, held(result, row), again, threat, objective)


THREATS = {
    "linf": Linf("8/80"),
    "fraction": Linf(Fraction(1, 9)),
    "numpy": Linf(np.float32(0.11)),
    "l2": L2(0.4, bounds=None),
    "l1": L1("0.9", bounds=(0, 1.5)),
    "l0": L0(3),
    "bounds": Linf(0.12, bounds=(torch.zeros(12), torch.linspace(1, 2, 12))),
    "mask": Linf(0.2, mask=torch.arange(12) > 2),
    "mask-numpy": Linf(0.2, mask=np.arange(12) > 2),
}


@pytest.mark.parametrize("name", THREATS)
def test_what_is_written_is_read_and_still_breaks(tmp_path, name):
    path, threat = tmp_path / "deep" / "w.safetensors", THREATS[name]
    one, other = saved(path, threat), load_witness(path)
    assert (other.check, other.id, other.found_by, other.file) == ("test_it.py::test_a", one.id, "fgsm-t", path)
    assert other.threat.summary() == threat.summary()
    assert other.threat.budget == threat.budget
    assert type(other.threat) is type(threat)
    assert isinstance(other.objective, Untargeted)
    assert other.example.ids == (other.id,)
    assert (other.label, other.predicted) == (one.label, one.predicted)
    assert other.label != other.predicted
    assert torch.equal(one.adversarial, other.adversarial)
    assert not torch.equal(other.origin, other.adversarial)
    sentence = rf"^still broken: witness {one.id} \([a-e] -> [a-e]\) at {threat.summary()}, found by fgsm-t \({path}\)$"
    with pytest.raises(AssertionError, match=sentence):
        other.assert_right(NET)
    other.assert_right(
        Wrapped(NET, lambda net, x: 0 * net(x) + nn.functional.one_hot(torch.tensor([other.label]), 5)).eval()
    )


def test_the_header_is_json(tmp_path):
    witness = saved(tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
        content = json.loads(file.metadata()["content"])
        assert set(file.keys()) == {"adversarial", "origin", "input."}
    assert content.items() >= {
        "schema": "pytest-robust witness 1", "check": "test_it.py::test_a", "id": witness.id, "found_by": "fgsm-t",
        "label": witness.label, "predicted": witness.predicted, "norm": "linf", "eps": "0.1", "classes": CLASSES,
    }.items()  # fmt: skip


@pytest.mark.parametrize("threat", [Spatial("30", 0.3), Photometric(0.4, 0.5), Negation()], ids=lambda t: t.norm)
def test_of_image_transforms(tmp_path, threat):
    saved(tmp_path / "w.safetensors", threat, Images().eval(), IMAGES)
    witness = load_witness(tmp_path / "w.safetensors")
    assert witness.threat.summary() == threat.summary()
    assert witness.adversarial.shape == (len(threat.limits),)
    with pytest.raises(AssertionError, match="still broken"):
        witness.assert_right(Images().eval())


def test_of_a_mapping(tmp_path):
    data = ({"pixels": X, "shift": torch.arange(60)}, Y)
    saved(tmp_path / "w.safetensors", model=Named().eval(), data=data)
    witness = load_witness(tmp_path / "w.safetensors")
    assert witness.example.inputs.keys() == {"pixels", "shift"}
    with pytest.raises(AssertionError, match="still broken"):
        witness.assert_right(Named().eval())


def test_of_a_target(tmp_path):
    saved(tmp_path / "w.safetensors", Linf(0.3), objective=Targeted(2))
    witness = load_witness(tmp_path / "w.safetensors")
    assert witness.objective == Targeted(2)
    with pytest.raises(AssertionError, match="-> c"):
        witness.assert_right(NET)


def test_what_normalises_the_inputs_is_needed_here_too(tmp_path):
    model = Wrapped(NET, lambda net, x: net(x * 0.25 + 0.5)).eval()
    saved(tmp_path / "w.safetensors")
    witness = load_witness(tmp_path / "w.safetensors")
    with pytest.raises(AssertionError, match=r"still broken: witness \w+ \(. -> .\) at"):
        witness.assert_right(model, normalize=(0.5, 0.25))


def test_a_model_that_is_wrong_without_attack_is_not_right(tmp_path):
    saved(tmp_path / "w.safetensors")
    with pytest.raises(AssertionError, match=r"without any attack; its adversarial example at linf 0.1 was found by fgsm-t"):
        load_witness(tmp_path / "w.safetensors").assert_right(Wrapped(NET, lambda net, x: -net(x)).eval())


# -- what cannot be used


@pytest.fixture
def path(tmp_path):
    saved(tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("at", range(0, 1000, 37))
def test_any_byte_that_changed_is_noticed(path, at):
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match=r"w\.safetensors"):
        load_witness(path)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_file_that_was_cut_is_noticed(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedError):
        load_witness(path)


def rewritten(path, change):
    content, arrays = files.read_arrays(path)
    change(content, arrays)
    files.write_arrays(path, content, arrays)


def farther(content, arrays):
    arrays["adversarial"] = arrays["adversarial"].copy()
    arrays["adversarial"][0] = arrays["origin"][0] + np.float32(0.2)


def undefined(content, arrays):
    arrays["adversarial"] = np.full_like(arrays["adversarial"], np.nan)


def reshaped(content, arrays):
    arrays["adversarial"] = arrays["adversarial"][:5]


def relabelled(content, arrays):
    content["label"] = (content["label"] + 1) % 5


def other_input(content, arrays):
    arrays["input."] = arrays["input."] + np.float32(0.01)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (farther, "the adversarial example is not within linf 0.1, as the file says"),
        (undefined, "the adversarial example is not within linf 0.1, as the file says"),
        (reshaped, "the adversarial example is not within linf 0.1, as the file says"),
        (lambda c, a: c["threat"]["arguments"].__setitem__(0, "0.01"), "the adversarial example is not within linf 0.01"),
        (relabelled, "the input is not the one of content id"),
        (other_input, "the input is not the one of content id"),
        (lambda c, a: c.pop("schema"), "is no witness, or one of a version that is not known"),
        (lambda c, a: c.update(schema="pytest-robust witness 2"), "is no witness, or one of a version that is not known"),
        (lambda c, a: c.pop("id"), "cannot be read as a witness"),
        (lambda c, a: a.pop("origin"), "cannot be read as a witness"),
        (lambda c, a: c["threat"].update(kind="Path"), "cannot be read as a witness"),
        (lambda c, a: c["threat"].update(arguments=["one", None]), "cannot be read as a witness"),
        (lambda c, a: c.update(label="cat"), "cannot be read as a witness"),
        (lambda c, a: c.update(input=None), "cannot be read as a witness"),
    ],
)
def test_a_file_that_is_whole_and_says_what_is_not_so(path, change, why):
    rewritten(path, change)
    with pytest.raises(DamagedError, match=why):
        load_witness(path)


def test_other_files(tmp_path, finished):
    from pytest_robust.store.folder import Folder

    folder = Folder(tmp_path)
    folder.finish("k", finished, {})
    with pytest.raises(DamagedError, match="is no witness"):
        load_witness(check_file(tmp_path, "k"))
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(DamagedError, match=r"text\.safetensors"):
        load_witness(tmp_path / "text.safetensors")
    with pytest.raises(RobustError, match=r"gone\.safetensors cannot be read: No such file .* --robust-witness PATH"):
        load_witness(str(tmp_path / "gone.safetensors"))


class OwnBall(Linf):
    """A threat that no file describes."""


def test_what_a_file_cannot_describe_is_not_written(tmp_path):
    with pytest.raises(ThreatError, match="cannot describe OwnBall, which is your own"):
        saved(tmp_path / "w.safetensors", OwnBall(0.1))
    result = evaluate(NET, (X, Y), Linf(0.1), attacks="fgsm-t")
    row, point = next(iter(result.witnesses.items()))
    again = retry(NET, (X, Y), result.ids[row], Linf(0.01), point)
    with pytest.raises(RobustError, match="no witness is written: the stored point is not within linf 0.01"):
        save_witness(tmp_path / "w.safetensors", held(result, row), again, Linf(0.01), None)
    (tmp_path / "file").touch()
    again = retry(NET, (X, Y), result.ids[row], Linf(0.1), point)
    with pytest.raises(RobustError, match="cannot be written"):
        save_witness(tmp_path / "file" / "w.safetensors", held(result, row), again, Linf(0.1), None)
    coarse = replace(again, example=replace(again.example, inputs=again.example.inputs.bfloat16()))
    with pytest.raises(RobustError, match="bfloat16"):
        save_witness(tmp_path / "w.safetensors", held(result, row), coarse, Linf(0.1), None)
    assert not (tmp_path / "w.safetensors").exists()


# -- what a finished check holds


def test_a_stored_point(tmp_path, finished):
    from pytest_robust.store.folder import Folder

    folder = Folder(tmp_path)
    folder.finish("k", finished, {})
    row, point = next(iter(finished.witnesses.items()))
    assert torch.equal(stored_point(tmp_path, held(finished, row)), point)
    survivor = finished.broken_by.index("clean")
    with pytest.raises(RobustError, match="holds no adversarial example of"):
        stored_point(tmp_path, held(finished, survivor))
    with pytest.raises(DamagedError, match="cannot be used .*; delete it and run the check again"):
        stored_point(tmp_path, replace(held(finished, row), id="f" * 16))
    check_file(tmp_path, "k").unlink()
    with pytest.raises(RobustError, match="cannot be read: No such file"):
        stored_point(tmp_path, held(finished, row))


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ("broken", "still broken: example 7 (class 1 -> class 2) at linf 0.1, found by pgd"),
        ("mended", "mended: the model is right on example 7 (class 1) at linf 0.1, found by pgd"),
        ("outside", "example 7 (class 1) was moved farther than linf 0.1 allows now, and the nearest point within breaks "),
        ("contested", "example 7 (class 1) at linf 0.1: the draws of this random model do not say whether it is still "),
    ],
)
def test_sentences(verdict, sentence):
    example = saved_example()
    again = Retried(example, verdict, False, True, 2, X[0], X[0])
    assert told(again, "example 7", "linf 0.1", "pgd").startswith(sentence)


def saved_example():
    from pytest_robust import Examples

    return Examples.of(X[:1], torch.tensor([1]))
