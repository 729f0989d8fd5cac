"""``--robust-replay``: one stored adversarial example, put to the model again. The engine is the real one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from projects import ARGUMENTS

# Before pytest runs inside a test: it forgets the modules that it imports itself.
from pytest_robust.conformance import networks  # noqa: F401
from pytest_robust.evaluation import retry  # noqa: F401
from pytest_robust.evaluation.passes import Passes
from pytest_robust.store import witness

# What the net is depends on the text in a file, as weights do.
NETS = """
import pathlib
import torch
from pytest_robust.conformance import networks

trained, data = networks.trained(), networks.blobs(60, seed=2)
state = pathlib.Path(__file__).with_name("state.txt").read_text()

def remembering(net, x):
    # Right within any reach: each point has the label of the nearest of the data.
    labels = data[1][torch.cdist(x, data[0]).argmin(1)]
    return 0 * net(x) + torch.nn.functional.one_hot(labels, 5)

def wrong(net, x):
    return -net(x)

def undefined(net, x):
    # Not a number at all but the data.
    known = (torch.cdist(x, data[0]).amin(1) < 0.02).unsqueeze(1)
    return torch.where(known, net(x), torch.nan)

net = {
    "weak": trained,
    "mended": networks.Wrapped(trained, remembering),
    "wrong": networks.Wrapped(trained, wrong),
    "undefined": networks.Wrapped(trained, undefined),
}[state].eval()
"""
TESTS = """
import pytest, nets

@pytest.mark.robust(eps=["0.02", "0.1"], attacks="fgsm-t", min_accuracy={"0.1": 0.99})
def test_marked(robust):
    robust(nets.net, nets.data, profile="release")

def test_native(robust):
    result = robust(nets.net, nets.data, eps=0.1, attacks="fgsm-t")
    assert result.accuracy >= 0.99
    assert result.no_such_attribute

def test_plain():
    raise AssertionError("not selected")
"""


class Project:
    """A project whose checks have run once, on a weak model."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester, self.path = pytester, pytester.path
        pytester.makepyfile(nets=NETS)
        pytester.syspathinsert()
        self.model("weak")

    def model(self, state: str) -> None:
        (self.path / "state.txt").write_text(state)

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", *args)

    def tests(self, source: str) -> None:
        self.pytester.makepyfile(test_it=source)

    def checks(self) -> dict[str, dict]:
        """Of the last run, by id."""
        last = max((self.path / ".robust" / "runs").iterdir())
        return {check["id"]: check for check in json.loads(last.read_text())["checks"]}


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    project = Project(pytester)
    project.tests(TESTS)
    project.run()
    return project


def rows(check: dict, by: str | None = "fgsm-t") -> list[int]:
    return [row for row, name in enumerate(check["examples"]["broken_by"]) if name == by]


NATIVE, SMALL, LARGE = (f"test_it.py::{name}" for name in ("test_native", "test_marked[linf-0.02]", "test_marked[linf-0.1]"))


@pytest.fixture
def no_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a replay takes no gradient")

    monkeypatch.setattr(Passes, "gradient", refuse)


@pytest.mark.parametrize("check", [NATIVE, LARGE])
def test_what_is_still_broken_fails(project, no_attack, check):
    kept = project.checks()[check]
    row = rows(kept)[-1]
    files = sorted(path.stat().st_mtime_ns for path in (project.path / ".robust").rglob("*") if path.is_file())
    result = project.run(check, f"--robust-replay={row}")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    label, now = (kept["examples"][key][row] for key in ("labels", "predicted"))
    sentence = f"still broken: example {row} (class {label} -> class {now}) at linf 0.1, found by fgsm-t"
    result.stdout.fnmatch_lines(
        [f"robust: replay of {row}, no attack", f"E *{sentence}", f"{check.replace('[', '?')[:-1]}*"]
    )
    assert f"{check}: {sentence}" in result.stdout.str()
    assert "robust gate" not in result.stdout.str()
    assert "no evidence" not in result.stdout.str()
    assert sorted(path.stat().st_mtime_ns for path in (project.path / ".robust").rglob("*") if path.is_file()) == files


