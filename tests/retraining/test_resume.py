"""A training that is interrupted at any moment goes on as if it had not been."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pytest_robust import Linf, retrain
from pytest_robust.conformance.networks import blobs, trained
from pytest_robust.errors import RobustError
from pytest_robust.retraining.kept import STATE

TRAIN, THREAT = blobs(400, seed=2), Linf("0.12")
QUICK = {"epochs": 6, "batch_size": 40}

CHILD = """
import sys, time
import torch
from torch.utils.data import DataLoader, TensorDataset
from pytest_robust import Linf, retrain
from pytest_robust.conformance.networks import blobs, trained

torch.set_num_threads(1)
def slowly(progress):
    print(progress.step, flush=True)
    time.sleep(0.01)
quick = dict(epochs=6, batch_size=40, checkpoint=sys.argv[1], progress=slowly)
found = retrain(trained(), blobs(400, seed=2), Linf("0.12"), **quick)
print("finished", flush=True)
"""


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


class StopError(Exception):
    pass


def stopping(at):
    def report(progress):
        if progress.step == at:
            raise StopError

    return report


@pytest.mark.parametrize("at", [1, 8, 9, 10, 20, 53])
def test_a_training_that_broke_off_goes_on_to_identical_weights(tmp_path, at):
    whole = retrain(trained(), TRAIN, THREAT, **QUICK)
    with pytest.raises(StopError):
        retrain(trained(), TRAIN, THREAT, checkpoint=tmp_path, progress=stopping(at), **QUICK)
    found = retrain(trained(), TRAIN, THREAT, checkpoint=tmp_path, **QUICK)
    assert same(found.model, whole.model)
    assert [(look.step, look.robust, look.passes) for look in found.looks] == [
        (look.step, look.robust, look.passes) for look in whole.looks
    ]


def test_so_does_one_of_a_loader_that_shuffles(tmp_path):
    def of(**more):
        loader = DataLoader(TensorDataset(*TRAIN), batch_size=40, shuffle=True)
        return retrain(trained(), loader, THREAT, epochs=5, method="free", **more)

    with pytest.raises(StopError):
        of(checkpoint=tmp_path, progress=stopping(31))
    steps = []
    found = of(checkpoint=tmp_path, progress=lambda progress: steps.append(progress.step))
    assert steps[0] > 20, "it went on, and did not begin anew"
    assert same(found.model, of().model)


def test_a_finished_training_is_not_run_again(tmp_path):
    first = retrain(trained(), TRAIN, THREAT, checkpoint=tmp_path, **QUICK)
    steps = []
    again = retrain(trained(), TRAIN, THREAT, checkpoint=tmp_path, progress=steps.append, **QUICK)
    assert not steps
    assert same(first.model, again.model)
    assert again.looks == first.looks


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"epochs": 7}, "the recipe's epochs was 6, and is 7"),
        ({"threat": Linf("0.1")}, "the threat was linf 0.12, and is linf 0.1"),
        ({"train_data": blobs(401, seed=2)}, "the training data was"),
        ({"model": torch.nn.Linear(12, 5)}, "the model was"),
    ],
)
def test_the_state_of_another_training_is_refused(tmp_path, change, why):
    arguments = {"model": trained(), "train_data": TRAIN, "threat": THREAT, "checkpoint": tmp_path, **QUICK}
    retrain(*list(arguments.values())[:3], checkpoint=tmp_path, **QUICK)
    arguments |= change
    with pytest.raises(RobustError, match=why):
        retrain(arguments.pop("model"), arguments.pop("train_data"), arguments.pop("threat"), **arguments)


@pytest.mark.parametrize("content", [b"", b"rubbish", None])
def test_a_damaged_state_is_named_and_kept(tmp_path, content):
    retrain(trained(), TRAIN, THREAT, checkpoint=tmp_path, **QUICK)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    with pytest.raises(RobustError, match=r"training\.safetensors cannot be what was kept of a training .*; delete it"):
        retrain(trained(), TRAIN, THREAT, checkpoint=tmp_path, **QUICK)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_loses_no_more_than_since_the_last_look(tmp_path, number):
    process = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while (line := process.stdout.readline().strip()) != "30":
        assert line, "it ended by itself"
    time.sleep(0.02)
    process.send_signal(number)
    rest = process.stdout.read().split()
    assert process.wait(30) != 0
    assert "finished" not in rest
    process.stdout.close()
    steps = []
    found = retrain(
        trained(), TRAIN, THREAT, checkpoint=tmp_path, progress=lambda progress: steps.append(progress.step), **QUICK
    )
    last = int([*rest, "30"][-2 if len(rest) > 1 else -1]) if rest else 30
    assert steps[0] > (last - 1 if number == signal.SIGTERM else 20)
    assert same(found.model, retrain(trained(), TRAIN, THREAT, **QUICK).model)
