"""Shards of a suite, on the real engine: none has a verdict, all together have that of the suite, and faults have none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from projects import ARGUMENTS

import pytest_robust.cli.merge
from pytest_robust.cli import main

# A run inside a test forgets the modules that it imported itself.
from pytest_robust.conformance import networks  # noqa: F401
from pytest_robust.reports import share  # noqa: F401
from pytest_robust.store import sharded  # noqa: F401

NET = """
import copy
import torch
from pytest_robust import PGD
from pytest_robust.conformance import networks

net, data = copy.deepcopy(networks.trained()), networks.blobs(40, seed=2)  # it is kept, and tests change it
quick = [PGD(n_steps=10)]
"""
HEADER = "import pytest\nfrom setup_net import data, net, quick\n\n"
SUITE = """
@pytest.mark.robust(eps=["0.05", "0.1"], min_accuracy={"0.05": "80%", "0.1": "90%"})
def test_floors(robust):
    robust(net, data)

def test_native(robust):
    result = robust(net, data, eps=0.1)
    assert result.accuracy >= 0.5
    assert result.accuracy_of("0") > 0
    assert result.health.level == "trusted"

def test_two(robust):
    robust(net, data, eps="0.05", min_accuracy=0.5)
    robust(net, data, eps="0.1", min_accuracy=0.1, name="far")

@pytest.mark.xfail
def test_expected(robust):
    robust(net, data, eps="0.1", min_accuracy=1)

def test_caught(robust):
    with pytest.raises(ValueError, match="bounds"):
        robust(net, (255 * data[0], data[1]), eps="0.1")

def test_plain():
    assert True
"""
ONE = """
def test_it(robust): robust(net, data, eps="0.05", attacks=quick, min_accuracy=0.5)
"""


@pytest.fixture
def project(pytester, monkeypatch):
    pytester.makepyfile(setup_net=NET)
    pytester.syspathinsert()

    def in_process(arguments):
        return int(pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments).ret)

    monkeypatch.setattr(pytest_robust.cli.merge, "run_pytest", in_process)
    return pytester


@pytest.fixture
def run(project):
    """Write a test file, where one is given, and run pytest in this process."""

    def runner(source, *arguments):
        if source is not None:
            project.makepyfile(test_it=HEADER + source)
        return project.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", *arguments, no_reraise_ctrlc=True)

    return runner


def folders(project, of: int) -> list[str]:
    return [str(project.path / "robust-shards" / f"{number}-of-{of}") for number in range(1, of + 1)]


def told(path: Path) -> str:
    """A JSON report but for what a run costs, and the key, in which it counts how earlier runs are replayed."""
    text = re.sub(r'"(seconds|forward|backward)": [0-9.e-]+', "", path.read_text())
    return re.sub(r'"key": "\w+"', "", text)


def test_all_shards_together_say_what_the_suite_says(run, project, capsys):
    whole = run(SUITE, "--robust-profile=release", "--robust-report=whole.json")
    whole.assert_outcomes(passed=5, failed=1, xfailed=1)
    shutil.rmtree(project.path / ".robust")
    for number in (2, 3, 1):
        shard = run(None, "--robust-profile=release", f"--robust-shard={number}/3")
        shard.assert_outcomes(passed=2, skipped=5)
        assert shard.ret == 0
        last = f"robust shard {number}/3: complete, 6 checks, * examples attacked; no verdict: merge the shards (*)"
        shard.stdout.fnmatch_lines(["check *attacked *verdict", f"*test_two::far * shard {number}/3", last])
        assert "robust gate" not in shard.stdout.str()
        assert "FAIL" not in shard.stdout.str()
    assert not (project.path / ".robust").exists()
    capsys.readouterr()
    assert main(["merge", *folders(project, 3)[::-1], "--report", "merged.json"]) == 1
    out = capsys.readouterr().out
    assert f"pytest {' '.join(ARGUMENTS)} --robust-device=cpu --robust-profile=release --robust-report=merged.json" in out
    assert "robust: merge of 3 shards" in out
    assert told(project.path / "merged.json") == told(project.path / "whole.json")

    def rows(text):
        return [line for line in text.splitlines() if re.match(r"test_\w+\S* +linf|robust gate", line)]

    assert rows(out) == rows(whole.stdout.str())
    assert len(rows(out)) == 7


def test_a_suite_that_passes(run, project):
    for number in (1, 2):
        assert run(ONE, f"--robust-shard={number}/2").ret == 0
    assert main(["merge", *folders(project, 2)]) == 0
    result = run(None, *(f"--robust-merge={folder}" for folder in folders(project, 2)))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_it *pass", "robust gate: pass, 1 check"])


def test_no_share_of_a_model_that_nothing_breaks_says_pass(run):
    result = run('def test_it(robust): assert robust(net, data, eps="0.001").accuracy > 0.5\n', "--robust-shard=1/2")
    assert result.ret == 0
    result.assert_outcomes(skipped=1)
    assert "pass" not in result.stdout.str().replace("_pass", "")


def test_a_test_that_asserts_more_than_a_floor_is_judged_when_merged(run, project):
    source = 'def test_it(robust): assert robust(net, data, eps="0.1", attacks=quick).accuracy > 0.99\n'
    for number in (1, 2):
        result = run(source, f"--robust-shard={number}/2", "-rs")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["SKIPPED*its own assertions wait as well (*"])
    assert main(["merge", *folders(project, 2)]) == 1


def test_a_check_after_one_that_misses_its_floor(run, project, capsys):
    source = """