@pytest.mark.parametrize("check", [NATIVE, LARGE])
@pytest.mark.parametrize("more", [(), ("-q",)])
def test_what_is_mended_passes_and_says_that_it_is_no_evidence(project, no_attack, check, more):
    row = rows(project.checks()[check])[0]
    project.model("mended")
    result = project.run(check, f"--robust-replay={row}", *more)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert f"{check}: mended: the model is right on example {row} (class " in result.stdout.str()
    assert "no evidence of robustness" in result.stdout.str()


def test_the_weakest_hit_of_a_report_is_reproduced_by_the_line_it_prints(project):
    (project.path / ".robust").rename(project.path / "gone")
    reports = ("--robust-report=r.json", "--robust-report=r.md", "--robust-report=r.html")
    shown = project.run(LARGE, *reports).stdout.str()
    (command,) = re.findall(r'^reproduce    pytest (".*" --robust-replay \d+)$', shown, re.MULTILINE)
    assert f'\nrerun        pytest "{LARGE}"\n' in shown
    nodeid, row = re.match(r'"(.*)" --robust-replay (\d+)', command).groups()
    (check,) = json.loads((project.path / "r.json").read_text())["checks"]
    assert (nodeid, int(row)) == (LARGE, check["weakest"]["index"])
    assert check["replay"] == f"pytest {command}"
    assert f"\nreproduce    pytest {command}\n" in (project.path / "r.md").read_text()
    assert command.replace('"', "&#34;") in (project.path / "r.html").read_text()
    result = project.run(nodeid, "--robust-replay", row)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *still broken: example {row} *"])


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("robust(net, nets.data, eps=0.1, attacks='fgsm-t')", "a model that cannot be seen through"),
        ("robust.curve(nets.net, nets.data, budgets=['0.05', '0.1'], attacks='fgsm-t')", "the points of a curve"),
    ],
)
def test_no_line_promises_what_is_not_stored(project, call, why):
    opaque = "net = nets.networks.Wrapped(nets.trained, lambda inner, x: inner(x))\nnet.opaque = threading.Lock()\n"
    project.tests(f"import nets, threading\n{opaque}def test_a(robust):\n    {call}\n    assert False\n")
    result = project.run("-W", "ignore")
    result.assert_outcomes(failed=1)
    assert "weakest hit" in result.stdout.str()
    result.stdout.fnmatch_lines(['reproduce    pytest "test_it.py::test_a"'])
    assert "--robust-replay" not in result.stdout.str(), why
    refused = project.run("--robust-replay=3")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


def test_a_content_id_or_its_beginning_is_an_id(project):
    check = project.checks()[NATIVE]
    row = rows(check)[0]
    id = check["examples"]["ids"][row]
    for typed in (id, id[:6], id[:9].upper()):
        result = project.run(NATIVE, f"--robust-replay={typed}")
        result.stdout.fnmatch_lines([f"E *still broken: example {row} *"])


def test_only_the_tests_whose_check_holds_the_example_are_run(project):
    checks = project.checks()
    row = next(row for row in rows(checks[LARGE]) if row in rows(checks[SMALL], None))
    result = project.run(f"--robust-replay={row}")
    result.assert_outcomes(failed=2, deselected=2)
    both = next(iter(set(rows(checks[LARGE])) & set(rows(checks[SMALL]))))
    result = project.run(f"--robust-replay={both}", "-k", "marked")
    result.assert_outcomes(failed=2, deselected=2)
    for eps in ("0.02", "0.1"):
        assert re.search(rf"^E .*still broken: example {both} .* at linf {eps}, found", result.stdout.str(), re.MULTILINE)


