"""Files are whole or not there, and damage is seen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_robust.errors import DamagedError
from pytest_robust.store import files
from pytest_robust.whole_files import set_aside, write_whole

CONTENT = {"name": "check", "n": 3, "none": None}
ARRAYS = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "flags": np.array([True, False]), "none": np.zeros((0, 2))}


@pytest.fixture
def path(tmp_path) -> Path:
    files.write_arrays(tmp_path / "deep" / "a.safetensors", CONTENT, ARRAYS)
    return tmp_path / "deep" / "a.safetensors"


def test_what_is_written_is_read(path):
    content, arrays = files.read_arrays(path)
    assert content == CONTENT
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [other.name for other in path.parent.iterdir()] == ["a.safetensors"]


def test_a_file_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_arrays(tmp_path / "none")


@settings(max_examples=60)
@given(data=st.data())
def test_every_flipped_bit_is_seen(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bits") / "a.safetensors"
    files.write_arrays(path, CONTENT, ARRAYS)
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    try:
        content, arrays = files.read_arrays(path)
    except DamagedError:
        return
    # Only padding of the header may change without a trace: what is read is what was written.
    assert content == CONTENT
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, -1])
def test_a_file_cut_off_is_damaged(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedError, match=r"a\.safetensors"):
        files.read_arrays(path)


@pytest.mark.parametrize("foreign", [b"{}", b"\x80\x04.", b"PK\x03\x04", bytes(8) + b"{}"])
def test_a_foreign_file_is_damaged(path, foreign):
    path.write_bytes(foreign)
    with pytest.raises(DamagedError):
        files.read_arrays(path)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_the_draft_of_a_killed_process_goes_when_its_file_is_written_again(tmp_path):
    names = (".a[1].json.7.tmp", ".a[1].json.8.tmp", ".a1.json.7.tmp", "a[1].json.7.tmp")
    old, young, other, theirs = (tmp_path / name for name in names)
    for path in (old, young, other, theirs):
        path.write_bytes(b"half")
        os.utime(path, None if path is young else (0, 0))
    write_whole(tmp_path / "a[1].json", b"whole")
    assert [path.is_file() for path in (old, young, other, theirs)] == [False, True, True, True]


def test_damaged_files_are_set_aside(path):
    other = set_aside(path)
    assert other.name == "a.safetensors.damaged"
    assert other.is_file()
    assert not path.exists()
