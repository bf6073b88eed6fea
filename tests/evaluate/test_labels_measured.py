"""ddpm.evaluate of a class-conditional model: what a label is worth, samples over guidance scales, and the bound as a
classifier."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from launch import launch
from PIL import Image
from tiny import command

from ddpm import checkpoint, data, draws
from ddpm.classes import separated
from ddpm.elbo import class_posterior, elbo_estimate, elbo_terms
from ddpm.evaluate import EvaluateConfig, evaluate, quality
from ddpm.evaluate.labels import asked_labels
from ddpm.evaluate.report import table as table_of
from ddpm.evaluate.subject import Subject
from ddpm.sampling import sample
from ddpm.unet import build_unet

SCALES = (0, 1, 1.5, 2, 3, 5, 8)


def start(*words, processes=1):
    return launch("-m", "ddpm.evaluate", *words, "--num_cpu_threads", 1, processes=processes)


pytestmark = pytest.mark.long  # it trains a model and a classifier, and draws at seven scales


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A class-conditional training of 40 timesteps, by the command line; too short to obey its labels."""
    folder = tmp_path_factory.mktemp("labels") / "run"
    options = {"block_out_channels": (16, 32), "train_batch_size": 64, "max_train_steps": 160, "lr_warmup_steps": 20}
    options |= {"num_validation_images": 1024, "validation_steps": 1000, "checkpointing_steps": 1000}
    done = launch(*command(folder, **options, class_conditional=True, label_dropout=0.2))
    assert done.returncode == 0, done.stderr
    return folder


OPTIONS = ("--num_images", 10, "--num_samples", 60, "--num_inference_steps", 10, "--classify", 20)


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    quality.train_classifier(data.prepare(data.DataOptions()))  # into the cache, where the command finds it
    done = start(run, *OPTIONS, "--output", folder / "report.json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "report.json").read_text()), done


def held_out(images, count, seed=0):
    return draws.generator(seed, draws.Purpose.EVALUATION, slot=1).permutation(len(images.eval))[:count]


def test_the_label_is_worth_the_difference_of_the_bounds_at_the_same_noise(report, run):
    """By hand, with a network that is told labels in the way of stock diffusers."""
    _, figures, done = report
    model, images = checkpoint.load(run), data.prepare(data.DataOptions())
    unet = checkpoint.UNet2DModel.from_pretrained(run / "unet", class_embed_type="identity")
    vectors = model.classes.with_none()
    told, bare = [], []
    for index in held_out(images, 10):
        seed = draws.generator(0, draws.Purpose.EVALUATION, int(index), slot=2).integers(2**63)
        for label, sums in ((int(images.eval_labels[index]), told), (-1, bare)):
            with torch.no_grad():
                terms = elbo_terms(
                    lambda xt, t, label=label: unet(xt, t, vectors[label].expand(len(xt), -1)).sample,
                    model.schedule,
                    data.to_float(images.eval[[index]]),
                    generator=torch.Generator().manual_seed(int(seed)),
                )
            sums.append(terms.total.item())
    saved = np.subtract(bare, told)
    assert figures["bits_per_dim"] == pytest.approx(np.mean(told), rel=1e-4)
    assert figures["bits_per_dim_without_label"] == pytest.approx(np.mean(bare), rel=1e-4)
    assert figures["label_bits_per_dim"] == pytest.approx(saved.mean(), rel=1e-2, abs=2e-6)
    assert figures["label_bits_per_dim_se"] == pytest.approx(saved.std(ddof=1) / 10**0.5, rel=1e-2)
    assert figures["label_bits_per_image"] == pytest.approx(64 * figures["label_bits_per_dim"])
    assert figures["num_labelled_images"] == 10
    parts = figures["prior_bits"] + sum(figures["kl_bits"]) + figures["reconstruction_bits"]
    assert figures["bits_per_dim"] == pytest.approx(parts, rel=1e-9), "the terms are those with the label"
    table = done.stdout
    assert re.search(rf"without label +{figures['bits_per_dim_without_label']:.4f} ±", table)
    assert re.search(rf"without label +{figures['eps_mse_mean_without_label']:.5f} ±", table)
    assert re.search(rf"label saves +{figures['label_bits_per_dim']:.4f} ± .* bits per image; same noise; 10 im", table)
    rows = checkpoint.read_metrics(run / "metrics.jsonl")
    assert figures["val_loss"] == pytest.approx(rows[-1]["val_loss_ema"], rel=1e-4)
    assert figures["val_loss_with_labels"] == pytest.approx(rows[-1]["val_loss_ema_with_labels"], rel=1e-4)


def test_an_estimate_uses_the_same_timesteps_with_and_without_label(run, tmp_path):
    done = start(run, "--num_images", 3, "--timesteps", 6, "--output", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "r.json").read_text())
    model, images = checkpoint.load(run), data.prepare(data.DataOptions())
    engine, found = model.engine(), []
    for index in held_out(images, 3):
        x0 = data.to_float(images.eval[index])
        for label in (int(images.eval_labels[index]), -1):
            draw = draws.generator(0, draws.Purpose.EVALUATION, int(index), slot=2)
            told = lambda xt, t, label=label: engine(xt, t, torch.full((len(xt),), label))  # noqa: E731
            terms, kl_sum, eps_mse_mean = elbo_estimate(told, model.schedule, x0, 6, draw)
            found.append((float(terms.prior + terms.reconstruction + kl_sum), float(eps_mse_mean)))
    told, bare = np.array(found).reshape(3, 2, 2).transpose(1, 0, 2)
    assert figures["label_bits_per_dim"] == pytest.approx((bare - told)[:, 0].mean(), rel=1e-2, abs=1e-5)
    for name, values in (("eps_mse_mean", told[:, 1]), ("eps_mse_mean_without_label", bare[:, 1])):
        assert figures[name] == pytest.approx(values.mean(), rel=1e-4)
        assert figures[f"{name}_se"] == pytest.approx(values.std(ddof=1) / 3**0.5, rel=1e-3)