def test_what_is_not_there_is_never_green(project):
    check = project.checks()[NATIVE]
    robust, clean = rows(check, None)[0], rows(check, "clean")[0]
    told = {
        str(robust): f"{NATIVE}: example {robust} survived every attack (run 2*)",
        str(clean): f"{NATIVE}: example {clean} is wrong without any attack, so none was found (run 2*)",
        "60": f"{NATIVE}: its last run, 2*, has 60 examples, 0 to 59, and none of this ID",
        "abcdef01": f"{NATIVE}: its last run, 2*, has 60 examples, 0 to 59, and none of this ID",
    }
    for typed, reason in told.items():
        result = project.run(NATIVE, f"--robust-replay={typed}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        where = re.escape(str(project.path / ".robust"))
        (error,) = [line for line in result.errlines if line.startswith("ERROR")]
        assert re.match(rf"ERROR: --robust-replay {typed}: there is no such adversarial example .* in {where} ", error)
        assert re.search(re.escape(reason).replace(r"2\*", "2[^ ]*"), error)
        assert "run it again without --robust-replay" in error


def test_without_any_run_it_says_what_to_do(pytester):
    project = Project(pytester)
    project.tests(TESTS)
    result = project.run("--robust-replay=3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --robust-replay 3: *{NATIVE}: no finished check of it is kept*"])
    result = project.run("--robust-replay=3", "-k", "plain")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --robust-replay 3: no robust test is selected; name the test*"])


def test_an_error_of_the_collection_is_what_is_said(project):
    project.pytester.makepyfile(test_it="import no_such_module\n")
    result = project.run("--robust-replay=3")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*No module named 'no_such_module'*"])


@pytest.mark.parametrize("typed", ["417x", "-1", "abcde", "0" * 5 + "g", "a" * 17, "test_a"])
def test_what_can_be_no_id_exits_4(pytester, typed):
    result = pytester.runpytest_inprocess(*ARGUMENTS, f"--robust-replay={typed}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --robust-replay: '{typed}' names no example: give its number*"])


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--robust-update", "--robust-update"),
        ("--robust-baseline", "--robust-baseline"),
        ("--robust-baseline=git:HEAD", "--robust-baseline"),
        ("--robust-gate=release", "--robust-gate"),
        ("--robust-margin=2pt", "--robust-margin"),
        ("--robust-report=r.json", "--robust-report"),
    ],
)
def test_a_replay_is_not_combined_with_what_takes_an_evaluation(project, option, named):
    result = project.run(NATIVE, "--robust-replay=3", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --robust-replay looks at one stored example and *: leave out {named}"])


def test_a_replay_is_not_combined_with_a_self_check(project):
    result = project.run("--robust-replay=3", "--robust-selfcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_gates_and_floors_of_the_ini_file_are_not_meant_for_a_replay(project):
    row = rows(project.checks()[NATIVE])[0]
    project.pytester.makeini("[pytest]\nrobust_gate = release\nrobust_fail_under = 0.99\n")
    project.model("mended")
    project.run(NATIVE, f"--robust-replay={row}").assert_outcomes(passed=1)


def test_changed_data_are_an_error(project):
    row = rows(project.checks()[NATIVE])[0]
    project.tests(TESTS.replace("nets.data, eps", "(nets.data[0] * 0.5, nets.data[1]), eps"))
    result = project.run(NATIVE, f"--robust-replay={row}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"--robust-replay {row}: example {row} of {NATIVE}, stored by run 2*has changed*attacked anew"]
    )


def test_other_and_more_data_do_not_matter(project):
    row = rows(project.checks()[NATIVE])[0]
    flipped = "tuple(__import__('torch').cat([part, part.flip(0)])[5:].flip(0) for part in nets.data), eps"
    project.tests(TESTS.replace("nets.data, eps", flipped))
    result = project.run(NATIVE, f"--robust-replay={row}")
    result.stdout.fnmatch_lines([f"E *still broken: example {row} *"])


def test_a_smaller_threat_is_no_pass(project):
    check = project.checks()[NATIVE]
    project.tests(TESTS.replace("eps=0.1", "eps=0.03"))
    results = {row: project.run(NATIVE, f"--robust-replay={row}") for row in rows(check)}
    for result in results.values():
        result.assert_outcomes(failed=1)
    lines = {row: [line for line in result.outlines if re.match("E  |--robust", line)] for row, result in results.items()}
    told = {row: one for row, (one, *_) in lines.items()}
    cut = [line for line in told.values() if "at linf 0.03, found by fgsm-t, where the stored change is larger" in line]
    outside = [line for line in told.values() if "was moved farther than linf 0.03 allows now" in line]
    assert cut
    assert outside
    assert len(cut) + len(outside) == len(told)


def test_another_space_is_an_error(project):
    row = rows(project.checks()[NATIVE])[0]
    spatial = "images, labels = nets.data[0].view(60, 1, 3, 4), nets.data[1]\n"
    call = "robust(lambda x: nets.net(x.flatten(1)), (images, labels), pytest_robust.Spatial(10, 0.1))"
    project.tests(f"import nets, pytest_robust\n{spatial}def test_native(robust): {call}\n")
    result = project.run(NATIVE, f"--robust-replay={row}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*it was found under linf 0.1, [[]0, 1[]], and the check now asks for spatial 10deg,0.1*"])


def test_a_damaged_file_is_an_error(project):
    check = project.checks()[NATIVE]
    path = project.path / ".robust" / "checks" / f"{check['key']}.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    result = project.run(NATIVE, f"--robust-replay={rows(check)[0]}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"{path} cannot be used (*); delete it and run the check again*"])
    path.unlink()
    result = project.run(NATIVE, f"--robust-replay={rows(check)[0]}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *was broken, but the file {path} is gone*"])


