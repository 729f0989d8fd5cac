"""What a session shows and writes: header, section, table, gate line, files, junit, hooks."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from projects import Run

PASSING = "def test_ok(robust): robust(Fake(60), 0, eps='8/255', min_accuracy=0.4)\n"
FAILING = "def test_bad(robust): robust(Fake(31), 0, eps='8/255', min_accuracy=0.4)\n"
PLAIN = "def test_plain(): assert True\n"


def test_failure_section_and_table(run: Run):
    result = run(PASSING + FAILING)
    result.stdout.fnmatch_lines(
        [
            "*- robust -*",
            "verdict      FAIL floor 40.0% (9 more examples must survive)",
            "threat       linf eps=8/255, inputs in [[]0, 1], untargeted, white box",
            "",
            "              accuracy  95% CI",
            "  clean          94.0%  87.4 - 97.8",
            "  robust         31.0%  22.1 - 41.0",
            "",
            "broken by    apgd-ce 63; wrong without attack 6; survivors 31",
            "worst class  dog 30.3% (10/33)   deer 30.3% (10/33)   cat 32.4% (11/34)",
            "health       trusted",
            "cost         46.1 s on cpu, 2,760 forward, 2,560 backward",
            "",
            'reproduce    pytest "test_it.py::test_bad"',
            "accept       lower the floor*",
            "*= robustness =*",
            "check*clean*robust*95% CI*floor*health*verdict",
            "test_ok *94.0% *60.0% *49.7 - 69.7 *40.0% *trusted *pass",
            "test_bad *94.0% *31.0% *22.1 - 41.0 *40.0% *trusted *FAIL floor",
            "robust gate: FAIL, 1 floor",
        ],
        consecutive=False,
    )
    assert result.stdout.str().isascii()


def test_passing_check_has_no_section(run: Run):
    result = run(PASSING)
    result.stdout.no_fnmatch_line("*- robust -*")
    result.stdout.fnmatch_lines(["robust gate: pass, 1 check"])


def test_reproduce_repeats_the_options_of_the_run(run: Run):
    result = run(
        "def test_bad(robust): robust(Fake(), 0)\n", "--robust-eps=8/255", "--robust-n=50", "--robust-fail-under=0.4"
    )
    command = 'pytest "test_it.py::test_bad[[]linf-8/255]" --robust-eps 8/255 --robust-n 50 --robust-fail-under 0.4'
    result.stdout.fnmatch_lines([f"reproduce    {command}"])


def test_quiet_shows_the_gate_line_alone(run: Run):
    result = run(PASSING + PLAIN, "-q")
    shown = [line for line in result.outlines if "robust" in line]
    assert shown == ["robust gate: pass, 1 check"]


def test_nothing_is_shown_without_robust_tests(run: Run, monkeypatch, project):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    result = run(PLAIN, "-v")
    assert "robust" not in result.stdout.str().replace(str(project.path), "").replace("pytest_robust", "")
    assert not (project.path / "summary.md").exists()


def test_header_says_what_was_asked_for(run: Run):
    result = run(PLAIN, "--robust-eps=2/255,8/255", "--robust-norm=l2", "--robust-n=50")
    result.stdout.fnmatch_lines(["robust: l2 2/255, 8/255, profile standard, n=50, seed 0"])
    run(PASSING).stdout.fnmatch_lines(["robust: budgets from the tests, profile standard, seed 0"])


def test_skipped_checks_are_counted(run: Run):
    source = "@pytest.mark.skip\n" + PASSING
    run(source).stdout.fnmatch_lines(["robust gate: no check was decided, 1 skipped"])
    run(source + FAILING).stdout.fnmatch_lines(["robust gate: FAIL, 1 floor, 1 skipped"])


def test_names_stay_unique_across_files(run: Run, project):
    project.makepyfile(test_other="from fake_engine import Fake\n" + PASSING)
    result = run(PASSING)
    result.stdout.fnmatch_lines_random(["test_it.py::test_ok *pass", "test_other.py::test_ok *pass"])


def test_color_comes_from_the_terminal_writer(run: Run):
    result = run(PASSING + FAILING, "--color=yes")
    text = result.stdout.str()
    assert "\x1b[31m\x1b[1mrobust gate: FAIL, 1 floor\x1b[0m" in text or "\x1b[1m\x1b[31mrobust gate: FAIL" in text
    assert "\x1b" not in run(PASSING + FAILING, "--color=no").stdout.str()


def test_hidden_captures_hide_the_section_not_the_verdict(run: Run):
    result = run(FAILING, "--show-capture=no")
    result.stdout.no_fnmatch_line("*- robust -*")
    result.stdout.fnmatch_lines(["E *assert robust accuracy 31.0%*", "robust gate: FAIL, 1 floor"])


def test_json_report_has_the_schema(run: Run, project):
    run(PASSING + FAILING, "--robust-report", "out/r.json")
    report = json.loads((project.path / "out" / "r.json").read_text())
    assert report["schema"] == 1
    assert report["gate"]["verdict"] == "fail"
    ok, bad = report["checks"]
    assert (ok["id"], ok["verdict"], bad["id"], bad["verdict"]) == (
        "test_it.py::test_ok",
        "pass",
        "test_it.py::test_bad",
        "fail",
    )
    assert bad["threat"]["norm"] == "linf"
    assert bad["threat"]["eps"] == "8/255"
    assert bad["clean"]["k"] == 94
    assert bad["clean"]["n"] == 100
    assert (bad["robust"]["k"], bad["robust"]["n"]) == (31, 100)
    assert bad["robust"]["low"] < 0.31 < bad["robust"]["high"]
    assert bad["health"] == {"level": "trusted", "checks": []}
    assert bad["cost"] == {"forward": 2760, "backward": 2560, "seconds": 46.1}
    assert [path.name for path in (project.path / "out").iterdir()] == ["r.json"]


def test_several_reports(run: Run, project):
    run(FAILING, "--robust-report=r.json", "--robust-report=r.md")
    assert json.loads((project.path / "r.json").read_text())["checks"]
    markdown = (project.path / "r.md").read_text()
    assert "**robust gate: FAIL, 1 floor**" in markdown
    assert "<details>" in markdown
    assert 'reproduce    pytest "test_it.py::test_bad"' in markdown


@pytest.mark.skipif(os.name == "nt", reason="folders are files on POSIX only")
def test_report_that_cannot_be_written_fails_the_session(run: Run, project):
    (project.path / "file").write_text("")
    result = run(PASSING, "--robust-report=file/r.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["ERROR: --robust-report *file/r.json: cannot be written: *"])


def test_report_that_is_a_folder_exits_4(run: Run, project):
    (project.path / "r.json").mkdir()
    result = run(PASSING, "--robust-report=r.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_no_report_is_written_by_collect_only(run: Run, project):
    result = run(PASSING, "--robust-report=r.json", "--collect-only")
    assert result.ret == 0
    assert not (project.path / "r.json").exists()


def test_github_step_summary_is_appended_by_itself(run: Run, project, monkeypatch):
    summary = project.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run(PASSING)
    assert summary.read_text().startswith("before\n## Adversarial robustness\n\n**robust gate: pass, 1 check**")


def test_unwritable_step_summary_is_said_and_fails_nothing(run: Run, project, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path))
    result = run(PASSING)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["warning: GITHUB_STEP_SUMMARY * cannot be written: *"])


def test_junit_properties_are_scalars(run: Run, project):
    run(FAILING, "--junit-xml=junit.xml")
    root = ET.parse(project.path / "junit.xml").getroot()
    properties = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert properties["robust.accuracy"] == "0.31"
    assert properties["robust.eps"] == "8/255"
    assert properties["robust.verdict"] == "fail"
    assert properties["robust.n"] == "100"
    assert all(name.startswith("robust.") for name in properties)


def test_result_hook_sees_every_evaluation_once(run: Run, project):
    project.makeconftest(
        "def pytest_robust_result(config, item, result):\n"
        "    print(f'hook: {item.name} {result.accuracy} {result.verdict}')\n"
    )
    result = run(PASSING + FAILING, "-s")
    hooks = [line.rpartition("hook: ")[2] for line in result.outlines if "hook: " in line]
    assert hooks == ["test_ok 60.0% pass", "test_bad 31.0% fail"]


def test_attacks_hook_adds_names(run: Run, project):
    project.makeconftest("class Mine:\n    name = 'mine'\n\ndef pytest_robust_attacks(config):\n    return {'mine': Mine}\n")
    import fake_engine

    run(PASSING, "--robust-attack=mine,fgsm").assert_outcomes(passed=1)
    mine, fgsm = fake_engine.CALLS[0].attacks
    assert (mine.name, fgsm) == ("mine", "fgsm")


def test_attacks_of_one_name_exit_4(run: Run, project):
    project.makeconftest("def pytest_robust_attacks(config): return {'mine': object}\n")
    project.makepyfile(other="def pytest_robust_attacks(config): return {'mine': object}\n")
    result = run(PASSING, "-p", "other")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pytest_robust_attacks: two plugins call an attack 'mine'; rename one"])


def test_eps_curve_of_a_test_that_ran_with_several_budgets(run: Run):
    """The first to fail shows the points of those that ran after it, too."""
    source = """
