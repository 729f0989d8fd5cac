"""Section, table, Markdown and JSON of a run, and the files they are written to."""

from __future__ import annotations

import json
import stat
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from sample_checks import SAMPLED, UNSURE, check, health, item

from pytest_robust.evaluation.result import Cost, Weakest
from pytest_robust.reports import files, json_report, markdown, terminal
from pytest_robust.reports.run import Run, run
from pytest_robust.threats.summary import ThreatSummary


def made(*items, missing=()) -> Run:
    return run(items, missing=missing, complete=not missing, version="1")


def test_section_in_full():
    assert terminal.section(check()).splitlines() == [
        "verdict      FAIL floor 70.0% (1 more example must survive)",
        "threat       linf eps=8/255, inputs in [0, 1], untargeted, white box",
        "",
        "              accuracy  95% CI",
        "  clean          90.0%  55.5 - 99.7",
        "  robust         60.0%  26.2 - 87.8",
        "",
        "broken by    pgd 2, apgd-ce 1; wrong without attack 1; survivors 6",
        "worst class  cat 60.0% (3/5)   dog 60.0% (3/5)",
        "weakest hit  #7 dog -> cat, flips at eps <= 0.9/255",
        "health       trusted",
        "cost         0.3 s on cpu, 1,700 forward, 1,440 backward",
        "",
        'reproduce    pytest "test_it.py::test_a"',
        "accept       lower the floor where it is written (min_accuracy, --robust-fail-under), and commit",
    ]


def test_section_of_an_early_decision_claims_no_more_than_it_knows():
    text = terminal.section(check(**UNSURE))
    assert "FAIL floor 70.0% (certain after 8 of 10; --robust-profile release says how far below)" in text
    assert "  robust      <= 60.0%  decided on 8 of 10" in text
    assert "broken by    pgd 3; wrong without attack 1; survivors 4; undecided 2" in text
    assert "worst class" not in text


def test_section_of_a_sample_says_what_it_rests_on():
    text = terminal.section(check(**SAMPLED))
    assert "FAIL floor 70.0% (99% sure of 40.0-60.0 from 7 drawn; --robust-profile release decides every" in text
    assert "  robust       ~ 50.0%  40.0-60.0, 7 of 10 drawn" in text
    assert "undecided 2" in text


def test_section_names_findings_the_worst_first():
    text = terminal.section(check(health=health("suspicious", "invalid"), notes=("clean accuracy is low",)))
    assert "health       invalid: check-invalid: it is invalid\nhealth       suspicious: check-suspicious" in text
    assert "note         clean accuracy is low" in text
    waived = terminal.section(check(health=health("invalid", waived="known")))
    assert "health       trusted\nhealth       set aside: check-invalid: it is invalid (reason: known)" in waived


def test_section_of_an_embedding_ball():
    threat = ThreatSummary("l2", "0.5", 0.5, "embedding", "unbounded")
    assert "threat       l2 eps=0.5, token embeddings, untargeted" in terminal.section(check(threat=threat))


def test_a_transform_is_called_one_and_its_weakest_hit_is_a_share_of_it():
    weakest = Weakest(7, f"{7:016x}", 1, 0, 0.25, "0.25")
    shown = terminal.section(
        check(threat=ThreatSummary("spatial", "30deg,0.1", 1.0, "transform", "unbounded"), weakest=weakest)
    )
    assert "threat       spatial 30deg,0.1, image transform, untargeted, white box" in shown
    assert "flips at 0.25 of 30deg,0.1" in shown
    bounded = terminal.section(check(threat=ThreatSummary("negation", "1-x", 1.0, "transform", "[0, 1]")))
    assert "threat       negation 1-x, image transform, inputs in [0, 1], untargeted, white box" in bounded


def test_hidden_states_are_called_by_the_submodule_that_they_come_from():
    shown = terminal.section(check(threat=ThreatSummary("l2", "2%", 0.02, "hidden states after encoder.0", "unbounded")))
    assert "threat       l2 eps=2%, hidden states after encoder.0, untargeted, white box" in shown


def test_section_of_inputs_without_bounds():
    threat = ThreatSummary("l2", "0.5", 0.5, "input", "unbounded")
    assert "threat       l2 eps=0.5, inputs unbounded, untargeted" in terminal.section(check(threat=threat))


