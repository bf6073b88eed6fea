"""`python -m ddpm.sample`: pictures on the disk, as people who have trained a model ask for them."""

import json

import numpy as np
import pytest
import torch
from labelled import NAMES, make_labelled
from launch import launch
from PIL import Image
from untrained import make_model

from ddpm import checkpoint, plots
from ddpm.sampling import sample

STEPS = ("--num_inference_steps", 4)


def start(*words, **options):
    return launch("-m", "ddpm.sample", *words, "--num_cpu_threads", 1, **options)


def drawn(*words, **options):
    done = start(*words, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def pixels(folder, count):
    assert sorted(p.name for p in folder.glob("*.png")) == [f"{i:05d}.png" for i in range(count)]
    return np.stack([np.asarray(Image.open(folder / f"{i:05d}.png")) for i in range(count)])


def expected(directory, count, **options):
    """By the sampler itself, each picture on its own."""
    model = checkpoint.load(directory)
    labels = options.pop("labels", [None] * count)
    shape = (1, model.channels, model.resolution, model.resolution)
    pictures = []
    for i, label in enumerate(labels):
        asked = {} if label is None else {"labels": torch.tensor([label])}
        made = sample(model.engine(), model.scheduler, shape, num_inference_steps=4, first_image=i, **asked, **options)
        pictures.append(plots.to_pixels(made)[0].squeeze())
    return np.stack(pictures)


def assert_alike(found, wanted):
    """The network's sums are rounded in another order in another batch, so a level may be the next one here and there."""
    difference = np.abs(found.astype(int) - wanted.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("sample") / "gray", 8, 1, 40)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("sample") / "colour", 8, 3, 40)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return make_labelled(tmp_path_factory.mktemp("sample") / "labelled")


def test_pictures_are_those_of_the_sampler_whatever_the_batch_and_the_number_of_processes(colour, tmp_path):
    words = (colour, "--num_images", 5, *STEPS, "--seed", 7, "--output")
    line = drawn(*words, tmp_path / "one")
    assert line == f"5 pictures in {tmp_path / 'one'}"
    drawn(*words, tmp_path / "two", "--batch_size", 2)
    shared = tmp_path / "shared.npz"
    drawn(*words, tmp_path / "three", "--npz", shared, processes=2)
    wanted = expected(colour, 5, seed=7)
    assert len({picture.tobytes() for picture in wanted}) == 5
    for name in ("one", "two", "three"):
        assert_alike(pixels(tmp_path / name, 5), wanted)
    with np.load(shared) as arrays:
        assert list(arrays) == ["arr_0"]
        assert np.array_equal(arrays["arr_0"], pixels(tmp_path / "three", 5))


@pytest.mark.slow
def test_the_same_command_goes_on_and_others_are_refused(model, tmp_path):
    folder = tmp_path / "many"
    words = (model, *STEPS, "--output", folder)
    drawn(*words, "--num_images", 4)
    before = pixels(folder, 4)
    (folder / "00002.png").unlink()  # as after a stop
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    line = drawn(*words, "--num_images", 6, "--grid", tmp_path / "all.png")
    assert line.startswith(f"6 pictures in {folder}, 3 of which were there already; ")
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    assert_alike(pixels(folder, 6)[:4], before)
    assert Image.open(tmp_path / "all.png").size == (3 * 66 + 2, 2 * 66 + 2)
    for more, said in (
        (("--seed", 1), "were drawn with --seed 0: pass another --output"),
        (("--sampler", "ddim"), "were drawn with --sampler ddpm: pass another --output"),
    ):
        done = start(*words, *more)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].endswith(f"{folder} holds pictures that {said}")
    other = make_model(tmp_path / "other", 8, 1, 40, widths=(16, 16))
    assert "were drawn by other weights: pass another --output" in start(other, *words[1:]).stderr
    assert_alike(pixels(folder, 6)[:4], before)
    (folder / "00000.png").write_bytes(b"no picture")
    done = start(*words, "--num_images", 6, "--grid", tmp_path / "all.png")
    assert done.returncode == 1
    assert "00000.png cannot be read: remove it, and the same command draws it again" in done.stderr


def test_numbered_pictures_of_others_stay(model, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "00001.png")
    done = start(model, *STEPS, "--output", tmp_path)
    assert done.returncode == 1
    assert "holds numbered pictures of another program: pass another --output" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["00001.png"]


