"""`python -m ddpm.sample`: pictures on the disk, as people who have trained a model ask for them."""

import json
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch
from labelled import NAMES, make_labelled
from launch import launch
from PIL import Image
from untrained import make_model

from ddpm import checkpoint, plots, tiles
from ddpm.sample.inpaint import Inpainting
from ddpm.sample.options import SampleConfig
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


@pytest.mark.slow
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


@pytest.mark.long
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
        (("--precision", "bfloat16"), "were drawn with --precision float32: pass another --output"),
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


@pytest.mark.slow
def test_eta_reaches_the_sampler_and_belongs_to_the_folder(model, tmp_path):
    words = (model, *STEPS, "--num_images", 2, "--sampler", "dpm_solver++", "--output", tmp_path)
    drawn(*words, "--eta", 1)
    wanted = expected(model, 2, sampler="dpm_solver++", eta=1.0)
    assert_alike(pixels(tmp_path, 2), wanted)
    assert np.abs(wanted.astype(int) - expected(model, 2, sampler="dpm_solver++")).max() > 10
    assert "holds pictures that were drawn with --eta 1.0: pass another --output" in start(*words).stderr
    record = tmp_path / "samples.json"
    older = json.loads(record.read_text())
    del older["eta"]  # of a time when it was always 0
    record.write_text(json.dumps(older))
    assert "2 of which were there already" in drawn(*words)
    assert "holds pictures that were drawn with --eta 0.0: pass another --output" in start(*words, "--eta", 1).stderr


