"""xdist: the verdicts and the report of one process, and a failure where a result is lost."""

from __future__ import annotations

import json

import pytest
from projects import ARGUMENTS, Run

CHECKS = """
@pytest.mark.robust(eps=['2/255', '4/255', '8/255'], min_accuracy={'2/255': 0.2, '8/255': 0.4})
def test_floors(robust): robust(Fake(), 0)

def test_two(robust):
    robust(Fake(50), 0, eps=0.1, min_accuracy=0.4)
    assert robust(Fake(50), 0, eps=0.2).accuracy > 0.6

def test_error(robust): robust(Fake(raises=ValueError('no')), 0, eps=0.1)
def test_suspicious(robust): robust(Fake(50, level='suspicious'), 0, eps=0.1, min_accuracy=0.4)
def test_plain(): pass
weak = Fake(31)
@pytest.mark.skip
def test_skipped(robust): pass
"""


def test_same_verdicts_and_same_report(run_workers: Run, project):
    outputs, reports = [], []
    named = ("--robust-model=test_it:weak", "--robust-data=test_it:weak", "--robust-eps=2/255")
    project.makepyfile(
        spy="import sys\n"
        "def pytest_unconfigure(config):\n"
        "    if not hasattr(config, 'workerinput'): print('torch imported:', 'torch' in sys.modules)\n"
    )
    for workers in ("0", "2"):
        result = run_workers(CHECKS, f"-n{workers}", "--robust-report=r.json", "--robust-report=r.md", "-p", "spy", *named)
        result.assert_outcomes(passed=5, failed=3, skipped=1, warnings=5)  # 4: budget of the id
        outputs.append([line for line in result.outlines if line.startswith(("test_", "weak", "robust gate"))][-9:])
        assert f"torch imported: {workers == '0'}" in result.outlines
        reports.append(((project.path / "r.json").read_bytes(), (project.path / "r.md").read_bytes()))
    assert reports[0] == reports[1]
    assert outputs[0] == outputs[1]
    assert outputs[0][-1] == "robust gate: FAIL, 1 floor, 1 assertion, 1 error, 1 skipped"
    assert json.loads(reports[0][0])["complete"] is True


def test_worker_that_dies_fails_the_session(run_workers: Run, project):
    source = (
        "import os\ndef test_a(robust): robust(Fake(50), 0, eps=0.1, min_accuracy=0.4)\ndef test_b(robust): os._exit(0)\n"
    )
    result = run_workers(source, "-n1", "--robust-report=r.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*robust gate: FAIL, 1 error"])
    report = json.loads((project.path / "r.json").read_text())
    assert [error["id"] for error in report["errors"]] == ["test_it.py::test_b"]
    assert "crashed" in report["errors"][0]["message"]
    assert report["gate"]["verdict"] == "fail"


def test_result_that_is_lost_fails_the_session(run_workers: Run, project):
    # What cannot be sent ends the worker; without the ledger pytest says "1 passed" and exits 0.
    source = (
        "def test_a(robust): robust(Fake(50), 0, eps=0.1, min_accuracy=0.4)\n"
        "def test_b(robust, record_property):\n"
        "    record_property('x', object())\n"
        "    robust(Fake(30), 0, eps=0.1, min_accuracy=0.4)\n"
    )
    result = run_workers(source, "-n1", "--robust-report=r.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_b *MISSING: no result arrived",
            "ERROR: 1 of 2 collected tests never reported a result, test_it.py::test_b first: *",
            "robust gate: FAIL, 1 missing, incomplete",
        ]
    )
    report = json.loads((project.path / "r.json").read_text())
    assert (report["complete"], report["gate"]["verdict"], report["missing"]) == (False, "fail", ["test_it.py::test_b"])


def test_usage_error_in_a_worker_exits_4(project):
    project.makepyfile("import pytest\n@pytest.mark.robust(epsilon=1)\ndef test_a(robust): pass\n")
    result = project.runpytest_subprocess(*ARGUMENTS, "-p", "xdist.plugin", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: test_usage_error_in_a_worker_exits_4.py::test_a: marker robust(...): *unexpected keyword argument*"]
    )
    assert "INTERNALERROR" not in result.stdout.str()


def test_stopping_early_loses_nothing_by_itself(run_workers: Run):
    source = "".join(f"def test_{i}(robust): robust(Fake(30), 0, eps=0.1, min_accuracy=0.4)\n" for i in range(6))
    result = run_workers(source, "-n1", "-x")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["robust gate: FAIL, * floor*, incomplete"])
    assert "never reported" not in result.stdout.str()


def test_workers_share_the_gpus_out(monkeypatch):
    import torch

    from pytest_robust.pytest_plugin.call import shared_device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert shared_device("auto") == "auto"
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw3")
    assert shared_device("auto") == "cuda:1"
    assert shared_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert shared_device("auto") == "auto"
