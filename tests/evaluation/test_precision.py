"""The settings of torch for the precision of products, by their old and their new interface."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

SCRIPT = """
import torch
{setting}

def read():
    seen = {{}}
    for name in ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn"):
        backend, operation = name.split(".")
        seen[name] = getattr(getattr(getattr(torch.backends, backend), operation, None), "fp32_precision", None)
    for name, get in (("legacy", torch.get_float32_matmul_precision), ("cudnn", lambda: torch.backends.cudnn.allow_tf32)):
        try:
            seen[name] = get()
        except RuntimeError:
            seen[name] = "refused"
    return seen

from pytest_robust.evaluation.precision import full_precision
before = read()
with full_precision():
    inside = read()
assert read() == before, (before, read())
assert set(filter(None, (v for k, v in inside.items() if "." in k))) <= {{"ieee"}}, inside
"""


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
    if "fp32_precision" in setting and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has no setting per operation")
    # A process of its own: what the settings of a process have been cannot be undone.
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:pytest_robust", "-c", SCRIPT.format(setting=setting)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