def test_labels_in_turn_with_guidance(labelled, tmp_path):
    line = drawn(
        labelled, "--num_images", 6, *STEPS, "--label", "cat", "ant", "--guidance_scale", 3,
        "--output", tmp_path / "p", "--npz", tmp_path / "p.npz", "--grid", tmp_path / "p.png",
    )  # fmt: skip
    assert line.endswith(f"an array of shape (6, 8, 8, 1) in {tmp_path / 'p.npz'}")
    numbers = [2, 0] * 3
    wanted = expected(labelled, 6, labels=numbers, guidance_scale=3)
    assert_alike(pixels(tmp_path / "p", 6), wanted)
    assert np.abs(wanted.astype(int) - expected(labelled, 6)).mean() > 5
    with np.load(tmp_path / "p.npz") as arrays:
        assert arrays["arr_1"].tolist() == numbers
    assert Image.open(tmp_path / "p.png").width == 2 * 66 + 2  # a column for each label
    assert json.loads((tmp_path / "p/samples.json").read_text())["label"] == ["cat", "ant"]


def test_an_animation_begins_with_noise_and_ends_with_the_pictures(model, tmp_path):
    gif = tmp_path / "way.gif"
    line = drawn(model, "--num_images", 20, *STEPS, "--batch_size", 8, "--gif", gif)
    assert line == f"the way of 16 pictures in {gif}"
    with Image.open(gif) as animation:
        assert animation.n_frames == 5
        shown = []
        for number in range(5):
            animation.seek(number)
            shown.append(np.asarray(animation.convert("L"), int))
        assert animation.info["loop"] == 0
        assert animation.info["duration"] >= 1000
    finished = expected(model, 16)[..., None]
    columns = (shown[0].shape[1] - 2) // 66
    wanted = np.asarray(plots.grid(finished, columns), int)
    assert shown[0].shape == wanted.shape
    assert np.abs(shown[-1] - wanted).mean() < 1
    generator_noise = np.abs(shown[0] - wanted).mean()
    assert generator_noise > 20, "the first frame is noise"


def test_without_a_place_the_pictures_go_into_a_folder_of_the_models_name(model, tmp_path, monkeypatch):
    from ddpm.sample.options import SampleConfig

    assert str(SampleConfig(model=f"{model}/").folder) == "samples/gray"
    assert str(SampleConfig(model="you/ddpm").folder) == "samples/ddpm"
    assert SampleConfig(gif="way.gif").folder is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num_images", 0), "--num_images 0: 1 or more is needed"),
        (("--num_inference_steps", 0), "--num_inference_steps 0: 1 or more is needed"),
        (("--guidance_scale", 3), "--guidance_scale 3.0: a --label is needed"),
        (("--guidance_scale", "nan", "--label", "ant"), "--guidance_scale nan: 0 (without label) to 20 is needed"),
        (("--grid", "grid.jpg"), "--grid grid.jpg: the name of a .png file is needed"),
        (("--seed", -1), "--seed -1: 0 or more is needed"),
        (("--output", "README.md"), "--output README.md: "),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(words, said):
    done = start("ddpm/assets/mnist", *words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"python -m ddpm.sample: error: {said}")


def test_what_the_model_cannot_do_is_one_line_and_leaves_nothing(model, labelled, tmp_path):
    for directory, words, said in (
        (model, ("--num_inference_steps", 41), "--num_inference_steps 41: 1 to 40 is needed"),
        (
            model,
            ("--sampler", "ddpm_optimal"),
            "--sampler ddpm_optimal: nobody has measured the errors of gray; `python",
        ),
        (model, ("--label", "ant"), "label 'ant': gray has no labels to ask for"),
        (labelled, ("--label", "dog"), f"label 'dog': the model knows {', '.join(NAMES)}, and none for no label"),
        (tmp_path / "none", (), "none': no such directory, and no name of a Hub repository like user/name"),
    ):
        done = start(directory, *words, "--output", tmp_path / "p")
        assert done.returncode == 1
        assert said in done.stderr.strip().splitlines()[-1]
        assert not (tmp_path / "p").exists()


def test_a_full_disk_is_one_line_and_costs_no_picture_that_was_drawn(model, tmp_path):
    words = (model, "--num_images", 4, *STEPS, "--output", tmp_path / "p")
    done = start(*words, "--npz", tmp_path / "all.npz", largest_file=450)
    assert done.returncode == 1
    assert "File too large" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "all.npz").exists()
    assert_alike(pixels(tmp_path / "p", 4), expected(model, 4))
