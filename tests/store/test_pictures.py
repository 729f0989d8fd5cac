"""What reports draw is what was kept."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import torch

from pytest_robust import Linf, evaluate
from pytest_robust.reports.record import record
from pytest_robust.store.folder import Folder
from pytest_robust.store.pictures import pictures


def pixels(uri):
    data, image, at = base64.b64decode(uri.split(",")[1]), b"", 8
    while at < len(data):
        (size,), kind, body = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8], data[at + 8 :]
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", body[:10])
        image += body[:size] if kind == b"IDAT" else b""
        at += 12 + size
    lines = np.frombuffer(zlib.decompress(image), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3 if colour == 2 else 1)


def kept(tmp_path, shape):
    x = torch.linspace(0.3, 0.7, 12).view(12, *[1] * len(shape)).expand(12, *shape).contiguous()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 2))
    model[1].weight.data = torch.ones_like(model[1].weight) * torch.tensor([[-1.0], [1.0]])
    model[1].bias.data = torch.tensor([0.5, -0.5]) * float(np.prod(shape))
    evaluation = evaluate(model.eval(), (x, (x.flatten(1)[:, 0] > 0.5).long()), Linf("0.1"), memory=Folder(tmp_path))
    return x, evaluation, pictures(tmp_path, record(evaluation, "a"))


def test_images_are_drawn_beside_what_became_of_them(tmp_path):
    for shape in ((1, 3, 4), (3, 3, 4)):
        x, evaluation, found = kept(tmp_path, shape)
        assert found["missing"] == ""
        assert 1 < len(found["examples"]) <= 6
        assert found["examples"][0]["row"] == evaluation.weakest.index
        for example in found["examples"]:
            row = example["row"]
            for name, values in (("clean", x[row]), ("adversarial", evaluation.adversarial(row))):
                np.testing.assert_array_equal(pixels(example[name]), (255 * values).round().byte().permute(1, 2, 0))


def test_other_inputs_list_their_largest_changes(tmp_path):
    _, _evaluation, found = kept(tmp_path, (9,))
    first = found["examples"][0]
    assert len(first["changes"]) == 6
    assert first["features"] == 9
    assert {abs(float(row[3])) for row in first["changes"]} == {0.1}


def test_what_is_not_kept_is_said(tmp_path):
    _, evaluation, _ = kept(tmp_path, (9,))
    check = record(evaluation, "a")
    assert "recognised" in pictures(tmp_path, check | {"key": None})["missing"]
    assert "cannot be read" in pictures(tmp_path / "elsewhere", check)["missing"]
