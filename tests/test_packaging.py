"""What an installation promises: version, entry point, dependencies, the files of the wheel, and a light plugin."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import pytest_robust

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pytest_robust"
OWN = {"pytest_robust"}
BROUGHT_BY = {"sklearn": "scikit-learn", "pluggy": "pytest", "_pytest": "pytest"}
"""Distributions whose name is not that of the module."""


def requirements() -> dict[str, str]:
    """The name of each required distribution, and the extra that asks for it, "" for none."""
    found = {}
    for line in metadata.requires("pytest-robust") or []:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        assert name is not None, line
        found[name.group().lower()] = extra.group(1) if extra else found.get(name.group().lower(), "")
    return found


def imported() -> set[str]:
    """Top-level names of all that the package imports, wherever in a file."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - OWN - set(sys.stdlib_module_names)


def test_version_is_that_of_the_package():
    assert metadata.version("pytest-robust") == pytest_robust.__version__


def test_entry_point_loads_the_plugin():
    (entry,) = metadata.entry_points(group="pytest11", name="robust")
    assert entry.load().__name__ == "pytest_robust.pytest_plugin.plugin"


def test_every_public_name_can_be_imported():
    assert {name for name in pytest_robust.__all__ if not hasattr(pytest_robust, name)} == set()
    assert set(pytest_robust.__all__) <= set(dir(pytest_robust))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pytest_robust.nonsense  # noqa: B018


def test_requirements_are_what_is_imported():
    declared = requirements()
    needed = {BROUGHT_BY.get(name, name) for name in imported()}
    assert needed - set(declared) == set(), "imported, but not declared in pyproject.toml"
    core = {name for name, extra in declared.items() if not extra}
    assert core - needed == set(), "declared as a dependency, but never imported"


def test_the_plugin_imports_the_standard_library_and_pytest_alone():
    load = "import pytest_robust.pytest_plugin.plugin"
    run = f"import sys, pytest; before = set(sys.modules); {load}; print(*set(sys.modules) - before)"
    result = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=True)
    new = {name.split(".")[0] for name in result.stdout.split()}
    assert "pytest_robust" in new
    assert new - OWN - set(sys.stdlib_module_names) <= {"_pytest", "pytest", "pluggy"}


def test_wheel_holds_the_demo_and_the_types(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"pytest_robust-{pytest_robust.__version__}.dist-info"
        points = archive.read(f"{info}/entry_points.txt").decode()
    wanted = ("py.typed", "cli/__init__.py", "pytest_plugin/plugin.py", "demo/train_digits.py", "demo/test_digits.py")
    assert {f"pytest_robust/{name}" for name in wanted} <= names
    assert f"{info}/licenses/LICENSE" in names
    assert {name.split("/")[0] for name in names} == {"pytest_robust", info}
    assert "[pytest11]\nrobust = pytest_robust.pytest_plugin.plugin" in points
