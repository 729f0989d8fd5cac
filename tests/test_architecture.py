"""The import rules of pyproject.toml hold, and they bite."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the package in ``root``, in a process of its own: it imports nothing that it reads."""
    run = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run([sys.executable, "-c", run], cwd=root, capture_output=True, text=True, timeout=120, check=False)


def test_import_rules_hold():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


def test_import_rules_notice_an_arrow_that_runs_backwards(tmp_path):
    shutil.copytree(ROOT / "pytest_robust", tmp_path / "pytest_robust", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    wrong = "import hypothesis\nimport pytest\nimport pytest_robust.attacks\n"
    (tmp_path / "pytest_robust" / "threats" / "wrong.py").write_text(wrong)
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "pytest_robust.threats is not allowed to import pytest_robust.attacks" in result.stdout
    assert "pytest_robust.threats.wrong -> pytest" in result.stdout
    assert "pytest_robust.threats.wrong -> hypothesis" in result.stdout


def test_files_stay_readable():
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in (ROOT / "pytest_robust").rglob("*.py")}
    assert {str(path): n for path, n in lengths.items() if n > 400} == {}
