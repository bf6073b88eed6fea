"""Pictures that are not square, from their files through training, checkpoint, sampler, evaluation, command line and the
server of the page."""

import base64
import json

import numpy as np
import pytest
from diffusers import DDPMPipeline
from launch import launch
from PIL import Image
from tiny import in_process
from untrained import make_model

from ddpm import checkpoint
from ddpm.compiled import Compiled
from ddpm.hub import card
from ddpm.training.memorising import few_images
from ddpm.ui.server.requests import PictureRequest, SampleRequest
from ddpm.ui.server.service import Service

HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training on 60 pictures that are wider than high, each with a bright upper half."""
    root = tmp_path_factory.mktemp("rectangular")
    (root / "pictures").mkdir()
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 60, (HEIGHT, WIDTH), np.uint8)
        pixels[: HEIGHT // 2] += 190
        Image.fromarray(pixels).save(root / f"pictures/{number:02d}.png")
    options = {"dataset_name": str(root / "pictures"), "resolution": f"{HEIGHT}x{WIDTH}", "plots": True}
    last = in_process(root / "run", **options, max_train_steps=60, lr_warmup_steps=10, sample_steps=20, validation_steps=60)  # fmt: skip
    assert last.stopped == "finished"
    return root / "run"


def upper_minus_lower(pictures):
    """(N, H, W) mean brightness of the upper half less that of the lower half."""
    pictures = np.asarray(pictures, float)
    return pictures[:, : HEIGHT // 2].mean((1, 2)) - pictures[:, HEIGHT // 2 :].mean((1, 2))


def test_the_model_says_its_size_and_stock_diffusers_draws_it(run):
    model = checkpoint.load(run)
    assert (model.size, model.channels) == ((HEIGHT, WIDTH), 1)
    assert json.loads((run / "unet/config.json").read_text())["sample_size"] == [HEIGHT, WIDTH]
    pipeline = DDPMPipeline.from_pretrained(run)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(batch_size=2, num_inference_steps=5, output_type="np").images.shape == (2, HEIGHT, WIDTH, 1)
    text = (run / "README.md").read_text()
    assert f"{HEIGHT}x{WIDTH}x1" in text
    assert "With 57 training images, its samples may be copies of them." in text
    assert "no sign of memorising" not in text, "three held-out images cannot tell"
    settings = json.loads((run / "train_config.json").read_text())
    assert f"--resolution {HEIGHT}x{WIDTH}" in card.training_command(settings)
    tiles = np.asarray(Image.open(run / "samples/step-000060.png"))
    assert tiles.shape[1] > 1.3 * tiles.shape[0], "two by two pictures that are wider than high"
    assert (run / "strip.png").is_file()


@pytest.mark.slow
def test_the_command_draws_pictures_of_this_size_and_recognises_them(run, tmp_path):
    words = ["-m", "ddpm.sample", run, "--num_images", "4", "--seed", "1", "--batch_size", "3", "--output", tmp_path / "out"]  # fmt: skip
    done = launch(*words, "--grid", tmp_path / "grid.png", "--npz", tmp_path / "all.npz", "--gif", tmp_path / "way.gif")
    assert done.returncode == 0, done.stderr
    drawn = np.load(tmp_path / "all.npz")["arr_0"]
    assert drawn.shape == (4, HEIGHT, WIDTH, 1)
    assert upper_minus_lower(drawn[..., 0]).mean() > 15, "the upper half is the bright one, as in the images"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/00002.png")), drawn[2, ..., 0])
    again = launch(*words)
    assert "4 of which were there already" in again.stdout
    (tmp_path / "out/00001.png").unlink()
    Image.new("L", (HEIGHT, WIDTH)).save(tmp_path / "out/00001.png")
    refused = launch(*words, "--grid", tmp_path / "again.png")
    assert f"is {HEIGHT} x {WIDTH}: {WIDTH} x {HEIGHT} is needed" in refused.stderr


@pytest.mark.slow
def test_it_is_measured_and_its_samples_are_shown_beside_the_nearest_images(run, tmp_path):
    """With the command that the training names for so few images, which needs no labels."""
    line = few_images(57, run, 1000)
    assert line.startswith("57 training images are few")
    assert "--timesteps 20`" in line, "the bound over all timesteps would take longer than the samples"
    assert "--timesteps" not in few_images(57, run, 20)
    words = line.split("`")[1].split()
    assert words[:3] == ["python", "-m", "ddpm.evaluate"]
    done = launch(*words[1:], "--num_images", "2", "--output", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["num_samples"] == 16
    assert "frechet_distance" not in report
    assert 0 < report["nearest_train_rms"] < 1
    assert "nearest training image: " in done.stdout
    shown = np.asarray(Image.open(tmp_path / "report-neighbours.png").convert("L"))
    used = np.nonzero((shown < 250).any(1))[0]
    assert used[0] + len(shown) - used[-1] < 0.06 * len(shown), "no empty stripes above and below wide pictures"
    other = launch("-m", "ddpm.evaluate", run, "--resolution", "16x16", "--output", tmp_path / "other.json")
    assert f"are 16x16x1, {run.name} makes {HEIGHT}x{WIDTH}x1: pass --resolution {HEIGHT}x{WIDTH} --channels 1" in other.stderr  # fmt: skip


@pytest.mark.slow
def test_a_hole_in_a_picture_is_filled_and_the_rest_stays_to_the_byte(run, tmp_path):
    picture, mask = (
        np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH), np.uint8),
    )
    mask[:, : WIDTH // 3] = 255
    for name, pixels in (("picture", picture), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    words = ["-m", "ddpm.sample", run, "--inpaint", tmp_path / "picture.png", "--mask", tmp_path / "mask.png"]
    done = launch(*words, "--num_images", 1, "--num_inference_steps", 4, "--jumps", 1, "--output", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    drawn = np.asarray(Image.open(tmp_path / "drawn/00000.png"))
    assert (drawn == picture)[mask == 0].all()
    assert (drawn == picture)[mask > 0].mean() < 0.2
    Image.fromarray(mask.T.copy()).save(tmp_path / "mask.png")
    done = launch(*words, "--output", tmp_path / "other")
    assert f"it has {HEIGHT} x {WIDTH} pixels, and {WIDTH} x {HEIGHT} are needed" in done.stderr


def test_another_training_starts_from_it_only_with_pictures_of_its_size(run, tmp_path):
    pictures = str(run.parent / "pictures")
    with pytest.raises(ValueError, match=rf"for images of {HEIGHT}x{WIDTH}x1, and these are 16x16x1: pass --resolution {HEIGHT}x{WIDTH} --channels 1"):  # fmt: skip
        in_process(tmp_path / "square", init_from=str(run), dataset_name=pictures)
    options = {"init_from": str(run), "dataset_name": pictures, "resolution": f"{HEIGHT}x{WIDTH}"}
    assert in_process(tmp_path / "more", **options, max_train_steps=1).stopped == "finished"


def test_few_images_are_warned_about_and_many_are_not(run, caplog, tmp_path):
    pictures = str(run.parent / "pictures")
    in_process(tmp_path / "few", dataset_name=pictures, max_train_steps=1)
    assert f"57 training images are few, so the network is likely to copy them. After the training, `python -m ddpm.evaluate {tmp_path / 'few'} --num_samples 16" in caplog.text  # fmt: skip
    caplog.clear()
    in_process(tmp_path / "digits", max_train_steps=1)
    assert "are few" not in caplog.text


def test_the_server_of_the_page_reads_and_draws_it(run):
    service = Service(checkpoint.load(run))
    try:
        assert service.readings.shape == (HEIGHT, WIDTH, 1)
        trajectory = service.samplings.get_or_draw(SampleRequest("ddim", 3, 2, 0))
        sent = trajectory.as_json()
        assert (sent["side"], sent["height"]) == (WIDTH, HEIGHT)
        assert len(trajectory.frames[0]) == 3 * 2 * HEIGHT * WIDTH
        picture = service.first_picture()
        assert picture is not None
        digit = np.frombuffer(picture, np.uint8).reshape(HEIGHT, WIDTH)
        assert not digit[:, :4].any(), "the digit stands in the middle"
        assert not digit[:, -4:].any()
        bound = service.readings.get_or_compute_bound(PictureRequest("bound", picture, 7))
        assert np.isfinite(bound.total)
    finally:
        service.close()


@pytest.mark.slow
def test_large_ones_are_thinned_along_both_sides(tmp_path):
    """96 x 160 pixels in colour: frames keep one pixel out of several, along each side."""
    service = Service(checkpoint.load(make_model(tmp_path, (96, 160), 3, 40, widths=(8, 8, 8, 8, 8))))
    try:
        sent = service.samplings.get_or_draw(SampleRequest("ddim", 40, 4, 0)).as_json()
        factor = -(-160 // sent["side"])
        assert factor > 1
        assert (sent["height"], sent["side"]) == (-(-96 // factor), -(-160 // factor))
        frames = len(sent["t"])
        assert len(base64.b64decode(sent["data"])) == frames * 3 * 4 * sent["height"] * sent["side"] * 3
        assert len(base64.b64decode(sent["whole"])) == 2 * 4 * 96 * 160 * 3 // 2
    finally:
        service.close()


@pytest.mark.long
def test_the_compiled_network_computes_what_pytorch_computes(tmp_path):
    import torch

    model = checkpoint.load(make_model(tmp_path, (16, 24), 1, 40))
    fast = Compiled(model.unet)
    fast.prepare(2, wait=True)
    xt, t = torch.randn(2, 1, 16, 24), torch.tensor([3, 30])
    torch.testing.assert_close(fast(xt, t), model.unet(xt, t).sample, rtol=1e-3, atol=1e-4)
