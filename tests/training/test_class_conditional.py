"""`--class_conditional`: which labels the network is told, what a run computes and writes, and that it resumes."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel
from labelled import vivid
from launch import launch
from PIL import Image
from safetensors.torch import load_file
from tiny import TINY, assert_same_run, command, in_process, weights

from ddpm import checkpoint, data, plots, tiles
from ddpm.config import preset
from ddpm.data import DataOptions, Images, to_float
from ddpm.metrics import read_metrics
from ddpm.sampling import sample
from ddpm.schedule import NoiseSchedule
from ddpm.training import state
from ddpm.training.labelling import Labelling
from ddpm.training.sheet import Sheet
from ddpm.unet import build_unet
from ddpm.validation import Validation

LABELS = {"class_conditional": True, "label_dropout": 0.25}
DIGITS = tuple("0123456789")


def build(**network):
    """A network whose labels matter before it has learnt anything."""
    return vivid(build_unet(**network))


def table(folder):
    return load_file(folder / "labels.safetensors")["class_embedding"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert in_process(folder, build=build, **LABELS).stopped == "finished"
    return folder


# --------------------------------------------------------------------------------------------------- what it is told


def images(labels, names=None):
    pixels = np.zeros((len(labels), 1, 8, 8), np.uint8)
    return Images(pixels, pixels[:1], "0", np.array(labels, np.int64), label_names=names or {})


def labelling(found, **options):
    return Labelling(preset("digits", class_conditional=True, **options), found)


def told(labels, steps=300, **options):
    """(steps, N) what the network is told of every image at every step."""
    each = labelling(images(labels), **options)
    return np.stack([each.of(np.arange(len(labels)), step, 0) for step in range(steps)])


@pytest.mark.parametrize("unlabelled", [0, 40, 100])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_share_that_is_told_nothing_includes_the_images_without_a_label(unlabelled, share):
    labels = [-1] * unlabelled + [3, 7, 12] * ((400 - unlabelled) // 3) + [3] * ((400 - unlabelled) % 3)
    shown = told(labels, label_dropout=share)
    assert set(np.unique(shown)) <= {0, 1, 2, 3}, "three classes, and no label"
    assert (shown[:, :unlabelled] == 3).all()
    spread = np.sqrt(share * (1 - share) / shown.size)
    assert (shown == 3).mean() == pytest.approx(share, abs=5 * spread)
    for number, label in enumerate((3, 7, 12)):
        column = shown[:, np.array(labels) == label]
        assert ((column == number) | (column == 3)).all(), "nothing but the own label, or none"


def test_what_is_hidden_depends_on_seed_step_and_slot_alone():
    each, index = labelling(images([0, 1] * 50), label_dropout=0.5), np.arange(100)
    first = each.of(index, 7, 1)
    each.of(index, 3, 0)
    assert np.array_equal(first, labelling(images([0, 1] * 50), label_dropout=0.5).of(index, 7, 1))
    for other in (
        each.of(index, 7, 0),
        each.of(index, 8, 1),
        labelling(images([0, 1] * 50), seed=1, label_dropout=0.5).of(index, 7, 1),
    ):
        assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("labels", "dropout", "said"),
    [
        ([-1] * 100, 1.0, "the images of 'digits' have no labels; a column of class labels, a folder for each class"),
        ([-1] + [0] * 99, 0.0, "1 image of 100 have no label, and --label_dropout 0 covers 0: pass --label_dropout 0.01"),
        ([-1] * 26 + [0] * 174, 0.1, "26 images of 200 have no label, and --label_dropout 0.1 covers 20: .* 0.13 or more"),
        ([-1] * 1 + [0] * 6, 0.1, "1 image of 7 have no label, .* pass --label_dropout 0.143 or more"),
        (list(range(10_001)), 0.1, "10,001 different labels; at most 10,000"),
    ],
)  # fmt: skip
def test_labels_that_are_missing_are_counted(labels, dropout, said):
    with pytest.raises(ValueError, match=f"^--class_conditional: {said}"):
        labelling(images(labels), label_dropout=dropout)
    if 0 < labels.count(-1) < len(labels):  # what the message advises is accepted
        enough = float(re.search(r"--label_dropout (\S+) or more", str(raises(labels, dropout)))[1])
        assert labelling(images(labels), label_dropout=enough).num_classes == 1


def raises(labels, dropout):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        labelling(images(labels), label_dropout=dropout)
    return error.value


@pytest.mark.parametrize(
    ("labels", "names", "dropout", "lines"),
    [
        (range(10), {}, 0.1, ["labels: 10 classes, 0 to 9; 10 % of the images are trained without their label"]),
        ([0] * 9, {0: "cat"}, 0.5, ["labels: 1 class, cat; 50 % of the images are trained without their label"]),
        (
            [-1, *range(30)],
            {29: "zebra"},
            0.05,
            [
                "labels: 30 classes, 0 to zebra; 5 % of the images are trained without their label, 1 image of 31 among "
                "them that have none; the sample grids show the first 20 classes"
            ],
        ),
        ([0, 1], {}, 0.0, ["labels: 2 classes, 0 to 1; 0 %", "--label_dropout 0: .* can neither draw without one nor be g"]),
        ([0, 1], {}, 1.0, ["labels: 2 classes, 0 to 1; 100 %", "--label_dropout 1: .* no label is learned"]),
    ],
)  # fmt: skip
def test_the_log_says_what_is_learned(caplog, labels, names, dropout, lines):
    caplog.set_level("INFO")
    labelling(images(list(labels), names), label_dropout=dropout).say()
    assert len(caplog.messages) == len(lines)
    for line, message in zip(lines, caplog.messages, strict=True):
        assert re.match(line, message)


# ------------------------------------------------------------------------------------------------ what a run computes


def test_the_first_step_is_that_of_an_unconditional_run(tmp_path):
    """The network starts with a zero answer and one vector for all classes; images, timesteps and noise are the same."""
    objectives, networks = [], []

    def spied(accelerator):
        backward = accelerator.backward
        accelerator.backward = lambda loss: (objectives.append(loss.item()), backward(loss))

    def kept(**network):
        networks.append(build_unet(**network))
        assert not networks[-1].class_embedding.weight.any()
        return networks[-1]

    in_process(tmp_path / "with", prepare=spied, build=kept, max_train_steps=12, **LABELS)
    in_process(tmp_path / "without", prepare=spied, max_train_steps=1)
    assert objectives[0] == pytest.approx(objectives[12], rel=1e-6)
    assert networks[0].config["num_class_embeds"] == 11
    rows = networks[0].class_embedding.weight.detach()
    assert len({tuple(row.tolist()) for row in rows}) == 11, "every class has learnt something, and so has no label"


def test_a_run_leaves_a_plain_pipeline_and_its_labels(whole):
    assert json.loads((whole / "labels.json").read_text()) == list(DIGITS)
    ema = state.load_latest(whole / "checkpoints").part("ema")
    learned, exported = ema["module.class_embedding.weight"], weights(whole)
    assert torch.equal(table(whole), learned[:10] - learned[10])
    bias = "time_embedding.linear_2.bias"
    torch.testing.assert_close(exported.pop(bias), ema[f"module.{bias}"] + learned[10], rtol=0, atol=1e-6)
    assert all(torch.equal(tensor, ema[f"module.{name}"]) for name, tensor in exported.items())
    pipeline = DDPMPipeline.from_pretrained(whole)
    pipeline.set_progress_bar_config(disable=True)
    assert np.isfinite(pipeline(num_inference_steps=3, output_type="np").images).all()
    settings = json.loads((whole / "train_config.json").read_text())
    assert settings["data"]["class_names"] == list(DIGITS)
    assert {name: settings["options"][name] for name in LABELS} == LABELS
    assert settings["network"]["num_classes"] == 10


def test_the_held_out_loss_is_measured_with_labels_and_without(whole):
    """Against stock diffusers on the same triples."""
    found = data.prepare(DataOptions())
    row = read_metrics(whole / "metrics.jsonl")[-1]
    assert list(row) == ["kind", "step", "images", "epoch", "val_loss", "val_loss_ema", "val_loss_with_labels", "val_loss_ema_with_labels", "train_loss_ema", "loss_gap_se"]  # fmt: skip
    scheduler = DDPMPipeline.from_pretrained(whole).scheduler
    unet = UNet2DModel.from_pretrained(whole, subfolder="unet", class_embed_type="identity").eval()
    schedule, expected = NoiseSchedule.from_scheduler(scheduler), {True: 0.0, False: 0.0}
    classes = found.class_of(found.eval_labels, len(found.eval))
    assert np.array_equal(classes, found.eval_labels), "the digits are called by their numbers"
    validation = Validation(found.eval, scheduler, TINY["num_validation_images"], classes=classes)
    for pixels, t, eps, labels in validation.batches:
        xt = schedule.q_sample(to_float(pixels), eps, t)
        for with_labels in expected:
            vectors = table(whole)[labels] * with_labels
            with torch.no_grad():
                errors = (unet(xt, t, class_labels=vectors).sample - eps).square().mean(dim=(1, 2, 3))
            expected[with_labels] += errors.sum().item() / validation.count
    assert row["val_loss_ema"] == pytest.approx(expected[False], rel=1e-5)
    assert row["val_loss_ema_with_labels"] == pytest.approx(expected[True], rel=1e-5)
    assert abs(expected[True] - expected[False]) > 1e-3, "labels matter"


@pytest.mark.slow
def test_a_sample_grid_has_a_row_without_label_and_a_column_for_each_class(tmp_path):
    in_process(tmp_path / "run", build=build, num_samples=36, sample_steps=3, **LABELS)
    model = checkpoint.load(tmp_path / "run")
    labels = torch.tensor([-1] * 10 + [*range(10)] * 3)
    options = {"num_inference_steps": 3, "labels": labels}
    drawn = plots.to_pixels(sample(model.engine(), model.scheduler, (40, 1, 8, 8), **options))
    picture = np.asarray(Image.open(tmp_path / "run/samples/step-000012.png"), int)
    assert picture.shape == (4 * 66 + 2, 10 * 66 + 2)
    for place, pixels in enumerate(drawn):
        row, column = divmod(place, 10)
        tile = picture[row * 66 + 2 : row * 66 + 66, column * 66 + 2 : column * 66 + 66]
        expected = np.asarray(tiles.grid(pixels[None], 1), int)[2:66, 2:66]
        assert np.abs(tile - expected).max() <= 2, f"row {row}, column {column}"
    assert np.abs(drawn[:10].astype(int) - drawn[10:20].astype(int)).max() > 20, "labels matter"


@pytest.mark.parametrize(
    ("num_samples", "num_classes", "columns", "rows"),
    [(36, 0, 6, 6), (36, 10, 10, 4), (4, 10, 10, 2), (36, 100, 20, 2), (100, 100, 20, 5), (36, 1, 1, 10), (36, 2, 2, 10), (36, 5, 5, 8), (400, 10, 10, 20)],
)  # fmt: skip
def test_the_layout_of_a_sample_grid(num_samples, num_classes, columns, rows):
    sheet = Sheet.of(num_samples, num_classes)
    assert (sheet.columns, len(sheet.labels)) == (columns, columns * rows)
    grid = np.array(sheet.labels).reshape(rows, columns)
    assert (grid[0] == -1).all()
    if num_classes:
        assert (grid[1:] == np.arange(columns)).all()


# ------------------------------------------------------------------------------------------------------------ resuming


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [(1,), (5, 8)])
def test_any_cut_point_gives_the_same_run(tmp_path, whole, cuts):
    for cut in cuts:
        in_process(tmp_path / "run", should_stop=lambda step, cut=cut: step >= cut, build=build, **LABELS)
    in_process(tmp_path / "run", build=build, **LABELS)
    assert_same_run(tmp_path / "run", whole)
    for name in ("labels.json", "labels.safetensors", "samples/step-000006.png", "samples/step-000012.png"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.long
@pytest.mark.parametrize("moment", ["ddpm.classes:save:2:60", "ddpm.training.labelling:Labelling.of:8:40"])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path, moment):
    words = command(tmp_path / "run", **LABELS)
    killed = launch("tests/training/killed.py", "SIGKILL", moment, *words)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    model = checkpoint.load(tmp_path / "run")
    assert model.classes.names == DIGITS, "what was saved before is whole"
    for folder in ("run", "whole"):
        done = launch(*command(tmp_path / folder, **LABELS))
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "run/labels.safetensors").read_bytes() == (tmp_path / "whole/labels.safetensors").read_bytes()


@pytest.mark.long
def test_two_processes_equal_two_micro_batches(tmp_path):
    for folder, processes, options in (("two", 2, {}), ("one", 1, {"gradient_accumulation_steps": 2})):
        done = launch(*command(tmp_path / folder, **LABELS, **options), processes=processes)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("labels: 10 classes, 0 to 9; 25 % of the images are trained without their label") == 1
        assert re.search(r"step 12: val_loss 0\.\d{4}, EMA 0\.\d{4}; with labels 0\.\d{4}, EMA 0\.\d{4}; on training ", done.stdout + done.stderr)  # fmt: skip
    two, one = (weights(tmp_path / folder) | {"": table(tmp_path / folder)} for folder in ("two", "one"))
    for name, tensor in two.items():
        torch.testing.assert_close(tensor, one[name], rtol=1e-3, atol=2e-5, msg=name)
    assert one[""].abs().max() > 1e-4, "labels were learned"
    rows = [read_metrics(tmp_path / folder / "metrics.jsonl")[-1] for folder in ("two", "one")]
    assert rows[0].pop("kind") == rows[1].pop("kind") == "validation"
    assert rows[0] == pytest.approx(rows[1], rel=1e-3)
    grids = [np.asarray(Image.open(tmp_path / f / "samples/step-000012.png"), float) for f in ("two", "one")]
    assert np.abs(grids[0] - grids[1]).max() <= 2


@pytest.mark.long
@pytest.mark.parametrize("forget", [(), ("class_conditional", "label_dropout", "label_column")])
def test_a_run_of_an_older_version_goes_on_as_before(tmp_path, forget):
    in_process(tmp_path / "run", should_stop=lambda step: step >= 8)
    in_process(tmp_path / "whole")
    for path in (*(tmp_path / "run/checkpoints").glob("*/state.json"), tmp_path / "run/train_config.json"):
        content = json.loads(path.read_text())
        assert ("labels" in content) == (path.name == "state.json")
        content["options"] = {name: value for name, value in content["options"].items() if name not in forget}
        content.pop("labels", None)
        path.write_text(json.dumps(content))
    in_process(tmp_path / "run", label_dropout=0.5)  # which means nothing without labels
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def pictures(folder: Path, names, count=40):
    """Pictures in a folder for each class."""
    for number in range(count):
        place = folder / names[number % len(names)]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(place / f"{number:02d}.png")
    return folder


@pytest.mark.slow
def test_labels_and_their_dropout_must_stay_when_a_run_goes_on(tmp_path):
    folder = pictures(tmp_path / "data", ("ant", "bee"))
    options = {"dataset_name": str(folder), "checkpointing_steps": 2} | LABELS
    in_process(tmp_path / "run", should_stop=lambda step: step >= 2, **options)
    assert json.loads((tmp_path / "run/labels.json").read_text()) == ["ant", "bee"]
    for changed, said in (
        ({"label_dropout": 0.3}, r"--label_dropout \(0.25, now 0.3\)"),
        ({"class_conditional": False}, r"--class_conditional \(True, now False\)"),
    ):
        with pytest.raises(ValueError, match=said):
            in_process(tmp_path / "run", **options | changed)
    (folder / "bee").rename(folder / "bug")
    with pytest.raises(ValueError, match="was started with other settings: the labels of the dataset"):
        in_process(tmp_path / "run", **options)
    (folder / "bug").rename(folder / "bee")
    assert in_process(tmp_path / "run", **options).stopped == "finished"


@pytest.mark.slow
def test_held_out_images_without_labels_have_no_loss_with_labels(tmp_path):
    pictures(tmp_path / "data/train", ("ant", "bee"))
    pictures(tmp_path / "data/test", (".",))
    in_process(tmp_path / "run", dataset_name=str(tmp_path / "data"), **LABELS)
    row = read_metrics(tmp_path / "run/metrics.jsonl")[-1]
    losses = {"val_loss", "val_loss_ema", "train_loss_ema", "loss_gap_se"}
    assert set(row) == {"kind", "step", "images", "epoch", *losses}


@pytest.mark.slow
def test_data_without_labels_is_one_line_and_a_status(tmp_path):
    folder = pictures(tmp_path / "data", (".",))
    done = launch(*command(tmp_path / "run", dataset_name=folder, **LABELS))
    assert done.returncode == 1
    (line,) = re.findall("^train.py: error: .*", done.stderr, re.MULTILINE)
    assert f"--class_conditional: the images of '{folder}' have no labels; " in line
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_compiled_networks_learn_labels_too(tmp_path, monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend="eager"))
    in_process(tmp_path / "compiled", compile=True, max_train_steps=6, **LABELS)
    in_process(tmp_path / "plain", max_train_steps=6, **LABELS)
    torch.testing.assert_close(table(tmp_path / "compiled"), table(tmp_path / "plain"), rtol=0, atol=1e-5)
    in_process(tmp_path / "bf16", mixed_precision="bf16", max_train_steps=6, **LABELS)
    assert torch.isfinite(table(tmp_path / "bf16")).all()
    assert table(tmp_path / "bf16").dtype == torch.float32