def test_section_says_class_where_classes_have_no_names():
    text = terminal.section(check(classes=None))
    assert "worst class  class 0 60.0% (3/5)   class 1 60.0% (3/5)" in text
    assert "weakest hit  #7 class 1 -> class 0, flips" in text


def test_section_has_no_weakest_hit_where_attacks_broke_none():
    assert "weakest hit" not in terminal.section(check(weakest=None))


def test_long_text_goes_on_below_itself_but_the_command_stays_whole():
    long = check(notes=("word " * 60,)) | {"reproduce": 'pytest "' + "x " * 100 + '"'}
    lines = terminal.section(long).splitlines()
    notes = lines[lines.index(next(line for line in lines if line.startswith("note"))) :]
    assert notes[1].startswith(" " * 13 + "word")
    assert max(len(line) for line in lines if not line.startswith("reproduce")) <= 110
    assert long["reproduce"] in terminal.section(long)


def test_section_is_ascii_whatever_the_class_is_called():
    text = terminal.section(check(classes=("Kätzchen", "犬")))
    assert text.isascii()
    assert r"K\xe4tzchen" in text


def test_table_keeps_numbers_as_typed_and_knows_good_from_bad():
    half = Fraction(1, 2)
    lines = terminal.table(
        made(
            item("t.py::test_0.310", "passed", check("t.py::test_0.310", floor=half)),
            item("t.py::test_b", "failed", check("t.py::test_b")),
            item("t.py::test_c", "passed", check("t.py::test_c", floor=None)),
            item("t.py::test_d", "failed", message="no labels"),
            missing=["t.py::test_e"],
        )
    )
    assert [good for _, good in lines] == [None, None, True, False, None, False, False]
    assert lines[2][0].startswith("test_0.310 ")
    assert [line.split("  ")[-1].strip() for line, _ in lines[2:]] == [
        "pass",
        "FAIL floor",
        "report only",
        "ERROR",
        "MISSING: no result arrived",
    ]


def test_empty_table():
    assert terminal.table(made()) == []


def test_json_is_valid_whole_and_one_check_a_line():
    everything = made(item("a", "failed", check("a")), item("b", "passed", check("b", floor=None)))
    text = json_report.render(everything)
    assert json.loads(text) == everything
    assert sum(line.startswith('    {"id"') for line in text.splitlines()) == 2
    assert json.loads(json_report.render(made())) == made()


def test_markdown_escapes_what_would_break_a_table():
    name = "t.py::test_a[x|y*z]"
    text = markdown.render(made(item(name, "failed", check(name, model="<b>Net</b>"))))
    row = next(line for line in text.splitlines() if "test\\_a" in line and line.startswith("|"))
    assert row.count("|") - row.count("\\|") == 10
    assert "<b>" not in row
    assert "test\\_a\\[x\\|y\\*z\\]" in row
    assert text.count("```") == 2


def test_markdown_of_errors_and_missing():
    text = markdown.render(made(item("a", "failed", message="no\nlabels"), missing=["b"]))
    assert "| ERROR: no labels " in text
    assert "| MISSING: no result arrived " in text
    assert "**robust gate: FAIL, 1 error, 1 missing, incomplete**" in text


def test_markdown_of_equal_runs_is_equal_whatever_the_time():
    texts = {markdown.render(made(item("a", "failed", check("a", cost=Cost(5, 4, seconds))))) for seconds in (0.3, 7.0)}
    assert len(texts) == 1
    assert "cost         on cpu, 5 forward, 4 backward" in texts.pop()


def test_markdown_folds_failures_only():
    text = markdown.render(made(item("a", "passed", check("a", floor=Fraction(1, 2))), item("b", "failed", check("b"))))
    assert text.count("<details>") == 1
    assert "<summary>b</summary>" in text


def test_write_makes_folders_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "r.json"
    for _ in range(2):
        files.write(made(), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["r.json"]
    assert json.loads(path.read_text())["schema"] == 1


def test_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_text("before")

    def full(self: Path, *_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.write(made(), path)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_report_has_the_permissions_of_any_new_file(tmp_path):
    files.write(made(), tmp_path / "r.md")
    (tmp_path / "other").write_text("")
    assert stat.S_IMODE((tmp_path / "r.md").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