def test_samples_are_measured_at_seven_guidance_scales(report, run):
    folder, figures, done = report
    rows = figures["by_guidance_scale"]
    assert [row["guidance_scale"] for row in rows] == list(SCALES)
    model, images = checkpoint.load(run), data.prepare(data.DataOptions())
    network, _ = quality.train_classifier(images)
    features = quality.Features("classifier", images)
    engine = model.engine()
    # Each class gets its share of the training images, so 60 samples are asked for about 6 times each class.
    known = np.sort(images.train_labels)
    labels = known[((np.arange(60) + 0.5) / 60 * len(known)).astype(int)]
    labels = torch.from_numpy(draws.generator(0, draws.Purpose.EVALUATION, slot=3).permutation(labels))
    assert set(torch.bincount(labels).tolist()) <= {5, 6, 7}
    for row in (rows[0], rows[1], rows[4]):
        x0 = sample(
            engine,
            model.scheduler,
            (60, 1, 8, 8),
            num_inference_steps=10,
            labels=labels,
            guidance_scale=row["guidance_scale"],
        )
        pixels = ((x0 + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        with torch.no_grad():
            answers = network(data.to_float(pixels)).argmax(1)
        # a pixel that rounds the other way may move one sample of 60 over a boundary
        assert row["label_accuracy"] == pytest.approx((answers == labels).double().mean().item(), abs=0.02)
        distance = quality.distances(features(images.train), features(pixels), 0)
        assert row["frechet_distance"] == pytest.approx(distance["frechet_distance"], rel=0.03)
        if row["guidance_scale"] == 0:
            shares = figures["class_shares_without_label"]
            assert list(shares) == [str(digit) for digit in range(10)]
            assert list(shares.values()) == pytest.approx(
                (torch.bincount(answers, minlength=10) / 60).tolist(), abs=0.02
            )
    plain = rows[1]
    assert figures["guidance_scale"] == 1
    assert (figures["frechet_distance"], figures["label_accuracy"]) == (
        plain["frechet_distance"],
        plain["label_accuracy"],
    )
    assert figures["frechet_distance_without_label"] == rows[0]["frechet_distance"]
    for name in ("samples", "neighbours", "labels", "guidance"):
        assert Image.open(folder / f"report-{name}.png").width > 100
    for row in rows:
        scale = f"{row['guidance_scale']:g}"
        assert re.search(
            rf"^ +{scale} +{row['frechet_distance']:.3f} +{100 * row['label_accuracy']:.1f} %",
            done.stdout,
            re.MULTILINE,
        )
    assert re.search(r"samples without label: [\d.]+ % \(\d\) to [\d.]+ % \(\d\) of each class", done.stdout)


def test_the_bound_classifies_held_out_images(report, run):
    _, figures, done = report
    model, images = checkpoint.load(run), data.prepare(data.DataOptions())
    engine, right, evaluations = model.engine(), [], 0
    for index in held_out(images, 20):
        found = class_posterior(
            engine,
            model.schedule,
            data.to_float(images.eval[index]),
            10,
            draw=draws.generator(0, draws.Purpose.EVALUATION, int(index), slot=4),
            batch_size=64,
        )
        right.append(int(found.probabilities.argmax()) == images.eval_labels[index])
        evaluations += found.evaluations
    assert figures["classifier_accuracy"] == pytest.approx(np.mean(right), abs=1 / 20)
    assert figures["classify_images"] == 20
    # a label can turn hopeless one call earlier where PyTorch and OpenVINO differ in the seventh digit
    assert figures["classify_network_evaluations"] == pytest.approx(evaluations, rel=0.01)
    network, _ = quality.train_classifier(images)
    chosen = held_out(images, 20)
    with torch.no_grad():
        answers = network(data.to_float(images.eval[chosen])).argmax(1).numpy()
    assert figures["other_classifier_accuracy"] == pytest.approx(np.mean(answers == images.eval_labels[chosen]))
    by_timesteps = figures["classify_by_timesteps"]
    assert by_timesteps[-1]["accuracy"] == figures["classifier_accuracy"]
    assert by_timesteps[-1]["network_evaluations"] == figures["classify_network_evaluations"]
    assert re.search(r"bound as classifier +[\d.]+ % ± [\d.]+ of 20 held-out images", done.stdout)


def test_two_processes_give_the_same_figures(report, run, tmp_path):
    _, figures, _ = report
    done = start(run, *OPTIONS, "--guidance_scale", 0, 3, "--output", tmp_path / "two.json", processes=2)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two.json").read_text())
    for key in ("bits_per_dim", "bits_per_dim_without_label", "val_loss", "val_loss_with_labels"):
        assert two[key] == pytest.approx(figures[key], rel=1e-3), key
    assert two["label_bits_per_dim"] == pytest.approx(figures["label_bits_per_dim"], rel=0.02, abs=2e-6)
    assert two["classifier_accuracy"] == pytest.approx(figures["classifier_accuracy"], abs=1 / 20)
    assert two["other_classifier_accuracy"] == figures["other_classifier_accuracy"]
    assert two["guidance_scale"] == 3, "1 is not among them"
    for row, before in zip(two["by_guidance_scale"], (figures["by_guidance_scale"][i] for i in (0, 4)), strict=True):
        assert row["guidance_scale"] == before["guidance_scale"]
        assert row["label_accuracy"] == pytest.approx(before["label_accuracy"], abs=0.02)
        assert row["frechet_distance"] == pytest.approx(before["frechet_distance"], rel=0.03)
    assert "--guidance_scale 0.0 3.0" in two["command"]


def test_figures_about_labels_are_in_metrics_and_card(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    few = ("--num_images", 4, "--timesteps", 5, "--record", "--output", tmp_path / "r.json")
    done = start(folder, *few, "--num_samples", 40, "--num_inference_steps", 5, "--guidance_scale", 0, 1, 3)
    assert done.returncode == 0, done.stderr
    with_samples = json.loads((tmp_path / "r.json").read_text())
    assert (tmp_path / "r-guidance.png").exists()
    done = start(folder, *few, "--classify", 6)
    assert done.returncode == 0, done.stderr
    assert "The figures of samples" in done.stderr
    assert not (tmp_path / "r-guidance.png").exists(), "of another evaluation than the report beside it"
    assert not (tmp_path / "r-labels.png").exists()
    classified = json.loads((tmp_path / "r.json").read_text())
    done = start(folder, *few, "--seed", 5)
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "r.json").read_text())
    row = checkpoint.read_metrics(folder / "metrics.jsonl")[-1]
    assert row["kind"] == "evaluation"
    assert row["bits_per_dim_without_label"] == last["bits_per_dim_without_label"]
    for measured, figure in ((with_samples, "by_guidance_scale"), (classified, "classifier_accuracy")):
        kept = {name: value for name, value in measured.items() if name not in last}
        assert figure in kept
        assert kept.items() <= row.items()
    card = (folder / "README.md").read_text()
    assert f"| bits/dim without label | {last['bits_per_dim_without_label']:.4f} ±" in card
    assert f"| what the label is worth | **{last['label_bits_per_dim']:.4f}** ±" in card
    for guided in with_samples["by_guidance_scale"]:
        assert f"| {guided['frechet_distance']:.3f} | {100 * guided['label_accuracy']:.1f} %" in card
    assert f"| accuracy of the bound as a classifier | **{100 * classified['classifier_accuracy']:.1f} %**" in card
    for measured in (last, with_samples, classified):
        assert measured["command"].split(" --", 1)[1] in card


# ------------------------------------------------------------------------------------------------------------ bad input


def conditional(path, names):
    """A model that has learnt nothing about classes of these names."""
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4, num_classes=len(names))
    torch.nn.init.normal_(unet.class_embedding.weight)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    folded = separated(unet, names)
    checkpoint.save(path, folded.unet, dict(DDPMScheduler(num_train_timesteps=40).config), folded.classes)
    return path


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--guidance_scale", "nan"], 2, r"--guidance_scale nan: 0 \(without label\) to 20 is needed"),
        (["--guidance_scale", "1", "-0.5"], 2, "--guidance_scale -0.5: 0 "),
        (["--guidance_scale", "20.5"], 2, "--guidance_scale 20.5: 0 "),
        (["--guidance_scale", "inf"], 2, "--guidance_scale inf: 0 "),
        (["--classify", -1], 2, "--classify -1: 0 or more"),
        (["--dataset_name", "digits", "--classify", 5], 1, "--classify 5: plain has no labels"),
        (
            ["--dataset_name", "digits", "--guidance_scale", 2, 3, "--num_samples", 4],
            1,
            "--guidance_scale 2 3: plain has no",
        ),
        (["--guidance_scale", 2], 2, "--guidance_scale: pass --num_samples, too"),
    ],
)
def test_flags_about_labels_that_cannot_be_are_one_line(tmp_path, words, status, message):
    checkpoint.save(tmp_path / "plain", build_unet(8, 1, (8, 16), norm_num_groups=4), dict(DDPMScheduler(40).config))
    done = start(tmp_path / "plain", *words)
    assert done.returncode == status, done.stderr
    assert re.search(f"^python -m ddpm.evaluate: error: .*{message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_labels_are_matched_by_name(tmp_path, caplog):
    """Whatever their order, and with images whose label the model does not know."""
    options = {"dataset_name": "digits", "num_images": 12, "timesteps": 3, "num_cpu_threads": 1}
    options |= {"output": str(tmp_path / "r.json")}
    names = ["7", "nothing", "3", "0", "1", "2"]
    images = data.prepare(data.DataOptions())
    chosen = images.eval_labels[held_out(images, 12)]
    known = np.isin(chosen, [7, 3, 0, 1, 2])
    assert 0 < known.sum() < 12
    caplog.set_level("INFO")
    figures = evaluate(EvaluateConfig(str(conditional(tmp_path / "some", names)), classify=9, **options))
    assert figures["num_labelled_images"] == known.sum()
    unknown = int((~np.isin(images.eval_labels, [7, 3, 0, 1, 2])).sum())
    assert f"because the model knows none for them: {unknown} held-out images of 90" in caplog.text
    assert figures["classify_images"] == 9
    model = checkpoint.load(tmp_path / "some")
    engine, saved = model.engine(), []
    for index in held_out(images, 12)[known]:
        found = []
        for label in (names.index(str(images.eval_labels[index])), -1):
            draw = draws.generator(0, draws.Purpose.EVALUATION, int(index), slot=2)
            told = lambda xt, t, label=label: engine(xt, t, torch.full((len(xt),), label))  # noqa: E731
            terms, kl_sum, _ = elbo_estimate(told, model.schedule, data.to_float(images.eval[index]), 3, draw)
            found.append(float(terms.reconstruction + kl_sum))
        saved.append(found[1] - found[0])
    assert figures["label_bits_per_dim"] == pytest.approx(np.mean(saved), rel=1e-2)

    strange = str(conditional(tmp_path / "strange", ["shirt", "shoe"]))
    with pytest.raises(ValueError, match=r"the labels 0, 1, 2, .* and strange knows shirt, shoe: no name is the same"):
        evaluate(EvaluateConfig(strange, **options))


def test_images_without_labels_are_measured_without(tmp_path, caplog):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(60):
        noise = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{i:02d}.png")
    options = {"dataset_name": str(pictures), "num_images": 3, "timesteps": 3, "num_cpu_threads": 1}
    options |= {"output": str(tmp_path / "r.json")}
    model = str(conditional(tmp_path / "model", ["a", "b"]))
    caplog.set_level("INFO")
    figures = evaluate(EvaluateConfig(model, **options))
    assert figures["bits_per_dim"] == figures["bits_per_dim_without_label"]
    assert figures["num_labelled_images"] == 0
    assert "label_bits_per_dim" not in figures
    assert "val_loss_with_labels" not in figures
    assert "without label " not in table_of(figures)
    assert "3 held-out images of 3" in caplog.text
    with pytest.raises(ValueError, match=r"--classify 2: no held-out image of .* has a label that model knows"):
        evaluate(EvaluateConfig(model, classify=2, **options))


def test_a_model_that_was_trained_with_labels_only_is_measured_with_them_only(tmp_path):
    """As diffusers makes them: the table of class vectors is among the weights, and no row of it means "no label"."""
    torch.manual_seed(0)
    unet = build_unet(8, 1, (8, 16), norm_num_groups=4, num_classes=9)
    torch.nn.init.normal_(unet.class_embedding.weight)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    folder = tmp_path / "stranger"
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=40)).save_pretrained(folder)
    options = {"dataset_name": "digits", "num_images": 2, "timesteps": 3, "num_cpu_threads": 1, "num_samples": 20}
    options |= {"num_inference_steps": 2, "output": str(tmp_path / "r.json")}
    figures = evaluate(EvaluateConfig(str(folder), **options))
    assert figures["num_images"] == figures["num_labelled_images"] == 2
    assert "bits_per_dim_without_label" not in figures
    assert "eps_mse_mean_without_label" not in figures
    table = table_of(figures)
    assert len(re.findall(r"(?:bits/dim|epsilon-MSE) .*told the label\)", table)) == 2
    assert [row["guidance_scale"] for row in figures["by_guidance_scale"]] == [1]
    images, found = data.prepare(data.DataOptions()), []
    for index in held_out(images, 2):
        draw = draws.generator(0, draws.Purpose.EVALUATION, int(index), slot=2)
        label = torch.tensor(int(images.eval_labels[index]))
        with torch.no_grad():
            terms, kl_sum, eps_mse_mean = elbo_estimate(
                lambda xt, t, label=label: unet.eval()(xt, t, label.expand(len(xt))).sample,
                checkpoint.load(folder).schedule,
                data.to_float(images.eval[index]),
                3,
                draw,
            )
        found.append((float(terms.prior + terms.reconstruction + kl_sum), float(eps_mse_mean)))
    expected = dict(zip(("bits_per_dim", "eps_mse_mean"), np.mean(found, 0), strict=True))
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match=r"--guidance_scale 3: stranger was trained with labels only"):
        evaluate(EvaluateConfig(str(folder), guidance_scale=(1.0, 3.0), **options))


def test_samples_are_asked_for_in_the_proportions_of_the_training_images(tmp_path):
    """So that the Fréchet distance to all of them is fair."""
    model = checkpoint.load(conditional(tmp_path / "model", ["cat", "dog", "eel"]))
    labels = np.array([5] * 75 + [9] * 15 + [7] * 10)
    pixels = np.zeros((100, 1, 8, 8), np.uint8)
    images = data.Images(pixels, pixels[:4], "0" * 64, labels, labels[:4], label_names={5: "eel", 9: "cat", 7: "newt"})
    subject = Subject(EvaluateConfig(num_samples=24), model, data.DataOptions("zoo"), images)
    assert subject.numbers.tolist() == [2, -1, 0]
    assert np.bincount(asked_labels(subject), minlength=3).tolist() == [4, 0, 20], "nobody knows what a newt looks like"
    bare = Subject(EvaluateConfig(num_samples=7), model, data.DataOptions("zoo"), data.Images(pixels, pixels, "0" * 64))
    assert np.bincount(asked_labels(bare)).tolist() == [3, 2, 2]