@pytest.mark.slow
def test_numbered_pictures_of_others_stay(model, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "00001.png")
    done = start(model, *STEPS, "--output", tmp_path)
    assert done.returncode == 1
    assert "holds numbered pictures of another program: pass another --output" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["00001.png"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_progress_bar_counts_pictures_without_label_once(labelled, tmp_path):
    words = ("--label", "cat", "none", "--guidance_scale", 3, "--output", tmp_path / "p")
    done = start(labelled, "--num_images", 5, *STEPS, *words)
    assert done.returncode == 0, done.stderr
    assert f"100%|██████████| {4 * (3 * 2 + 2)}/{4 * (3 * 2 + 2)}" in done.stderr
    again = start(labelled, "--num_images", 5, *STEPS, *words)
    assert "5 of which were there already" in again.stdout, again.stderr


@pytest.mark.slow
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
    wanted = np.asarray(tiles.grid(finished, columns), int)
    assert shown[0].shape == wanted.shape
    assert np.abs(shown[-1] - wanted).mean() < 1
    generator_noise = np.abs(shown[0] - wanted).mean()
    assert generator_noise > 20, "the first frame is noise"


def test_without_a_place_the_pictures_go_into_a_folder_of_the_models_name(model, tmp_path, monkeypatch):
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
        (("--eta", 0.5), "--eta 0.5: --sampler ddpm does not take it; ddim and dpm_solver++ do"),
        (("--eta", "nan", "--sampler", "ddim"), "--eta nan: 0 to 1 is needed"),
        (("--output", "README.md"), "--output README.md: "),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(words, said):
    done = start("ddpm/assets/mnist", *words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(f"python -m ddpm.sample: error: {said}")


@pytest.mark.slow
def test_what_the_model_cannot_do_is_one_line_and_leaves_nothing(model, labelled, tmp_path):
    always = shutil.copytree(labelled, tmp_path / "always")
    settings = json.loads((checkpoint.EMBEDDED / "train_config.json").read_text())
    settings["options"] |= {"class_conditional": True, "label_dropout": 0.0}
    (always / "train_config.json").write_text(json.dumps(settings))
    for directory, words, said in (
        (model, ("--num_inference_steps", 41), "--num_inference_steps 41: 1 to 40 is needed"),
        (
            model,
            ("--sampler", "ddpm_optimal"),
            "--sampler ddpm_optimal: nobody has measured the errors of gray; `python",
        ),
        (model, ("--label", "ant"), "label 'ant': gray has no labels to ask for"),
        (labelled, ("--label", "dog"), f"label 'dog': the model knows {', '.join(NAMES)}, and none for no label"),
        (
            always,
            ("--label", "cat", "--guidance_scale", 3),
            "--guidance_scale 3: always was trained with labels only, so there is nothing to guide away from; 1 is needed",
        ),
        (tmp_path / "none", (), "none': no such directory, and no name of a Hub repository like user/name"),
    ):
        done = start(directory, *words, "--output", tmp_path / "p")
        assert done.returncode == 1
        assert said in done.stderr.strip().splitlines()[-1]
        assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_no_picture_that_was_drawn(model, tmp_path):
    words = (model, "--num_images", 4, *STEPS, "--output", tmp_path / "p")
    done = start(*words, "--npz", tmp_path / "all.npz", largest_file=450)
    assert done.returncode == 1
    assert "File too large" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "all.npz").exists()
    assert_alike(pixels(tmp_path / "p", 4), expected(model, 4))


@pytest.fixture
def torn(tmp_path):
    """A picture for the gray model, and a mask whose right half is white."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    for name, shown in (("picture", picture), ("mask", mask)):
        Image.fromarray(shown).save(tmp_path / f"{name}.png")
    return picture, ("--inpaint", tmp_path / "picture.png", "--mask", tmp_path / "mask.png")


@pytest.mark.slow
def test_a_picture_is_filled_in_and_its_known_pixels_stay(model, labelled, torn, tmp_path):
    picture, words = torn
    folder = tmp_path / "filled"
    line = drawn(model, "--num_images", 5, *STEPS, *words, "--jumps", 2, "--output", folder, "--batch_size", 2)
    assert line == f"5 pictures in {folder}"
    made = pixels(folder, 5)
    assert (made[:, :, :4] == picture[:, :4]).all()
    assert len({each[:, 4:].tobytes() for each in made}) == 5
    known, mask = torch.from_numpy(picture / 127.5 - 1)[None], torch.zeros(8, 8)
    mask[:, 4:] = 1
    assert_alike(made, expected(model, 5, known=known, mask=mask, jumps=2))
    drawn(model, "--num_images", 5, *STEPS, *words, "--jumps", 2, "--output", tmp_path / "two", processes=2)
    assert_alike(pixels(tmp_path / "two", 5), made)

    done = start(model, "--num_images", 5, *STEPS, *words, "--output", folder)
    assert f"{folder} holds pictures that were drawn with --jumps 2: pass another --output" in done.stderr
    assert "drawn with --inpaint" in start(model, *STEPS, "--output", folder).stderr
    Image.fromarray(255 - picture).save(words[1])  # of the same name
    done = start(model, *STEPS, *words, "--jumps", 2, "--output", folder)
    assert "drawn from another picture or another mask: pass another --output" in done.stderr
    drawn(model, "--num_images", 1, *STEPS, "--output", tmp_path / "whole")
    assert (
        "drawn without --inpaint: pass another" in start(model, *STEPS, *words, "--output", tmp_path / "whole").stderr
    )

    asked = ("--label", "cat", "--guidance_scale", 3, "--sampler", "ddim", "--npz", tmp_path / "cats.npz")
    drawn(labelled, "--num_images", 2, *STEPS, *words, *asked)
    with np.load(tmp_path / "cats.npz") as arrays:
        assert (arrays["arr_0"][:, :, :4, 0] == 255 - picture[:, :4]).all()


@pytest.mark.slow
def test_a_palette_picture_in_colour_stays_to_the_byte(colour, tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)).quantize(16)
    image.save(tmp_path / "picture.png")
    mask = Image.new("RGB", (8, 8), "black")
    mask.paste("white", (2, 2, 5, 5))
    mask.save(tmp_path / "mask.png")
    words = ("--inpaint", tmp_path / "picture.png", "--mask", tmp_path / "mask.png")
    drawn(colour, "--num_images", 2, *STEPS, *words, "--output", tmp_path / "filled")
    made, filled = pixels(tmp_path / "filled", 2), np.zeros((8, 8), bool)
    filled[2:5, 2:5] = True
    assert (made[:, ~filled] == np.asarray(image.convert("RGB"))[~filled]).all()
    assert (made[0, filled] != made[1, filled]).any()


def test_a_turned_picture_is_read_as_it_is_shown(model, torn, tmp_path):
    shown, (_, _picture, _, mask) = torn
    turned = Image.fromarray(shown.squeeze()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # whoever shows it turns it by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    read = Inpainting.read(
        SampleConfig(str(model), inpaint=str(tmp_path / "turned.png"), mask=str(mask)), checkpoint.load(model)
    )
    assert (read.pixels.squeeze() == shown.squeeze()).all()


def deep_png() -> bytes:
    """8x8 in colour with 16 bits per channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + np.full((8, 3), 30_001, ">u2").tobytes() for _ in range(8))
    parts = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_picture_or_a_mask_that_does_not_fit_is_one_line(model, torn, tmp_path):
    _, (_, picture, _, mask) = torn
    gray = Image.new("L", (8, 8), 100)
    faults = {
        "small.png": (Image.new("L", (7, 8)), "it has 7 x 8 pixels, and 8 x 8 are needed, as the model draws"),
        "clear.png": (Image.new("LA", (8, 8), (100, 20)), "it is transparent in places; "),
        "colour.png": (Image.new("RGB", (8, 8), "red"), "it has colours, and "),
        "deep.png": (Image.fromarray(np.full((8, 8), 300, np.uint16)), "it has more than 8 bits per pixel"),
    }
    for name, (image, _) in faults.items():
        image.save(tmp_path / name)
    (tmp_path / "deep colours.png").write_bytes(deep_png())
    (tmp_path / "text.png").write_text("no picture")
    gray.save(tmp_path / "black.png")
    said = {name: message for name, (_, message) in faults.items()}
    said |= {"text.png": "this is no picture that can be read", "none.png": "No such file or directory"}
    said["deep colours.png"] = "it has more than 8 bits per pixel"
    said["black.png"] = "nothing in it is white, so nothing is to be filled in"
    checked = checkpoint.load(model)
    for name, message in said.items():
        for flag, other in (("mask", {"inpaint": str(picture)}), ("inpaint", {"mask": str(mask)})):
            if (flag, name) == ("inpaint", "black.png"):
                continue  # a black picture is fine
            with pytest.raises(ValueError, match=re.escape(f"--{flag} {tmp_path / name}: {message}")) as refused:
                Inpainting.read(SampleConfig(str(model), **other, **{flag: str(tmp_path / name)}), checked)
            assert "\n" not in str(refused.value)
    done = start(model, *STEPS, "--inpaint", picture, "--mask", tmp_path / "small.png", "--output", tmp_path / "p")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("python -m ddpm.sample: error: --mask ")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--inpaint", "a.png"), "--inpaint a.png: --mask is needed"),
        (("--mask", "a.png"), "--mask a.png: --inpaint is needed"),
        (("--jumps", 3), "--jumps 3: --inpaint is needed"),
        (("--inpaint", "a", "--mask", "b", "--jumps", -1), "--jumps -1: 0 (none) or more is needed"),
        (("--inpaint", "a", "--mask", "b", "--sampler", "dpm_solver++"), "--sampler dpm_solver++: with --inpaint, one of"),
        (("--inpaint", "a", "--mask", "b", "--jump_length", 9, *STEPS), "--jump_length 9: with 4 sampling steps, 1 to 3 is needed"),
    ],
)  # fmt: skip
def test_wrong_usage_of_inpainting_is_one_line_and_status_2(words, said):
    done = start("ddpm/assets/mnist", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"python -m ddpm.sample: error: {said}")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_network_whose_output_is_not_finite_draws_nothing(tmp_path):
    """Its weights are finite, and clipping x_0 would make black and white pictures of its answers."""
    folder = make_model(tmp_path / "huge", 8, 1, 40)
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["conv_out.weight"].fill_(3e38)
    safetensors.torch.save_file(weights, path)
    done = start(folder, "--num_images", 1, *STEPS, "--output", tmp_path / "p")
    assert done.returncode == 1
    assert "error: the network's output is not finite (NaN or infinity)" in done.stderr.strip().splitlines()[-1]
    assert not list((tmp_path / "p").glob("*.png"))
