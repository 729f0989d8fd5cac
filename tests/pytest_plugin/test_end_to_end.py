"""The plugin on the real engine: a linear model, of which the robust accuracy is known in closed form."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from projects import ARGUMENTS

MODEL = """
import torch

torch.manual_seed(0)
inputs = torch.rand(80, 6)
weight = torch.randn(2, 6)
weight -= weight.mean(1, keepdim=True)  # the boundary goes through the middle of the data
net = torch.nn.Linear(6, 2, bias=False)
net.weight.data = weight
labels = net(inputs).argmax(1)
data = (inputs, labels)

def expected(eps):
    # Under linf, without bounds, the margin falls by eps times the l1 norm of the difference of the weights.
    margin = (net(inputs)[:, 1] - net(inputs)[:, 0]).abs()
    return int((margin > eps * (weight[1] - weight[0]).abs().sum()).sum())
"""

TESTS = """
import pytest
import setup_model as m

@pytest.mark.robust(eps=["0.01", "0.05"], bounds=None, min_accuracy={"0.05": "100%"})
def test_floors(robust):
    result = robust(m.net, m.data)
    assert result.accuracy.k == m.expected(0.01)

def test_native(robust):
    result = robust(m.net, m.data, eps=0.05, bounds=None)
    assert result.accuracy.k == m.expected(0.05)
    assert result.accuracy == 1.0

def test_preflight(robust):
    robust(m.net, (m.inputs * 255, m.labels), eps=0.05)
"""


@pytest.fixture
def real(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(setup_model=MODEL, test_it=TESTS)
    pytester.syspathinsert()
    return pytester


def test_one_session_shows_every_kind_of_verdict(real):
    result = real.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", "--robust-report=r.json")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "E *assert robust accuracy *% >= 100.0% (linf 0.05, n=80, at most: decided on * of 80)",
            "E *assert robust accuracy *% == 100.0% (linf 0.05, n=80, 95% CI *)",
            "*test_preflight*",
            "bounds: inputs range from *255*",
            "test_floors?linf-0.01? *report only (no floor for linf 0.01)",
            "test_floors?linf-0.05? *FAIL floor",
            "test_native *FAIL assertion",
            "test_preflight *ERROR",
            "robust gate: FAIL, 1 floor, 1 assertion, 1 error",
        ]
    )
    checks = json.loads((real.path / "r.json").read_text())["checks"]
    assert all(check["cost"]["forward"] > 0 and check["cost"]["backward"] > 0 for check in checks)


def report(real, *options: str) -> str:
    real.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", "--robust-report=r.json", *options)
    return re.sub(r'"seconds": [0-9.e-]+', "", (real.path / "r.json").read_text())


def test_reports_are_equal_but_for_the_seconds(real):
    first = report(real)
    shutil.rmtree(real.path / ".robust")
    assert report(real) == first


def test_what_was_finished_is_not_run_again_and_says_so(real):
    first, second = report(real), report(real)
    assert '"cached": true' not in first
    assert second.count('"cached": true') == first.count('"cached": false') > 2
    assert second.replace('"cached": true', '"cached": false') == first
    assert len(list((real.path / ".robust" / "runs").iterdir())) >= 1
    assert (real.path / ".robust" / ".gitignore").read_text().endswith("*\n")


def test_a_model_without_a_test_file(real):
    (real.path / "test_it.py").unlink()
    named = ("--robust-model=setup_model:net", "--robust-data=setup_model:data", "--robust-eps=0.05", "--robust-n=40")
    result = real.runpytest_inprocess(*ARGUMENTS, *named, "--robust-fail-under=1", "--robust-device=cpu")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert robust accuracy *% >= 100.0% (linf 0.05, n=40, at most: decided on * of 40)"])
