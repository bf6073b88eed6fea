"""A model is measured on the values that it was trained on, where these are a part of the pixels' range."""

import json
import re

import numpy as np
import pytest
from launch import launch
from PIL import Image
from tiny import command


@pytest.mark.long
def test_the_range_is_recorded_used_by_the_evaluation_and_compared_on_resume(tmp_path):
    (tmp_path / "d").mkdir()
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 4096, (8, 8)).astype(np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"d/{number}.png")
    options = {"dataset_name": tmp_path / "d", "max_train_steps": 2, "num_validation_images": 8}
    plain = launch(*command(tmp_path / "plain", **options))
    assert plain.returncode == 0, plain.stderr
    warning = (
        r"Warning: the 16- or 32-bit pixel values are (\d+) to (\d+), a small part of 0 to 65535.* --value_range \1 \2 "
    )
    assert re.search(warning, plain.stderr)
    done = launch(*command(tmp_path / "run", value_range=(0, 4095), **options))
    assert done.returncode == 0, done.stderr
    assert "pixel values from 0 (black) to 4095 (white)" in done.stderr
    settings = json.loads((tmp_path / "run/train_config.json").read_text())
    assert settings["options"]["value_range"] == [0.0, 4095.0]
    assert "| `value_range` | 0.0 4095.0 |" in (tmp_path / "run/README.md").read_text()
    assert "--value_range 0.0 4095.0" in (tmp_path / "run/README.md").read_text()

    words = ["-m", "ddpm.evaluate", tmp_path / "run", "--num_images", 2, "--num_cpu_threads", 1, "--record"]
    measured = launch(*words, "--output", tmp_path / "report.json")  # --record refuses images with other pixels
    assert measured.returncode == 0, measured.stderr
    other = launch(*words, "--value_range", -1, 5000, "--output", tmp_path / "other.json")
    assert "was not trained on" in other.stderr
    unrecorded = launch(*words[:-1], "--value_range", -1, 5000, "--output", tmp_path / "other.json")
    assert unrecorded.returncode == 0, unrecorded.stderr
    assert "--value_range -1.0 5000.0" in json.loads((tmp_path / "other.json").read_text())["command"]

    again = launch(*command(tmp_path / "run", **options))
    assert again.returncode == 1
    assert "--value_range ((0.0, 4095.0), now None), the images of the dataset" in again.stderr
    assert launch(*command(tmp_path / "run", value_range=(0, 4095), **options)).returncode == 0
