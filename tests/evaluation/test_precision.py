"""The settings of torch for the precision of products, by their old and their new interface."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")
HEADER = """
import torch
from torch import backends
from pytest_robust.evaluation.precision import full_precision

def read():
    seen = {}
    for name in ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn"):
        backend, operation = name.split(".")
        seen[name] = getattr(getattr(getattr(backends, backend), operation, None), "fp32_precision", None)
    for name, get in (("legacy", torch.get_float32_matmul_precision), ("cudnn", lambda: backends.cudnn.allow_tf32)):
        try:
            seen[name] = get()
        except RuntimeError:
            seen[name] = "refused"
    return seen
"""
PUT_BACK = """
before = read()
with full_precision():
    inside = read()
assert read() == before, (before, read())
assert set(filter(None, (v for k, v in inside.items() if "." in k))) <= {"ieee"}, inside
"""
STILL_INHERITED = """
backends.fp32_precision = "tf32"
backends.mkldnn.conv.fp32_precision = "bf16"
with full_precision():
    pass
for value in ("ieee", "tf32"):
    backends.fp32_precision = value
    assert [backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision] == [value] * 2, (value, read())
    assert backends.mkldnn.conv.fp32_precision == "bf16"
backends.mkldnn.set_flags(_fp32_precision="ieee")
assert (backends.mkldnn.matmul.fp32_precision, backends.cuda.matmul.fp32_precision) == ("ieee", "tf32"), read()
"""
MODELS = """
def reads_old():
    assert torch.get_float32_matmul_precision() == "highest"
    assert not backends.cuda.matmul.allow_tf32
    assert not backends.cudnn.allow_tf32

def sets_old():
    torch.set_float32_matmul_precision("medium")
    backends.cudnn.allow_tf32 = True
    assert torch.get_float32_matmul_precision() == "medium" and backends.cudnn.allow_tf32

def reads_new():
    assert backends.fp32_precision == backends.cudnn.conv.fp32_precision == "ieee"

def sets_new():
    backends.fp32_precision = backends.cudnn.conv.fp32_precision = backends.cuda.matmul.fp32_precision = "tf32"
    assert backends.mkldnn.conv.fp32_precision == backends.cuda.matmul.fp32_precision == "tf32"

def raises():
    sets_old()
    raise KeyError

for legacy in ("highest", "high"):
    torch.set_float32_matmul_precision(legacy)
    before = read()
    for act in (reads_old, sets_old, raises, *([reads_new, sets_new] if hasattr(backends, "fp32_precision") else [])):
        try:
            with full_precision():
                act()
        except KeyError:
            assert act is raises
        assert read() == before, (act, before, read())
"""


def run(*parts: str) -> None:
    """In a process of its own: what the settings of a process have been cannot be undone."""
    command = [sys.executable, "-W", "error::UserWarning:pytest_robust", "-c", "\n".join(parts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "torch.set_float32_matmul_precision('high')",
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.cudnn.allow_tf32 = False",
        "torch.backends.fp32_precision = 'tf32'",
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
        "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    ],
)
def test_settings_are_put_back_whichever_interface_made_them(setting: str):
    if "fp32_precision" in setting and not NEW:
        pytest.skip("this torch has no setting per operation")
    run(HEADER, setting, PUT_BACK)


@pytest.mark.skipif(not NEW, reason="this torch has no setting per operation")
def test_what_was_inherited_follows_its_parents_afterwards():
    run(HEADER, STILL_INHERITED)


def test_a_model_may_read_and_set_either_interface_inside():
    run(HEADER, MODELS)