def test_a_model_that_is_wrong_without_attack_is_still_broken(project):
    row = rows(project.checks()[NATIVE])[0]
    project.model("wrong")
    result = project.run(NATIVE, f"--robust-replay={row}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"E *still broken: example {row} (* -> *) without any attack; its adversarial example at *"]
    )


def test_not_a_number_is_not_mended(project):
    row = rows(project.checks()[NATIVE])[0]
    project.model("undefined")
    result = project.run(NATIVE, f"--robust-replay={row}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*returned NaN or infinity at the adversarial example of *"])


SEVERAL = """
import pytest, nets

def test_two(robust):
    robust(nets.net, nets.data, eps=0.02, attacks="fgsm-t", name="small")
    robust(nets.net, nets.data, eps=0.1, attacks="fgsm-t", name="large")
    assert not "reached in a replay"

def test_asserting(robust):
    assert robust(nets.net, nets.data, eps=0.02, attacks="fgsm-t").accuracy > 0
    assert robust(nets.net, nets.data, eps=0.1, attacks="fgsm-t").accuracy > 0
"""


def test_several_checks_of_a_test(pytester):
    project = Project(pytester)
    project.tests(SEVERAL)
    project.run()
    checks = project.checks()
    small, large = (rows(checks[f"test_it.py::test_two::{name}"]) for name in ("small", "large"))
    both, only = next(row for row in small if row in large), next(row for row in large if row not in small)
    project.run("-k", "two", f"--robust-replay={only}").stdout.fnmatch_lines(
        [f"E *still broken: example {only} *linf 0.1,*"]
    )
    project.model("mended")
    result = project.run("-k", "two", f"--robust-replay={both}")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.stdout.str().count(": mended: the model is right on") == 2
    # What is asserted of the first check cannot be answered, and the second was not reached: no pass.
    result = project.run("-k", "asserting", f"--robust-replay={only}")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        ["*.accuracy is asked of a check that was not evaluated, before *test_asserting#2 was reached*"]
    )
    result = project.run("-k", "asserting", f"--robust-replay={both}")
    result.assert_outcomes(failed=1, deselected=1)


