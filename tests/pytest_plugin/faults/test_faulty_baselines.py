"""What can go wrong with a baseline: no verdict is lost, and no regression turns green."""

from __future__ import annotations

import json
import random

import pytest
from projects import Run

UPDATE, COMPARE, RELEASE = "--robust-update", "--robust-baseline", "--robust-gate=release"
NET = 'def test_net(robust): robust(Fake({robust}, n=1000, clean=940{more}), 0, eps="8/255")\n'
OTHER = 'def test_other(robust): robust(Fake(700, n=1000, clean=940), 0, eps="8/255")\n'
SAME, WORSE = NET.format(robust=600, more=""), NET.format(robust=450, more="")
FILE = "robust-baseline/test_it/test_net.json"


@pytest.fixture
def accepted(run: Run, project):
    """A project with two accepted checks."""
    assert run(SAME + OTHER, UPDATE).ret == 0
    return project


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "not text": lambda data: b"\xff\xfe" + data,
    "not JSON": lambda data: b"PK\x03\x04",
    "another JSON": lambda data: b'{"schema": 1}',
    "a list": lambda data: b"[1]",
    "of a later version": lambda data: data.replace(b'"schema": 1', b'"schema": 99'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_baseline_ends_the_run_and_is_named(run, accepted, damage):
    path = accepted.path / FILE
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    result = run(SAME + OTHER, COMPARE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --robust-baseline: *test_net.json*--robust-update writes it anew*"])


def test_no_flipped_bit_lets_a_regression_through_a_release(run, accepted):
    path, rng = accepted.path / FILE, random.Random(0)
    whole = path.read_bytes()
    for _ in range(25):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert run(WORSE + OTHER, COMPARE, RELEASE).ret != 0


def other_ids(path) -> None:
    content = json.loads(path.read_text())
    content["check"]["id"] = "test_it.py::test_of_another_name"
    path.write_text(json.dumps(content))


ANEW = "*; evaluate as the baseline was, or the accepted model as now: pytest --robust-update, and commit"
UNLIKE = f"test_it.py::test_net: incomparable with {FILE}: "
NOT_RUN = (
    "1 with a baseline not run",
    f"test_it.py::test_net: MISSING: it has a baseline, {FILE}, and did not run; select it, *pytest-robust baseline prune",
)
RELEASED = {
    "baseline deleted": (SAME + OTHER, (), lambda path: path.unlink(),
                         ("1 without a baseline",
                          f"test_it.py::test_net: new: there is no {FILE}; accept the check: pytest --robust-update*")),
    "baseline of another check": (SAME + OTHER, (), other_ids,
                                  ("1 with a baseline not run", "test_it.py::test_of_another_name: MISSING: *")),
    "other data": (SAME.replace("n=1000", "n=999") + OTHER, (), None,
                   ("1 incomparable", f"{UNLIKE}1 of the baseline's 1000 examples are not there any more{ANEW}")),
    "other attack": (NET.format(robust=600, more=", attack='new'") + OTHER, (), None,
                     ("1 incomparable", f"{UNLIKE}something in threat or attacks differs{ANEW}")),
    "other seed": (SAME + OTHER, ("--robust-seed=1",), None,
                   ("2 incomparable", f"{UNLIKE}seed differs: 0 in the baseline, 1 now{ANEW}")),
    "deselected by -k": (SAME + OTHER, ("-k", "other"), None, NOT_RUN),
    "deselected by name": (SAME + OTHER, ("--deselect=test_it.py::test_net",), None, NOT_RUN),
    "taken out": (OTHER, (), None, NOT_RUN),
}  # fmt: skip
"""Of each fault: the project, options, what is done to the baseline, and what the gate and the line below the table say."""


@pytest.mark.parametrize("fault", RELEASED)
def test_what_is_not_compared_stops_a_release(run, accepted, fault):
    source, options, spoil, told = RELEASED[fault]
    if spoil is not None:
        spoil(accepted.path / FILE)
    result = run(source, COMPARE, RELEASE, *options)
    assert result.ret == 1
    gate, line = told
    result.stdout.fnmatch_lines([line, f"robust gate (release): FAIL*{gate}*"])


def test_stopping_and_choosing_tests_keeps_a_regression_red(run, accepted):
    assert run(WORSE + OTHER, COMPARE, "-x").ret == 1
    assert run(WORSE + OTHER, COMPARE, "--lf").ret == 1
    assert run(WORSE + OTHER, COMPARE, "-k", "net").ret == 1
    for seed in range(3):
        assert run(WORSE + OTHER, COMPARE, "-p", "pytest_randomly", f"--randomly-seed={seed}").ret == 1


def test_what_was_not_run_is_said_where_it_fails_nothing(run, accepted):
    result = run(WORSE + OTHER, COMPARE, "-k", "other")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["robust gate (no-regression): pass, 1 check, 1 with a baseline not run"])


def test_collecting_only_writes_and_judges_nothing(run, accepted):
    before = (accepted.path / FILE).read_text()
    for option in (UPDATE, COMPARE):
        result = run(WORSE + OTHER, option, "--co")
        assert result.ret == 0
        assert "robust gate" not in result.stdout.str()
    assert (accepted.path / FILE).read_text() == before


def test_a_rerun_turns_no_regression_green(run, accepted):
    """Neither where the next call is another, nor where there is none."""
    flaky = "calls = []\ndef test_net(robust):\n    calls.append(1)\n"
    later = "    robust(Fake(450 if len(calls) == 1 else 600, n=1000, clean=940), 0, eps='8/255')\n"
    never = "    if len(calls) == 1: robust(Fake(450, n=1000, clean=940), 0, eps='8/255')\n"
    renamed = "    robust(Fake(450 if len(calls) == 1 else 600, n=1000, clean=940), 0, eps='8/255', "
    renamed += "name=None if len(calls) == 1 else 'again')\n"
    for body in (later, never, renamed):
        result = run(flaky + body + OTHER, COMPARE, "-p", "pytest_rerunfailures", "--reruns=2", "-Wignore")
        assert result.ret == 1
        result.stdout.fnmatch_lines(["robust gate (no-regression): FAIL, 1 regressed*"])


def test_a_rerun_is_no_way_to_a_baseline(run, project):
    low = "calls = []\ndef test_net(robust):\n    calls.append(1)\n"
    low += "    robust(Fake(31 if len(calls) == 1 else 60), 0, eps=1, min_accuracy=0.4)\n"
    assert run(low, UPDATE, "-p", "pytest_rerunfailures", "--reruns=2", "-Wignore").ret == 1
    assert not (project.path / "robust-baseline").exists()


def test_workers_give_the_same_bytes_and_verdicts(run, run_workers, project):
    groups = "@pytest.mark.xdist_group('g')\n"
    assert run(SAME + OTHER, UPDATE).ret == 0
    reports = []
    for options in (("-n0",), ("-n2",), ("-n2", "--dist=loadgroup")):
        result = run_workers(
            groups + WORSE + groups + OTHER, COMPARE, "--robust-report=r.json", "--robust-report=r.md", *options
        )
        assert result.ret == 1
        result.stdout.fnmatch_lines(["robust gate (no-regression): FAIL, 1 regressed"])
        reports.append([(project.path / name).read_bytes() for name in ("r.json", "r.md")])
    assert reports[0] == reports[1] == reports[2]


def test_a_worker_that_dies_is_no_pass(run, run_workers):
    assert run(SAME + OTHER, UPDATE).ret == 0
    dying = "import os\ndef test_net(robust): os._exit(0)\n"
    result = run_workers(dying + OTHER, COMPARE, "-n2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["robust gate (no-regression): FAIL, 1 error, 1 with a baseline not run"])


def test_why_a_release_stops_is_said_with_q_as_well_and_what_stops_nothing_is_not(run, accepted):
    (accepted.path / FILE).unlink()
    gates = ("no-regression", "release")
    lines = {gate: run(SAME + OTHER, COMPARE, f"--robust-gate={gate}", "-q").outlines for gate in gates}
    new = [gate for gate, told in lines.items() if any(line.startswith("test_it.py::test_net: new: ") for line in told)]
    assert new == ["release"]
