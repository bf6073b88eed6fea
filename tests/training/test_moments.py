"""Sample grids after so many images or epochs, and the epoch in rows and progress bar."""

import re

import numpy as np
import pytest
from launch import launch
from PIL import Image
from tiny import assert_same_run, command, in_process

from ddpm.config import parse, preset
from ddpm.metrics import read_metrics
from ddpm.training.moments import grid_moments

# 16 of the digits' 1,707 training images are 0.0094 epochs: steps 2, 4, 6 (a validation has its grid anyway) and 11.
MOMENTS = {"sample_at_images": (17, 64, 96), "sample_at_epochs": (0.1,)}
GRIDS = {2, 4, 6, 11, 12}


def grids(folder):
    return {int(path.stem[5:]): np.asarray(Image.open(path)) for path in folder.glob("samples/step-*.png")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    last = in_process(folder, **MOMENTS)
    assert (last.step, round(last.epoch, 3)) == (12, 0.112)
    return folder


@pytest.mark.slow
def test_grids_come_at_these_moments_besides_the_cadence_and_rows_name_the_epoch(whole, tmp_path):
    assert set(grids(whole)) == GRIDS
    in_process(tmp_path / "often", validation_steps=1)
    often = grids(tmp_path / "often")
    for step, grid in grids(whole).items():
        assert np.array_equal(grid, often[step]), "the same noise and the same network"
    rows = read_metrics(whole / "metrics.jsonl")
    assert {row["kind"] for row in rows} == {"train", "validation"}
    for row in rows:
        assert row["epoch"] == pytest.approx(row["images"] / 1707, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [(2, 11), (5,)])
def test_a_run_that_was_cut_off_has_the_same_grids(tmp_path, whole, cuts):
    for cut in cuts:
        in_process(tmp_path / "run", should_stop=lambda step, cut=cut: step >= cut, **MOMENTS)
        assert cut not in grids(tmp_path / "run"), "whoever stops does not wait for the pictures"
    in_process(tmp_path / "run", **MOMENTS)
    assert_same_run(tmp_path / "run", whole)
    found = grids(tmp_path / "run")
    assert set(found) == GRIDS
    for step, grid in grids(whole).items():
        assert np.array_equal(found[step], grid)


@pytest.mark.long
def test_two_processes_and_two_micro_batches_have_them_at_the_same_steps(tmp_path):
    options = {"max_train_steps": 4, "sample_at_epochs": (0.03,)}  # 51.2 images: in steps of 32, those of step 2
    last = in_process(tmp_path / "accumulated", gradient_accumulation_steps=2, **options)
    assert round(last.epoch, 3) == 0.075
    done = launch(*command(tmp_path / "two", **options), processes=2)
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch 0\.07: .*4/4", done.stderr), "in the progress bar"
    ours, others = grids(tmp_path / "accumulated"), grids(tmp_path / "two")
    assert set(ours) == set(others) == {2, 4}
    for step, grid in ours.items():
        assert np.abs(grid.astype(int) - others[step]).max() <= 2, "as far as two processes round alike"


def test_a_moment_that_never_comes_is_named_with_what_reaches_it(tmp_path, caplog):
    in_process(tmp_path, max_train_steps=2, sample_at_epochs=(0.01, 10.0))
    assert "--sample_at_epochs 10: no sample grid is drawn there, because the training ends at step 2" in caplog.text
    assert "--max_train_steps 1067 reaches it" in caplog.text


def test_the_first_step_that_has_seen_so_many_images():
    config = preset("digits", sample_at_epochs=(1.0, 5.0, 10.0), sample_at_images=(1, 64, 65))
    assert list(grid_moments(config, 1707, 64)) == [1, 2, 27, 134, 267]
    assert list(grid_moments(preset("digits", sample_at_epochs=(0.1,)), 70, 7)) == [1], "no rounding of binary floats"


@pytest.mark.parametrize(("words", "said"), [("0", "0.0: more than 0"), ("1 -5", "-5.0: more than 0"), ("nan", "nan: more than 0"), ("inf", "inf: a finite number")])  # fmt: skip
def test_impossible_moments_are_refused(capsys, words, said):
    with pytest.raises(SystemExit):
        parse(["--sample_at_epochs", *words.split()])
    assert f"--sample_at_epochs {said} is needed" in capsys.readouterr().err
    assert parse(["--sample_at_epochs", "1", "0.5"]).sample_at_epochs == (1.0, 0.5)