@pytest.mark.parametrize("state", ["weak", "mended"])
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("    try: robust(*CHECK)\n    except Exception: pass\n", {"weak": "still broken: *(caught by the test)"}),
        (
            "    return\n",
            {"weak": "*test ended before *test_a was reached*", "mended": "*test ended before *test_a was reached*"},
        ),
        (
            "    pytest.skip('today')\n",
            dict.fromkeys(("weak", "mended"), "ERROR: *the example of *test_a was not replayed: its test was skipped*"),
        ),
    ],
    ids=["caught", "never-called", "skipped"],
)
def test_no_test_can_turn_it_green(pytester, source, told, state):
    project = Project(pytester)
    call = "robust(nets.net, nets.data, eps=0.1, attacks='fgsm-t')\n"
    project.tests(f"import pytest, nets\ndef test_a(robust):\n    {call}")
    project.run()
    row = rows(project.checks()["test_it.py::test_a"])[0]
    project.tests("import pytest, nets\ndef test_a(robust):\n" + source.replace("robust(*CHECK)", call.strip()))
    project.model(state)
    result = project.run(f"--robust-replay={row}")
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if state in told else 0)
    if state in told:
        result.stdout.fnmatch_lines([f"*{told[state]}"])


@pytest.mark.parametrize("mark", ["xfail", "skip"])
def test_a_mark_cannot_turn_it_green(project, mark):
    row = rows(project.checks()[NATIVE])[0]
    project.tests(TESTS.replace("def test_native", f"@pytest.mark.{mark}\ndef test_native"))
    result = project.run(NATIVE, f"--robust-replay={row}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = {
        "xfail": "is still broken, and its test did not fail (xfail?)",
        "skip": "was not replayed: its test was skipped*",
    }
    result.stdout.fnmatch_lines([f"ERROR: --robust-replay {row}: *{told[mark]}"])


def test_a_rerun_does_not_turn_it_green(project):
    row = rows(project.checks()[NATIVE])[0]
    result = project.run(NATIVE, f"--robust-replay={row}", "-p", "pytest_rerunfailures", "--reruns=2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)


def test_a_model_without_a_test_file(pytester):
    project = Project(pytester)
    named = ("--robust-model=nets:net", "--robust-data=nets:data", "--robust-eps=0.1", "--robust-attack=fgsm-t")
    shown = project.run(*named, "--robust-fail-under=0.95").stdout.str()
    (row,) = re.findall(r"^reproduce    pytest --robust-model .* --robust-replay (\d+)$", shown, re.MULTILINE)
    result = project.run(*named, f"--robust-replay={row}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*still broken: example {row} *"])
    project.model("mended")
    project.run(*named, f"--robust-replay={row}").assert_outcomes(passed=1)


def test_numbers_are_those_of_the_last_run_and_an_older_one_may_have_found_it(project):
    check = project.checks()[NATIVE]
    row = rows(check)[-1]
    project.model("mended")
    project.run(NATIVE)  # where it survives
    project.model("weak")
    result = project.run(NATIVE, f"--robust-replay={row}")
    result.stdout.fnmatch_lines([f"E *still broken: example {row} *, found by fgsm-t"])


def test_workers_say_the_same(project):
    row = str(rows(project.checks()[NATIVE])[0])

    def run(workers: int, *args: str) -> pytest.RunResult:
        several = ("-p", "xdist.plugin", f"-n{workers}")
        return project.pytester.runpytest_subprocess(*ARGUMENTS, *several, *args, timeout=120)

    result = run(2, "--robust-replay", row)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"\n{NATIVE}: still broken: example {row} (" in result.stdout.str()
    project.model("mended")
    result = run(1, "--robust-replay", row)
    assert result.ret == 0
    assert f"\n{NATIVE}: mended: the model is right on example {row} (" in result.stdout.str()
    result = run(1, "--robust-replay", "60")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --robust-replay 60: there is no such adversarial example*"])


