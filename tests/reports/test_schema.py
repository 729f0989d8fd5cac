"""The published schema of the JSON report holds for real reports, and notices a field that is gone or renamed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sample_checks import SAMPLED, UNSURE, check, item

from pytest_robust.reports.json_report import render
from pytest_robust.reports.run import run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text(encoding="utf-8"))
VALID = jsonschema.Draft202012Validator(SCHEMA)
TESTS = """
from pytest_robust.conformance import networks
net, data = networks.trained(), networks.blobs(60, seed=2)
def test_low(robust): robust(net, data, eps=0.05, min_accuracy=0.1)
def test_high(robust): robust(net, data, eps=0.2, min_accuracy=0.99)
def test_native(robust): robust(net, data, eps=0.1)
def test_error(robust): robust(net, data, eps=-1)
"""


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> list[Any]:
    """Reports of a real session, compared with its own baselines, and of made ones."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "pytest_robust.pytest_plugin.plugin",
        "--robust-device=cpu",
        "--robust-report=r.json",
    ]
    made = []
    for option in ("--robust-update", "--robust-baseline"):
        alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        subprocess.run([*command, option], cwd=folder, env=alone, capture_output=True, check=False)
        made.append(json.loads((folder / "r.json").read_text()))
    assert any(one["comparison"] and one["comparison"]["robust"] for one in made[1]["checks"])
    assert made[0]["errors"]
    for changes in (UNSURE, SAMPLED):
        record = check(**changes)
        made.append(json.loads(render(run([item("a", "failed", record)], missing=["b"], complete=False, version="1"))))
    return made


def test_real_reports_hold(reports):
    for report in reports:
        assert [error.message for error in VALID.iter_errors(report)] == []


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field that has a name of its own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            # Counts go by names of attacks and of what went wrong.
            if path[-1:] not in (("broken_by",), ("passed",), ("skipped",), ("xfailed",)):
                yield (*path, key)
            yield from places(inner, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def test_a_field_that_is_gone_is_noticed(reports):
    report = reports[1]
    named = list(places(report))
    assert len(named) > 80
    for path in named:
        changed = inner = copy.deepcopy(report)
        for key in path[:-1]:
            inner = inner[key]
        inner[f"{path[-1]}_renamed"] = inner.pop(path[-1])
        assert not VALID.is_valid(changed), path
