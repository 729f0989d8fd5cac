"""Records: plain JSON, with every count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sample_checks import UNSURE, evaluation, health

from pytest_robust.reports.record import record


def test_record_is_plain_json_with_the_schema():
    made = record(evaluation(), "test_it.py::test_a")
    assert json.loads(json.dumps(made)) == made
    assert made["id"] == "test_it.py::test_a"
    assert made["threat"] == {
        "norm": "linf",
        "eps": "8/255",
        "value": 8 / 255,
        "space": "input",
        "bounds": "[0, 1]",
        "scale": None,
    }
    assert (made["clean"]["k"], made["clean"]["n"]) == (9, 10)
    assert (made["robust"]["k"], made["robust"]["n"]) == (6, 10)
    assert made["robust"]["low"] == pytest.approx(0.2624, abs=1e-4)  # Clopper-Pearson, tabled
    assert made["robust"]["high"] == pytest.approx(0.8784, abs=1e-4)
    assert made["verdict"] == "fail"
    assert made["weakest"] == {
        "index": 7,
        "id": "0000000000000007",
        "label": 1,
        "predicted": 0,
        "norm": 0.9 / 255,
        "eps": "0.9/255",
        "label_name": "dog",
        "predicted_name": "cat",
    }
    assert made["cost"] == {"forward": 1700, "backward": 1440, "seconds": 0.3}
    assert made["health"] == {"level": "trusted", "checks": []}


def test_what_the_user_passes_becomes_json():
    made = record(evaluation(seed=np.int64(3), name=7, health=health("invalid", waived=Path("why.md"))), "a")
    assert (json.loads(json.dumps(made))["seed"], made["name"], made["health"]["checks"][0]["waived"]) == (3, "7", "why.md")


def test_needed_is_the_exact_count():
    assert record(evaluation(), "a")["needed"] == 7  # 0.7 * 10 is 7.000000000000001 in floats
    assert record(evaluation(floor=None), "a")["needed"] is None


def test_counts_add_up():
    made = record(evaluation(), "a")
    assert made["broken_by"] == {"clean": 1, "pgd": 2, "apgd-ce": 1}
    assert sum(c["k"] for c in made["classes"]) == made["robust"]["k"]
    assert [(c["name"], c["n"]) for c in made["classes"]] == [("cat", 5), ("dog", 5)]
    assert made["examples"]["broken_by"] == [None] * 6 + ["pgd", "pgd", "apgd-ce", "clean"]
    assert len(made["examples"]["ids"]) == made["n"]


def test_early_decision_counts_the_decided():
    made = record(evaluation(**UNSURE), "a")
    assert (made["bound"], made["decided"]) == ("upper", 8)


def test_health_keeps_the_reason_of_what_was_set_aside():
    made = record(evaluation(health=health("suspicious", waived="known")), "a")
    assert made["health"]["level"] == "trusted"
    assert made["health"]["checks"][0]["waived"] == "known"
