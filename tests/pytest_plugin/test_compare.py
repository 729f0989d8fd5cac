"""How native asserts on rates read."""

from __future__ import annotations

import pytest
from projects import Run

from pytest_robust.evaluation import Rate
from pytest_robust.pytest_plugin.compare import explain

ROBUST = Rate(312, 1000, "robust accuracy", "linf 8/255")
CLEAN = Rate(942, 1000, "clean accuracy")
ABOUT = "(linf 8/255, n=1000, 95% CI 28.3-34.2)"


@pytest.mark.parametrize(
    ("op", "left", "right", "text"),
    [
        (">=", ROBUST, 0.4, f"robust accuracy 31.2% >= 40.0% {ABOUT}"),
        ("<=", 0.4, ROBUST, f"40.0% <= robust accuracy 31.2% {ABOUT}"),
        ("==", ROBUST, 1, f"robust accuracy 31.2% == 100.0% {ABOUT}"),
        (">", ROBUST, CLEAN, f"robust accuracy 31.2% > clean accuracy 94.2% {ABOUT} and (n=1000, 95% CI 92.6-95.6)"),
        (">", ROBUST, 0.312, f"robust accuracy 31.2% > 31.2% {ABOUT}"),
        (">", ROBUST, 0.3121, f"robust accuracy 31.20% > 31.21% {ABOUT}"),
    ],
)
def test_either_side_any_operator(op, left, right, text):
    assert explain(op, left, right) == [text]


@pytest.mark.parametrize(
    ("op", "left", "right"),
    [(">=", 0.1, 0.4), ("in", ROBUST, [0.4]), ("==", ROBUST, "31%"), ("==", ROBUST, None), ("is", ROBUST, 0.1)],
)
def test_everything_else_is_left_to_pytest(op, left, right):
    assert explain(op, left, right) is None


def test_failed_assert_per_class(run: Run):
    result = run("def test_a(robust):\n    assert robust(Fake(31), 0, eps='8/255').accuracy_of('cat') >= 0.4\n")
    result.stdout.fnmatch_lines(["E *assert robust accuracy of cat 32.4% >= 40.0% (linf 8/255, n=34, 95% CI *)"])
