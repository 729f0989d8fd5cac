"""A full disk, a folder that cannot be written, and damaged files in ``.robust``, on the real engine."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from projects import ARGUMENTS, LINEAR

from pytest_robust.evaluation import checkpoint

TESTS = """
import setup_model as m
def test_good(robust): robust(m.net, m.data, eps=0.01, min_accuracy="10%", bounds=None)
def test_bad(robust): robust(m.net, m.data, eps=0.05, min_accuracy="100%", bounds=None)
"""


@pytest.fixture
def real(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(setup_model=LINEAR, test_it=TESTS)
    pytester.syspathinsert()
    return pytester


def outcome(real: pytest.Pytester, *options: str) -> tuple[pytest.RunResult, list[tuple[str, str, int, bool]]]:
    result = real.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", "--robust-report=r.json", *options)
    report = real.path / "r.json"
    checks = json.loads(report.read_text())["checks"] if report.is_file() else []
    report.unlink(missing_ok=True)
    return result, [(check["id"], check["verdict"], check["robust"]["k"], check["cached"]) for check in checks]


def verdicts(checks) -> list[tuple[str, str]]:
    return [check[:2] for check in checks]


EXPECTED = [("test_it.py::test_good", "pass"), ("test_it.py::test_bad", "fail")]


def test_a_file_in_the_place_of_the_folder(real):
    (real.path / ".robust").write_text("")
    result, checks = outcome(real)
    assert result.ret == 1
    assert verdicts(checks) == EXPECTED
    result.stdout.fnmatch_lines(["*.robust*cannot be written*", "warning: the run cannot be kept in *.robust: *"])


def full(monkeypatch: pytest.MonkeyPatch) -> str:
    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    return "No space left on device"


def read_only(monkeypatch: pytest.MonkeyPatch) -> str:
    """Not by permissions: root has them all."""
    opened = Path.open

    def only_read(path: Path, mode: str = "r", *args, **options):
        if "w" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", only_read)
    return "Read-only file system"


@pytest.mark.parametrize("fault", [full, read_only])
def test_a_disk_that_takes_nothing_loses_no_verdict_and_fails_what_was_asked_for(real, monkeypatch, fault):
    with monkeypatch.context() as disk:
        why = f"{fault(disk)}; make room there, or permit writing"
        result, _ = outcome(real, "-k", "good")
        assert result.ret == 1
        result.stdout.fnmatch_lines(
            [
                f"*.robust*cannot be written ({why}): the next run starts this check anew",
                f"ERROR: --robust-report *r.json: cannot be written: {why}",
            ]
        )
        update = real.runpytest_inprocess(*ARGUMENTS, "--robust-device=cpu", "-k", "good", "--robust-update")
        assert update.ret == 1
        update.stdout.fnmatch_lines([f"ERROR: --robust-update: *test_good.json cannot be written: {why}"])
    assert [path.name for path in (real.path / ".robust").rglob("*") if path.suffix in (".tmp", ".safetensors")] == []
    assert verdicts(outcome(real)[1]) == EXPECTED


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "flipped": lambda data: bytes([*data[:-9], data[-9] ^ 16, *data[-8:]]),
    "flipped head": lambda data: bytes([data[0] ^ 64, *data[1:]]),
    "foreign": lambda data: b"PK\x03\x04 not ours",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_named_and_made_anew(real, monkeypatch, damage):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    _, before = outcome(real)
    files = [path for part in ("checks", "runs") for path in (real.path / ".robust" / part).iterdir()]
    assert len(files) == 3
    # Of an unfinished check nothing is left by then: one is put there, under the key of a finished one.
    (real.path / ".robust" / "unfinished").mkdir(exist_ok=True)
    unfinished = [real.path / ".robust" / "unfinished" / path.name for path in files if path.suffix == ".safetensors"]
    for path in unfinished:
        path.write_bytes(files[0].read_bytes())
    for path in [*files, *unfinished]:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    result, after = outcome(real)
    assert after == before, "nothing is cached, and nothing differs"
    told = result.stdout.str()
    for path in [*files, *unfinished]:
        if path.suffix == ".safetensors":
            assert f"{path.name} cannot be used, and is kept as {path.name}.damaged" in told
            assert Path(f"{path}.damaged").is_file()
    assert all(check[3] for check in outcome(real)[1]), "made anew"