@pytest.mark.parametrize("model", [Fake(31), Fake(20)])
@pytest.mark.robust(eps=["8/255", "2/255"], min_accuracy={"8/255": .4, "2/255": .1})
def test_it(robust, model):
    robust(Fake(model.robust + (robust._budget.value < .01) * 40), 0)

def test_alone(robust): robust(Fake(31), 0, eps="8/255", min_accuracy=.4)
"""
    result = run(source, "--robust-report=r.json")
    assert [line for line in result.outlines if line.startswith("eps curve")] == [
        "eps curve    2/255 71.0%   8/255 31.0%",
        "eps curve    2/255 60.0%   8/255 20.0%",
    ]
    checks = json.loads(Path("r.json").read_text())["checks"]
    assert [[point["eps"] for point in check["curve"]] for check in checks] == [["2/255", "8/255"]] * 4 + [[]]


def test_html_report_says_why_there_are_no_pictures(run: Run, project):
    run(FAILING, "--robust-report=r.html")
    text = (project.path / "r.html").read_text()
    assert "robust gate: FAIL, 1 floor" in text
    assert "no adversarial examples of it are kept" in text


def test_html_report_without_its_extra_exits_4(run: Run, project, monkeypatch):
    monkeypatch.setattr("pytest_robust.pytest_plugin.settings.find_spec", lambda name: None)
    result = run(PASSING, "--robust-report=r.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*r.html*pip install 'pytest-robust[[]html]'*"])