def test_collecting_for_a_replay_imports_nothing_heavy(project):
    row = rows(project.checks()[NATIVE])[0]
    project.pytester.makepyfile(
        test_it="def test_native(robust): pass\n",
        spy="import sys\ndef pytest_unconfigure(config): print('heavy:', {'torch', 'numpy', 'scipy'} & set(sys.modules))\n",
    )
    args = ("-p", "spy", "--collect-only", f"--robust-replay={row}")
    result = project.pytester.runpytest_subprocess(*ARGUMENTS, *args, timeout=60)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_native*", "heavy: set()"])


# -- witnesses


def test_a_replay_writes_a_witness_that_is_a_permanent_test(project):
    row = rows(project.checks()[NATIVE])[0]
    args = (f"--robust-replay={row}", "--robust-witness=kept/w.safetensors")
    result = project.run(NATIVE, *args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"witness written: {project.path / 'kept' / 'w.safetensors'}"])
    project.tests(
        "import nets, pytest_robust\n"
        "def test_fixture(robust): robust.witness(nets.net, 'kept/w.safetensors')\n"
        "def test_plain(): pytest_robust.load_witness('kept/w.safetensors').assert_right(nets.net)\n"
    )
    result = project.run("--robust-fail-under=0.99")
    result.assert_outcomes(failed=2)
    told = [
        line for line in result.outlines if re.match(r"E .*still broken: witness \w{16} \(class \d -> class \d\) at", line)
    ]
    assert len(told) == 2
    project.model("mended")
    project.run("--robust-fail-under=0.99").assert_outcomes(passed=2)
    damaged = Path(project.path / "kept" / "w.safetensors")
    damaged.write_bytes(damaged.read_bytes().replace(b"fgsm-t", b"fgsm-x"))
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*w.safetensors: its content is not what was written"])


def test_a_witness_can_be_kept_when_it_is_mended(project):
    check = project.checks()[NATIVE]
    row = rows(check)[0]
    project.model("mended")
    result = project.run(NATIVE, f"--robust-replay={row}", "--robust-witness=w.safetensors")
    result.assert_outcomes(passed=1)
    kept = witness.load_witness(project.path / "w.safetensors")
    assert (kept.check, kept.id, kept.found_by) == (NATIVE, check["examples"]["ids"][row], "fgsm-t")
    assert (kept.label, kept.predicted) == (check["examples"]["labels"][row], check["examples"]["predicted"][row])
    assert kept.label != kept.predicted


def test_a_witness_does_not_stand_for_the_floor_of_its_marker(project):
    row = rows(project.checks()[NATIVE])[0]
    project.run(NATIVE, f"--robust-replay={row}", "--robust-witness=w.safetensors")
    project.model("mended")
    mark = "@pytest.mark.robust(eps=0.1, min_accuracy=0.4)\n"
    project.tests(f"import pytest, nets\n{mark}def test_a(robust): robust.witness(nets.net, 'w.safetensors')\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a floor is set for this test, but it never called robust(model, data)"])


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--robust-witness=w.safetensors"], "--robust-witness writes the example that is replayed: name it*"),
        (["--robust-replay=3", "--robust-witness=w.pt"], "--robust-witness 'w.pt': the file is a safetensors file*"),
        (["--robust-replay=3", "--robust-witness=old.safetensors"], "--robust-witness 'old.safetensors' is there already*"),
    ],
)
def test_a_witness_that_cannot_be_written_exits_4(pytester, args, complaint):
    (pytester.path / "old.safetensors").write_text("committed")
    result = pytester.runpytest_inprocess(*ARGUMENTS, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])
    assert (pytester.path / "old.safetensors").read_text() == "committed"


def test_one_witness_is_of_one_check(project):
    row = rows(project.checks()[NATIVE])[0]
    result = project.run(f"--robust-replay={row}", "--robust-witness=w.safetensors")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --robust-witness is one file, and several checks hold {row}: name one of *"])
