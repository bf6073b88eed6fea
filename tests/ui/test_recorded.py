"""What the Training tab reads of a model's files, which may be a stranger's."""

import base64
import dataclasses
import io
import json
import math
import shlex

import numpy as np
import pytest
from PIL import Image

from ddpm import checkpoint
from ddpm.ui.server import recorded
from ddpm.ui.server.recorded import Recorded, curves


@pytest.fixture(scope="module")
def embedded():
    return checkpoint.load(checkpoint.EMBEDDED)


def test_the_embedded_model_tells_all_of_its_training(embedded):
    record = Recorded(embedded)
    story = record.story()
    first, last = story["train"][0], story["train"][-1]
    assert (first[0], last[0], len(story["validation"])) == (100, 14000, 14)
    assert first[1] > 0.3 > 0.03 > last[1], "the first row is the mean of 100 steps"
    assert all(len(row[2]) == 10 for row in story["train"])
    assert story["options"]["command"].startswith("accelerate launch train.py --preset mnist")
    assert story["options"]["data"] == "ylecun/mnist"
    assert story["grids"][0] == 1000
    assert story["grids"][-1] == 14000
    grids = [Image.open(io.BytesIO(base64.b64decode(record.grid(step)))) for step in story["grids"]]
    assert {grid.size for grid in grids} == {(350, 350)}
    assert len({grid.tobytes() for grid in grids}) == len(grids) > 5
    assert len(json.dumps(story)) < 100_000


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, True, "0.5", None, [], {}, 10**400])
def test_what_is_no_loss_is_left_out(value):
    good = {"kind": "train", "step": 5, "loss": 0.5, "loss_by_decile": [0.5] * 9 + [value]}
    bad = {"kind": "train", "step": 6, "loss": value}
    held = {"kind": "validation", "step": 5, "val_loss": 0.4, "val_loss_ema": value}
    found = curves([good, bad, {**good, "step": -3}, {**good, "step": 10**12}, held, {"kind": "other", "step": 1}])
    assert found == {"train": [[5, 0.5, [0.5] * 9 + [None]]], "validation": [[5, 0.4, None, None]], "memorises": None}
    json.dumps(found, allow_nan=False)


def test_the_record_tells_from_which_step_on_a_network_memorises():
    learnt = {100: 0.4, 200: 0.3, 300: 0.2}
    rows = [
        {"kind": "validation", "step": step, "val_loss": 0.5, "val_loss_ema": 0.41, "train_loss_ema": loss}
        | {"loss_gap_se": 0.02}
        for step, loss in learnt.items()
    ]
    found = curves([*rows, {"kind": "validation", "step": 50, "val_loss": 0.5}])
    assert [row[3] for row in found["validation"]] == [None, *learnt.values()]
    assert found["memorises"] == 200, "3.2 standard errors of the difference are 0.064"


def test_a_long_record_is_thinned_to_means():
    rows = [{"kind": "train", "step": s, "loss": 1 + s % 2} for s in range(1, 50_001)]
    found = curves(rows)["train"]
    assert 300 < len(found) <= recorded.MAX_POINTS
    assert found[-1][0] == 50_000
    assert abs(found[-1][1] - 1.5) < 0.01, "a mean, not one that was picked"
    steps = np.array([row[0] for row in found])
    assert (np.diff(steps) > 0).all()
    assert sum(steps < 500) > 100, "the beginning keeps its detail"


@pytest.mark.parametrize(
    "change",
    [
        {"max_train_steps": "many"},
        {"block_out_channels": 7},
        {"no_such_option": 1},
        {"preset": "x; rm -rf ~"},
        {"dataset_name": "a\nb"},
        {"dataset_name": "x" * 10_000},
        {"dataset_name": {"a": 1}},
        {"learning_rate": None},
        {"learning_rate": 1e300},
        {"ema_half_life_images": 10**30},
        {"train_batch_size": 10**30},
    ],
)
def test_options_that_are_none_are_not_shown(embedded, change):
    settings = json.loads(json.dumps(embedded.config))
    settings["options"] |= change
    settings["data"] |= {"fingerprint": "", "source": "hub"}
    found = Recorded(dataclasses.replace(embedded, config=settings)).story()
    assert found["options"] is None
    assert found["train"]


def test_a_command_of_a_stranger_can_be_pasted(embedded):
    settings = json.loads(json.dumps(embedded.config))
    settings["data"] |= {"fingerprint": "", "source": "hub"}
    settings["options"]["image_column"] = "$(touch x); `y` 'z'"
    command = Recorded(dataclasses.replace(embedded, config=settings)).story()["options"]["command"]
    words = shlex.split(command)
    assert words[words.index("--image_column") + 1] == "$(touch x); `y` 'z'"


def test_pictures_are_bounded_and_checked(embedded, tmp_path, monkeypatch):
    samples = tmp_path / "samples"
    samples.mkdir()
    Image.new("RGB", (900, 900), "red").save(samples / "step-000001.png")
    (samples / "step-000002.png").write_bytes(b"<svg onload=alert(1)>")
    Image.new("L", (3000, 3000)).save(samples / "step-000003.png")
    Image.new("L", (9, 9)).save(samples / "step-000004.png", "JPEG")
    (samples / "step-000005.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(recorded.MAX_PNG_BYTES))
    (samples / "step-000006.png").mkdir()
    Image.new("L", (9, 9)).save(samples / "step-x.png")
    record = Recorded(dataclasses.replace(embedded, directory=tmp_path, metrics=[], config={}))
    assert record.story() == {
        "train": [],
        "validation": [],
        "memorises": None,
        "grids": [1, 2, 3, 4, 5],
        "options": None,
    }
    assert [record.grid(step) is None for step in (1, 2, 3, 4, 5, 6, None, "1", "../1")] == [False] + [True] * 8
    assert Image.open(io.BytesIO(base64.b64decode(record.grid(1)))).size == (640, 640)
    for step in range(10, 60):
        Image.new("L", (9, 9)).save(samples / f"step-{step:06d}.png")
    grids = Recorded(dataclasses.replace(embedded, directory=tmp_path)).story()["grids"]
    assert (len(grids), grids[0], grids[-1]) == (recorded.MAX_GRIDS, 1, 59)
