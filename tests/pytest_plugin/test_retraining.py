"""``--robust-retrain``: what failed is trained, and neither verdict nor model change. The engines are the real ones."""

from __future__ import annotations

import json

import pytest
import torch
from projects import ARGUMENTS
from safetensors.torch import load_file

# Before pytest runs inside a test: it forgets the modules that it imports itself.
from pytest_robust import retraining  # noqa: F401
from pytest_robust.conformance import networks

TESTS = """
import pytest, torch
from pytest_robust.conformance import networks

net, data = networks.trained(), networks.blobs(200, seed=3)
before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

@pytest.mark.robust(eps="0.12", min_accuracy=FLOOR)
def test_net(robust):
    robust(net, data)

def test_passes(robust):
    robust(net, data, eps="0.01", min_accuracy=0.5)

def test_the_net_is_what_it_was():
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
"""
TRAINER = """
import pytest
from pytest_robust.conformance import networks

@pytest.fixture
def robust_trainer():
    return {"train_data": networks.blobs(400, seed=2), "epochs": 20, "batch_size": 40}
"""
OF_IT = "test_it.py::test_net[linf-0.12]"
LINE = "retrained test_it.py::test_net?linf-0.12?:"


@pytest.fixture
def project(pytester):
    def run(*options, floor=0.75, trainer=TRAINER, tests=TESTS):
        pytester.makepyfile(test_it=tests.replace("FLOOR", str(floor)))
        pytester.makeconftest(trainer)
        return pytester.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", *options)

    return run


def report(path):
    checks = json.loads((path / "report.json").read_text())["checks"]
    return {check["id"]: check["retrained"] for check in checks}


def test_a_failing_model_is_retrained_saved_and_still_fails(project, pytester):
    result = project("--robust-retrain", "--robust-report", "report.json", "--robust-report", "report.md")
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines([
        "E   assert robust accuracy * >= 75.0% *",
        "retrained    robust 67.5% -> 8*% (+1* pt, 90% CI +* to +*), clean 100.0% -> *",
        f"{LINE} robust 67.5% -> 8*",
        f"{LINE} it passes this check; by nfgsm, * epochs of standard training; saved in .robust/retrained/*",
        "robust gate: FAIL, 1 floor",
    ])  # fmt: skip
    folder = pytester.path / ".robust/retrained/test_it/test_net-linf-0.12"
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]
    card = json.loads((folder / "card.json").read_text())
    assert card["check"] == OF_IT
    assert card["met"] is True
    state = networks.trained().state_dict()
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == state.keys()
    assert any(not torch.equal(weights[name], state[name]) for name in state)
    told = report(pytester.path)
    assert told["test_it.py::test_passes"] is None
    assert told[OF_IT]["robust"]["after"]["k"] == card["after"]["robust"]["k"] > told[OF_IT]["robust"]["before"]["k"]
    assert "it passes this check" in (pytester.path / "report.md").read_text()


def test_without_the_option_nothing_is_trained(project, pytester):
    result = project("--robust-report", "report.json")
    result.assert_outcomes(failed=1, passed=2)
    assert set(report(pytester.path).values()) == {None}
    assert not (pytester.path / ".robust/retrained").exists()
    assert "retrained" not in result.stdout.str()


def test_train_data_of_the_call_comes_first_and_a_bare_value_is_data(project):
    tests = TESTS.replace("robust(net, data)", "robust(net, data, train_data=networks.blobs(400, seed=5))")
    trainer = "import pytest\n@pytest.fixture\ndef robust_trainer():\n    return {'epochs': 6, 'batch_size': 40}\n"
    project("--robust-retrain", "-k", "net", tests=tests, trainer=trainer).stdout.fnmatch_lines([f"{LINE} robust *"])
    bare = TRAINER.replace(
        '{"train_data": networks.blobs(400, seed=2), "epochs": 20, "batch_size": 40}', "networks.blobs(400, 2)"
    )
    project("--robust-retrain", "-k", "net", trainer=bare).stdout.fnmatch_lines([f"{LINE} robust *"])


@pytest.mark.parametrize(
    ("trainer", "why"),
    [
        ("", "ValueError: there is nothing to train on; give train_data= *a fixture robust_trainer*"),
        (TRAINER.replace("blobs(400, seed=2)", "blobs(200, seed=3)"), "PreflightError: * holds * of the examples *"),
        (
            TRAINER.replace('"epochs"', '"epoch"'),
            "ValueError: the fixture robust_trainer says epoch, *",
        ),
        (
            TRAINER.replace('"epochs": 20', '"n": 60'),
            "ValueError: *trainer says n, *the proof is the check*",
        ),
        (TRAINER.replace("    return", "    pytest.skip('not today')\n    return"), "Skipped: not today"),
    ],
)
def test_what_goes_wrong_is_told_and_changes_no_verdict(project, trainer, why):
    result = project("--robust-retrain", trainer=trainer)
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines([f"{LINE} it was not retrained: {why}"])
    result.stdout.fnmatch_lines(["robust gate: FAIL, 1 floor"])


def test_a_floor_out_of_reach_is_told(project):
    result = project("--robust-retrain", floor=0.99)
    result.stdout.fnmatch_lines([f"{LINE} it still fails this check: the floor is missed; by nfgsm*"])


def test_an_interrupted_training_goes_on(project, pytester, monkeypatch):
    steps = []

    def show(watcher, name, stop_at=[40]):  # noqa: B006 - once
        def report(progress):
            steps.append(progress.step)
            if progress.step == stop_at[0]:
                stop_at[0] = 0
                raise RuntimeError("the power went off")

        return report

    monkeypatch.setattr("pytest_robust.pytest_plugin.retraining._shown", show)
    project("--robust-retrain").stdout.fnmatch_lines(["*it was not retrained: RuntimeError: the power went off"])
    began = len(steps)
    project("--robust-retrain").stdout.fnmatch_lines(["*it passes this check*"])
    assert steps[0] == 1
    assert 1 < steps[began] <= 41


def test_xdist_workers_retrain_too(project):
    result = project("--robust-retrain", "-p", "xdist.plugin", "-n1", "-k", "net")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines([f"{LINE} robust 67.5% -> 8*"])