def test_it(robust):
    robust(net, data, eps="0.1", attacks=quick, min_accuracy=1)
    robust(net, data, eps="0.05", attacks=quick, min_accuracy=0.5)
"""
    for number in (1, 2):
        result = run(source, f"--robust-shard={number}/2")
        result.stdout.fnmatch_lines(["*shard ?/2: complete, 2 checks*"])
    assert main(["merge", *folders(project, 2)]) == 1, "the first has failed, as it would unsharded"
    assert "robust gate: FAIL, 1 floor" in capsys.readouterr().out


def test_baselines_are_for_all_shards_together(run, project, capsys):
    for number in (1, 2):
        run(ONE, f"--robust-shard={number}/2")
    assert main(["merge", *folders(project, 2), "--update"]) == 0
    assert "baseline written: robust-baseline/test_it/test_it.json" in capsys.readouterr().out
    assert main(["merge", *folders(project, 2), "--", "--robust-gate=release"]) == 0
    assert "robust gate (release): pass, 1 check" in capsys.readouterr().out
    project.makepyfile(setup_net=NET + "net[0].weight.data[::2] = 0\n")
    for number in (1, 2):
        result = run(ONE.replace(", min_accuracy=0.5", ""), f"--robust-shard={number}/2", "--robust-baseline")
        assert result.ret == 0
    assert main(["merge", *folders(project, 2)]) == 1
    assert "robust gate (no-regression): FAIL, 1 regressed" in capsys.readouterr().out


def edit(name):
    def decorate(change):
        def spoil(project, run):
            path = project.path / "robust-shards" / name
            index = json.loads(path.read_text())
            change(index)
            path.write_text(json.dumps(index))

        spoil.__name__ = change.__name__
        return spoil

    return decorate


def part(project, number) -> Path:
    (path,) = (project.path / "robust-shards" / f"{number}-of-2").glob("*.safetensors")
    return path


def no_shard(project, run):
    shutil.rmtree(project.path / "robust-shards" / "2-of-2")


def no_index(project, run):
    (project.path / "robust-shards" / "2-of-2" / "shard.json").unlink()


def cut_index(project, run):
    path = project.path / "robust-shards" / "2-of-2" / "shard.json"
    path.write_text(path.read_text()[:-20])


def no_part(project, run):
    part(project, 2).unlink()


def damaged_part(project, run):
    raw = bytearray(part(project, 2).read_bytes())
    raw[-1] ^= 1
    part(project, 2).write_bytes(raw)


def short_part(project, run):
    part(project, 2).write_bytes(part(project, 2).read_bytes()[:-1])


def same_part(project, run):
    shutil.copy(part(project, 1), part(project, 2))


@edit("2-of-2/shard.json")
def other_schema(index):
    index["schema"] = 2


@edit("2-of-2/shard.json")
def same_number(index):
    index["shard"]["number"] = 1


@edit("2-of-2/shard.json")
def other_count(index):
    index["shard"]["of"] = 3


@edit("2-of-2/shard.json")
def out_of_range(index):
    index["shard"] = {"number": 7, "of": 2}


@edit("2-of-2/shard.json")
def no_check(index):
    index["checks"] = {}


@edit("2-of-2/shard.json")
def other_type(index):
    index["checks"] = [1]


def other_floor(project, run):
    run(ONE.replace("0.5", "0.51"), "--robust-shard=2/2")


def other_seed(project, run):
    run(ONE, "--robust-shard=2/2", "--robust-seed=1")


def other_attack(project, run):
    run(ONE.replace("quick", '"fgsm"'), "--robust-shard=2/2")


def other_model(project, run):
    project.makepyfile(setup_net=NET + "net[0].weight.data += 0.001\n")
    run(ONE, "--robust-shard=2/2")


def other_data(project, run):
    project.makepyfile(setup_net=NET.replace("seed=2", "seed=3"))
    run(ONE, "--robust-shard=2/2")


def an_error(project, run):
    result = run(ONE.replace("data,", "(255 * data[0], data[1]),"), "--robust-shard=2/2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_it.py::test_it *ERROR: PreflightError: bounds*", "robust shard 2/2: INCOMPLETE*"])


def a_model_changed_since(project, run):
    project.makepyfile(setup_net=NET + "net[0].weight.data += 0.001\n")


def a_floor_changed_since(project, run):
    project.makepyfile(test_it=HEADER + ONE.replace("0.5", "0.4"))


def a_test_gone_since(project, run):
    project.makepyfile(test_it=HEADER + ONE.replace("test_it", "test_other"))


def a_test_skipped_since(project, run):
    project.makepyfile(test_it=HEADER + "@pytest.mark.skip" + ONE)


def a_test_added_since(project, run):
    project.makepyfile(test_it=HEADER + ONE + ONE.replace("test_it", "test_new").replace("0.05", "0.06"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_shard, "2-of-2 is no folder of a shard that ended"),
        (no_index, "there is no shard.json in it"),
        (cut_index, "shard.json cannot be read"),
        (no_part, "shard 2/2 has no file of test_it.py::test_it"),
        (damaged_part, "its content is not what was written"),
        (short_part, "cannot be read"),
        (same_part, "in two shards"),
        (other_schema, "schema 2, where this version of pytest-robust knows 1"),
        (same_number, "shard 1/2 is named twice"),
        (other_count, "shards of runs in 2 and in 3"),
        (out_of_range, "shard.json cannot be read"),
        (no_check, "shard 1/2 has the check test_it.py::test_it, shard 2/2 has not"),
        (other_type, "shard.json cannot be read"),
        (other_floor, "settings (floor, profile, waivers or the order of the data) of shard 1/2 and shard 2/2 differ"),
        (other_seed, "threat, attacks, seed or code of shard 1/2 and shard 2/2 differ"),
        (other_attack, "threat, attacks, seed or code of shard 1/2 and shard 2/2 differ"),
        (other_model, "test_it: model of shard 1/2 and shard 2/2 differ"),
        (other_data, "test_it: data of shard 1/2 and shard 2/2 differ"),
        (an_error, "shard 2/2 ended in an error, test_it.py::test_it: PreflightError"),
        (a_model_changed_since, "the shards do not have this check as it is here"),
        (a_floor_changed_since, "the shards do not have this check as it is here"),
        (a_test_gone_since, "the shards have this check, and here it came to no result"),
        (a_test_skipped_since, "the shards have this check, and here it came to no result"),
        (a_test_added_since, "no verdict: test_it.py::test_new: ShardError"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_whole_has_no_verdict(run, project, capsys, spoil, message):
    for number in (1, 2):
        assert run(ONE, f"--robust-shard={number}/2").ret == 0
    spoil(project, run)
    capsys.readouterr()
    assert main(["merge", *folders(project, 2)]) == 2
    out, err = capsys.readouterr()
    assert message in " ".join((out + err).split())


def test_a_missing_shard_is_named(run, project, capsys):
    for number in (1, 4):
        run(ONE, f"--robust-shard={number}/9")
    several = [folder for folder in folders(project, 9) if Path(folder).exists()]
    assert main(["merge", *several]) == 2
    assert "shard 2/9, 3/9, 5/9, 6/9, 7/9 and 2 more is missing; run it" in capsys.readouterr().err
    assert run(None, *(f"--robust-merge={folder}" for folder in several)).ret == 4


def test_shards_without_a_robust_check(run, project, capsys):
    for number in (1, 2):
        result = run("def test_plain(): pass\n", f"--robust-shard={number}/2")
        result.stdout.fnmatch_lines(["robust shard ?/2: complete, 0 checks*"])
    assert main(["merge", *folders(project, 2)]) == 2
    assert "no shard has a robust check" in capsys.readouterr().err


def test_a_shard_that_was_cut_short_is_not_complete(run, project, capsys):
    source = ONE + "def test_last(): assert False\ndef test_never(robust): pass\n"
    run(source, "--robust-shard=1/2", "-x").stdout.fnmatch_lines(["robust shard 1/2: INCOMPLETE*"])
    run(ONE, "--robust-shard=2/2")
    assert main(["merge", *folders(project, 2)]) == 2
    assert "shard 1/2 was cut short; run it again" in capsys.readouterr().err


def test_a_shard_that_runs_again_takes_the_earlier_one_away(run, project, monkeypatch):
    run(ONE, "--robust-shard=1/1")
    index = project.path / "robust-shards" / "1-of-1" / "shard.json"
    assert index.is_file()
    assert (index.parent / ".gitignore").is_file()
    run("import os\ndef test_it(robust): raise KeyboardInterrupt\n", "--robust-shard=1/1")
    assert json.loads(index.read_text())["complete"] is False
    result = run(ONE.replace("0.05", "0.06"), "--robust-shard=1/1")
    assert result.ret == 0
    assert len(list(index.parent.glob("*.safetensors"))) == 1, "the file of the check that is no more is gone"


def test_what_cannot_be_written_fails_the_shard(run, project):
    (project.path / "robust-shards").write_text("in the way")
    result = run(ONE, "--robust-shard=1/2")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --robust-shard: *robust-shards/1-of-2 cannot be used: *"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--robust-shard=0/2"], "--robust-shard: '0/2' is no shard; write i/N with i from 1 to N"),
        (["--robust-shard=3"], "--robust-shard: '3' is no shard"),
        (["--robust-shard=1/2", "--robust-update"], "a shard has no verdict: leave out --robust-update"),
        (["--robust-shard=1/2", "--robust-report=r.json"], "a shard has no verdict: leave out --robust-report"),
        (["--robust-shard=1/2", "--robust-merge=x"], "a shard has no verdict: leave out --robust-merge"),
        (["--robust-selfcheck", "--robust-shard=1/2"], "leave out --robust-device, --robust-shard"),
        (["--robust-merge=x"], "x is no folder of a shard that ended"),
        (["--robust-merge=x", "--collect-only"], "--collect-only runs nothing"),
    ],
)
def test_options_that_cannot_be_meant(run, options, message):
    result = run(ONE, *options)
    assert result.ret == 4
    assert message in result.stderr.str()


def test_a_curve_is_refused_by_name(run):
    result = run('def test_it(robust): robust.curve(net, data, budgets=["0.1"])\n', "--robust-shard=1/2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*test_it.py::test_it::curve: robust.curve(...) cannot be shared out; deselect this test*"])


def test_a_test_that_never_calls_it_fails_in_a_shard_as_well(run):
    result = run("@pytest.mark.robust(eps='0.1', min_accuracy=0.5)\ndef test_it(robust): pass\n", "--robust-shard=1/2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*a floor is set for this test, but it never called robust(model, data)"])


def test_quietly_the_last_line_alone(run):
    result = run(ONE, "--robust-shard=1/2", "-q")
    assert "attacked  " not in result.stdout.str()
    result.stdout.fnmatch_lines(["robust shard 1/2: complete, 1 check, * examples attacked; no verdict*"])


def test_shards_and_merge_with_xdist(project):
    source = ONE + ONE.replace("test_it", "test_other").replace("0.05", "0.1").replace("0.5", "1")
    project.makepyfile(test_it=HEADER + source)
    several = ("-p", "xdist.plugin", "-n2", "--robust-device=cpu")
    shard = project.runpytest_subprocess(*ARGUMENTS, *several, "--robust-shard=2/2", timeout=120)
    shard.assert_outcomes(skipped=2)
    assert shard.ret == 0
    shard.stdout.fnmatch_lines(["robust shard 2/2: complete, 2 checks*"])
    project.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", "--robust-shard=1/2")
    merges = [f"--robust-merge={folder}" for folder in folders(project, 2)]
    merged = project.runpytest_subprocess(*ARGUMENTS, *several, *merges, timeout=120)
    assert merged.ret == 1
    merged.stdout.fnmatch_lines(["test_it *pass", "test_other *FAIL floor", "robust gate: FAIL, 1 floor"])


def test_a_merge_that_is_interrupted_has_no_verdict(run, project):
    for number in (1, 2):
        run(ONE, f"--robust-shard={number}/2")
    project.makepyfile(test_it=HEADER + "def test_first(): raise KeyboardInterrupt\n" + ONE)
    assert run(None, *(f"--robust-merge={folder}" for folder in folders(project, 2))).ret == 2
