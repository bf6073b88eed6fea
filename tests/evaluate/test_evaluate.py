"""ddpm.evaluate as people start it; the estimate of the bound; the measures of sample quality."""

import dataclasses
import json
import math
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from formulas import linear_schedule
from launch import ROOT, launch
from PIL import Image
from scipy import linalg
from tiny import command
from untrained import make_model

from ddpm import checkpoint, data, draws, plots
from ddpm.elbo import elbo_estimate, elbo_terms
from ddpm.evaluate import quality
from ddpm.evaluate import report as report_module
from ddpm.evaluate.measure import evaluate
from ddpm.evaluate.options import EvaluateConfig
from ddpm.training.folder import claim
from ddpm.unet import build_unet


def start(*words, processes=1):
    return launch("-m", "ddpm.evaluate", *words, "--num_cpu_threads", 1, processes=processes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained directory, 40 timesteps, by the command line."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    options = {"block_out_channels": (16, 32), "train_batch_size": 32, "max_train_steps": 150, "lr_warmup_steps": 20}
    options |= {"num_validation_images": 1024, "validation_steps": 1000, "checkpointing_steps": 1000}
    done = launch(*command(folder, **options))
    assert done.returncode == 0, done.stderr
    return folder


OPTIONS = ("--num_images", 12, "--num_samples", 40, "--num_inference_steps", 10)


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    done = start(run, *OPTIONS, "--output", folder / "report.json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "report.json").read_text()), done


def test_the_report_holds_what_the_contract_lists(report, run):
    folder, figures, done = report
    T = 40
    assert len(figures["kl_bits"]) == T - 1
    assert len(figures["eps_mse"]) == T
    parts = figures["prior_bits"] + sum(figures["kl_bits"]) + figures["reconstruction_bits"]
    assert figures["bits_per_dim"] == pytest.approx(parts, rel=1e-9)
    assert figures["kl_bits_total"] == pytest.approx(sum(figures["kl_bits"]), rel=1e-9)
    assert 0 < figures["bits_per_dim_se"] < figures["bits_per_dim"]
    assert (figures["variance_type"], figures["num_images"], figures["num_samples"]) == ("fixed_small", 12, 40)
    assert (figures["sampler"], figures["num_inference_steps"], figures["feature_network"]) == (
        "ddpm",
        10,
        "classifier",
    )
    rows = checkpoint.read_metrics(run / "metrics.jsonl")
    assert figures["val_loss"] == pytest.approx(rows[-1]["val_loss_ema"], rel=1e-4), "the same as training says"
    assert figures["feature_accuracy"] > 0.9
    assert figures["frechet_distance"] > figures["frechet_distance_real"] > 0
    for name in ("report.png", "report-samples.png", "report-neighbours.png"):
        assert Image.open(folder / name).width > 100
    table = done.stdout
    assert re.search(rf"bits/dim +{figures['bits_per_dim']:.4f} ± {figures['bits_per_dim_se']:.4f}", table)
    assert re.search(rf"epsilon-MSE +{figures['eps_mse_mean']:.5f} ± {figures['eps_mse_mean_se']:.5f}", table)
    assert f"real against real: {figures['frechet_distance_real']:.3f}" in table
    assert "40 samples against 1667 training images; ddpm, 10 steps" in table
    assert "Compare this distance only with others of this project" in table
    assert figures["clear_real"] > 0.8 > figures["clear_samples"] > 0, "this network has hardly learnt anything"
    shares = figures["sample_class_shares"]
    assert list(shares) == [str(digit) for digit in range(10)]
    assert sum(shares.values()) == pytest.approx(1)
    assert f"clear samples {100 * figures['clear_samples']:11.1f} %" in table
    assert re.search(r"\d+/\d+ \[\d\d:\d\d<\d\d:\d\d", done.stderr), "progress with remaining time"


def test_bits_and_their_error_are_those_of_elbo_terms(report, run):
    """From the same images and noise, by hand."""
    _, figures, _ = report
    model, images = checkpoint.load(run), data.prepare(data.DataOptions())
    totals, mse = [], []
    for index in draws.generator(0, draws.Purpose.EVALUATION, slot=1).permutation(len(images.eval))[:12]:
        seed = draws.generator(0, draws.Purpose.EVALUATION, int(index), slot=2).integers(2**63)
        noise = torch.Generator().manual_seed(int(seed))
        terms = elbo_terms(model.engine(), model.schedule, data.to_float(images.eval[[index]]), generator=noise)
        totals.append(terms.total.item())
        mse.append(terms.eps_mse[0].numpy())
    assert figures["bits_per_dim"] == pytest.approx(np.mean(totals), rel=1e-4)
    assert figures["bits_per_dim_se"] == pytest.approx(np.std(totals, ddof=1) / 12**0.5, rel=1e-3)
    assert figures["eps_mse"] == pytest.approx(np.mean(mse, 0), rel=1e-3)
    simple = np.mean(mse, 1)
    assert figures["eps_mse_mean"] == pytest.approx(simple.mean(), rel=1e-4)
    assert figures["eps_mse_mean_se"] == pytest.approx(simple.std(ddof=1) / 12**0.5, rel=1e-3)


@pytest.mark.long
def test_an_estimate_agrees_with_the_exact_sum_within_its_error(run, tmp_path):
    """All held-out images: what is left between the two is the noise and the choice of timesteps."""
    figures = []
    for timesteps in (0, 8):
        done = start(run, "--num_images", 0, "--timesteps", timesteps, "--output", tmp_path / f"{timesteps}.json")
        assert done.returncode == 0, done.stderr
        figures.append(json.loads((tmp_path / f"{timesteps}.json").read_text()))
    exact, estimated = figures
    assert abs(estimated["bits_per_dim"] - exact["bits_per_dim"]) < 3 * estimated["bits_per_dim_se"]
    assert estimated["bits_per_dim_se"] < 0.1 * exact["bits_per_dim"]
    assert abs(estimated["eps_mse_mean"] - exact["eps_mse_mean"]) < 3 * estimated["eps_mse_mean_se"]
    assert estimated["eps_mse_mean_se"] < 0.1 * exact["eps_mse_mean"]
    assert estimated["prior_bits"] == pytest.approx(exact["prior_bits"])


@pytest.mark.long
@pytest.mark.parametrize("samples", [True, False])
def test_two_processes_and_other_batches_give_the_same_figures(report, run, tmp_path, samples):
    _, figures, _ = report
    options = OPTIONS if samples else OPTIONS[:2]
    done = start(run, *options, "--batch_size", 7, "--output", tmp_path / "two.json", processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bits/dim") == 1, "one process speaks"
    assert done.stderr.count("held out: 5 %") == 1
    two = json.loads((tmp_path / "two.json").read_text())
    for key in (
        "bits_per_dim",
        "bits_per_dim_se",
        "eps_mse_mean",
        "eps_mse_mean_se",
        "val_loss",
        "kl_bits_total",
        "eps_mse",
        "kl_bits",
    ):
        assert two[key] == pytest.approx(figures[key], rel=1e-3), key
    if samples:
        assert two["frechet_distance_real"] == pytest.approx(figures["frechet_distance_real"], rel=1e-4)
        # 40 images: one pixel that rounds the other way moves a feature a little
        assert two["frechet_distance"] == pytest.approx(figures["frechet_distance"], rel=0.02)
        assert two["command"] == figures["command"]


@pytest.mark.long
def test_other_data_variance_and_bounds_by_flags(run, tmp_path):
    """In a process of its own."""
    flags = "--num_images 4 --variance_type fixed_large --no_clip_denoised --timesteps 5 --seed 3 --num_cpu_threads 1"
    words = [sys.executable, "-m", "ddpm.evaluate", run, *flags.split(), "--output", tmp_path / "r.json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "r.json").read_text())
    assert (figures["variance_type"], figures["clip_denoised"], figures["timesteps"]) == ("fixed_large", False, 5)
    assert "frechet_distance" not in figures
    for words in ("--num_images 4", "--variance_type fixed_large", "--no_clip_denoised", "--timesteps 5", "--seed 3"):
        assert words in figures["command"]


@pytest.mark.long
def test_recorded_figures_are_in_metrics_and_card(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    done = start(folder, *OPTIONS, "--record", "--output", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert f"Recorded in {folder / 'metrics.jsonl'}" in done.stderr
    assert (tmp_path / "r-samples.png").exists()
    with_samples = json.loads((tmp_path / "r.json").read_text())
    done = start(folder, "--num_images", 4, "--timesteps", 5, "--record", "--output", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "The figures of samples" in done.stderr
    assert not (tmp_path / "r-samples.png").exists(), "of another evaluation than the report beside it"
    figures = json.loads((tmp_path / "r.json").read_text())
    rows = checkpoint.read_metrics(folder / "metrics.jsonl")
    assert [row["kind"] for row in rows].count("evaluation") == 1
    assert rows[-1]["bits_per_dim"] == figures["bits_per_dim"]
    kept = {name: value for name, value in with_samples.items() if name not in figures}
    assert {"frechet_distance", "eta", "sampler", "clear_samples"} <= kept.keys()
    assert kept.items() <= rows[-1].items()
    assert rows[:-1] == checkpoint.read_metrics(run / "metrics.jsonl")
    card = (folder / "README.md").read_text()
    assert f"**{figures['bits_per_dim']:.4f}**" in card
    assert "4 held-out images, estimated from 5 timesteps each" in card
    assert f"**{with_samples['frechet_distance']:.3f}**" in card
    assert f"| clear samples | **{100 * with_samples['clear_samples']:.1f} %**" in card
    for evaluation in (figures, with_samples):
        assert evaluation["command"].split(" --", 1)[1] in card
    held = claim(folder)
    done = start(folder, "--num_images", 4, "--timesteps", 5, "--record", "--output", tmp_path / "r.json")
    held.release()
    assert "another process is training in" in done.stderr, "whose rows must not be lost"
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(60):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(pictures / f"{i:02d}.png")
    done = start(folder, "--dataset_name", pictures, "--num_images", 2, "--record", "--output", tmp_path / "r.json")
    assert re.search("error: --record: .*run was not trained on .*pictures", done.stderr)
    assert rows == checkpoint.read_metrics(folder / "metrics.jsonl")


@pytest.mark.long
def test_eta_reaches_the_sampler_and_is_in_the_report(run, tmp_path):
    found = []
    for eta in (0.0, 1.0):
        options = {"sampler": "dpm_solver++", "eta": eta, "num_inference_steps": 5, "feature_network": "none"}
        options |= {"num_images": 2, "timesteps": 1, "num_samples": 4, "num_cpu_threads": 1}
        found.append(evaluate(EvaluateConfig(str(run), output=str(tmp_path / "r.json"), **options)))
    assert [figures["eta"] for figures in found] == [0.0, 1.0]
    assert found[0]["nearest_train_rms"] != found[1]["nearest_train_rms"]
    assert ["--eta 1.0" in figures["command"] for figures in found] == [False, True]


def test_what_is_measured_again_replaces_all_that_was_measured_of_it(tmp_path):
    """And only that: figures of --classify stay, and nothing of the earlier samples stands beside the new ones."""
    folder = shutil.copytree(checkpoint.EMBEDDED.with_name("mnist_labels"), tmp_path / "run")
    earlier = checkpoint.read_metrics(folder / "metrics.jsonl")[-1]
    earlier.pop("classify_command", None)  # all of it is from one evaluation
    asked = {"sampler": "dpm_solver++", "eta": 1.0, "command": "python -m ddpm.evaluate --eta 1"}
    report_module.record(folder, earlier | asked)
    assert "dpm_solver++ (eta = 1) in 20 steps" in (folder / "README.md").read_text()
    of_the_bound = ("bits_per_dim", "variance_type", "num_images", "timesteps", "dataset", "split", "val_loss")
    again = {name: earlier[name] for name in of_the_bound} | {"command": "python -m ddpm.evaluate --sampler ddpm"}
    again |= {"num_samples": 50, "sampler": "ddpm", "eta": 0.0, "num_inference_steps": 10, "frechet_distance": 9.0}
    again |= {"frechet_distance_real": 1.0, "feature_network": "classifier", "feature_accuracy": 0.9}
    report_module.record(folder, again)
    row = checkpoint.read_metrics(folder / "metrics.jsonl")[-1]
    classified = {name: value for name, value in earlier.items() if "classif" in name}
    assert row == again | classified | {
        "kind": "evaluation",
        "step": earlier["step"],
        "images": earlier["images"],
        "classify_command": asked["command"],
    }
    card = (folder / "README.md").read_text()
    assert "50 samples, ddpm in 10 steps" in card
    assert "by_guidance_scale" not in row


@pytest.mark.long
def test_the_figures_do_not_depend_on_the_clock(run, tmp_path, monkeypatch):
    """Equal to the last digit, whether compiling would begin at once, in the middle, or never; and from the cache."""
    from ddpm import compiled
    from ddpm.evaluate import EvaluateConfig, evaluate

    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(quality, "CLASSIFIER_STEPS", 100)
    figures = []
    for worth_s in (math.inf, 0, 0.05):
        monkeypatch.setattr(compiled, "WORTH_S", worth_s)
        options = {"num_images": 3, "num_samples": 6, "num_inference_steps": 5, "batch_size": 4, "num_cpu_threads": 1}
        found = evaluate(EvaluateConfig(str(run), output=str(tmp_path / "r.json"), **options))
        found.pop("seconds_per_sample")
        figures.append(found)
    assert figures[0] == figures[1] == figures[2]


# ------------------------------------------------------------------------------------------------------ the estimate


@pytest.mark.slow
def test_estimate_from_a_subset_is_unbiased_and_close():
    schedule = linear_schedule(200, 5e-4, 0.1)
    x0 = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 4, 4))).float() / 127.5 - 1

    def eps_theta(xt, t):  # the best one for data from N(0, I): terms that fall off as a trained network's do
        return (1 - schedule.alpha_bar[t]).sqrt().float().reshape(-1, 1, 1, 1) * xt

    terms = [elbo_terms(eps_theta, schedule, x0, generator=torch.Generator().manual_seed(s)) for s in range(40)]
    found = [elbo_estimate(eps_theta, schedule, x0[0], 10, np.random.default_rng(s)) for s in range(400)]
    for exact, estimates in (
        (torch.cat([each.kl.sum(1) for each in terms]), torch.cat([each.kl_sum for each in found])),
        (torch.cat([each.eps_mse.mean(1) for each in terms]), torch.cat([each.eps_mse_mean for each in found])),
    ):
        error = math.hypot(exact.std().item() / 40**0.5, estimates.std().item() / 400**0.5)
        assert abs(estimates.mean() - exact.mean()).item() < 4 * error
        assert error < 0.03 * exact.mean().item(), "precise enough to show a bias"
    terms = found[0].terms
    assert 5 <= int((~terms.kl.isnan()).sum()) <= 10
    assert torch.equal(terms.prior, elbo_terms(eps_theta, schedule, x0).prior)


# ------------------------------------------------------------------------------------------------------ sample quality


def test_an_image_is_clear_if_the_classifier_is_sure():
    """With logits that are the image's pixels."""
    odds = np.log([[0.95, 0.03, 0.02], [0.05, 0.89, 0.06], [0.01, 0.08, 0.91], [0.02, 0.05, 0.93]])
    pixels = ((odds / 5 + 1) * 127.5).round().astype(np.uint8).reshape(4, 1, 1, 3)
    network = lambda x: x.flatten(1) * 5  # noqa: E731
    found = quality.told(network, pixels)
    assert found.clear == 0.75
    assert found.shares == (0.25, 0.25, 0.5)


def test_frechet_distance_against_the_formula():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(500, 6)), draw.normal(0.5, 2, size=(300, 6)) @ draw.normal(size=(6, 6))
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert quality.frechet_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)
    assert quality.frechet_distance(torch.from_numpy(a), torch.from_numpy(a)) == pytest.approx(0, abs=1e-6)


def test_the_distance_tells_worse_images_from_better_ones():
    """Real digits below blurred ones, below noise; and the classifier of the second call comes from the cache."""
    images = data.prepare(data.DataOptions())
    features = quality.Features("auto", images)
    again = quality.Features("classifier", images)
    assert (features.name, features.accuracy) == ("classifier", again.accuracy)
    assert features.accuracy > 0.9
    real = features(images.train)
    part = np.sort(np.random.default_rng(0).permutation(len(images.train))[:400])
    x = images.train[part]
    assert torch.equal(features(x), again(x))
    assert torch.equal(features(x), features(images.train, part))
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 25, x.shape), 0, 255).astype(np.uint8)
    noisier = np.clip(x + np.random.default_rng(0).normal(0, 80, x.shape), 0, 255).astype(np.uint8)
    found = [quality.distances(real, features(i), seed=0) for i in (x, noisy, noisier)]
    floor, spread = found[0]["frechet_distance_real"], found[0]["frechet_distance_real_sd"]
    assert 0 < spread < 0.5 * floor
    assert found[0]["num_reference"] == len(images.train) - 400
    distance = [f["frechet_distance"] for f in found]
    assert distance[0] < floor, "the reference holds some of these very images"
    assert floor < distance[1] < 0.5 * distance[2]
    one_class = x[images.train_labels[part] == 3]
    assert quality.distances(real, features(one_class), seed=0)["frechet_distance"] > 3 * floor, "missing modes cost"


@pytest.mark.slow
def test_a_damaged_cache_of_the_classifier_is_made_again(caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path))
    monkeypatch.setattr(quality, "CLASSIFIER_STEPS", 60)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 120)
    pixels = (draw.integers(0, 100, (120, 1, 8, 8)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    images = data.Images(pixels[:100], pixels[100:], "f" * 64, train_labels=labels[:100], eval_labels=labels[100:])
    before, accuracy = quality.train_classifier(images)
    assert accuracy == 1
    (path,) = tmp_path.glob("classifier-*")
    corrected = dataclasses.replace(images, train_labels=1 - images.train_labels, eval_labels=None)
    swapped, unknown = quality.train_classifier(corrected)
    assert unknown is None
    assert not torch.equal(swapped.last.weight, before.last.weight), "other labels are another classifier"
    path.write_bytes(path.read_bytes()[:1000])
    after, _ = quality.train_classifier(images)
    assert "damaged" in caplog.text
    assert all(torch.allclose(v, after.state_dict()[k], atol=1e-5) for k, v in before.state_dict().items())


def test_twenty_images_of_which_one_is_held_out_are_enough_for_the_nearest_ones(tmp_path):
    """It tells no standard error, and everything else."""
    np.save(tmp_path / "twenty.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8))
    model = make_model(tmp_path / "model", 8, 1, 6)
    options = {"dataset_name": str(tmp_path / "twenty.npy"), "output": str(tmp_path / "report.json")}
    options |= {"num_samples": 3, "feature_network": "none"}
    figures = evaluate(EvaluateConfig(model=str(model), **options))
    assert (figures["num_images"], figures["bits_per_dim_se"], figures["num_samples"]) == (1, None, 3)
    assert figures["bits_per_dim"] > 0
    table = report_module.table(figures)
    assert "(held out), 1 image, all timesteps" in table
    assert re.search(rf"bits/dim +{figures['bits_per_dim']:.4f}   \(an upper bound", table)
    assert json.loads((tmp_path / "report.json").read_text())["bits_per_dim_se"] is None
    assert {path.name for path in tmp_path.glob("*.png")} == {"report.png", "report-samples.png", "report-neighbours.png"}  # fmt: skip


def test_nearest_images_in_colour_are_those_of_the_same_colours(tmp_path):
    """Four colours that are about the same gray: only colour tells them apart, and the picture shows it."""
    colours = np.array([[200, 40, 40], [40, 121, 40], [80, 80, 161], [98, 98, 0]], np.uint8)
    train = np.broadcast_to(colours[:, :, None, None], (4, 3, 6, 6)).copy()
    queries = train[[2, 0]].copy()
    queries[1, 1] += 30  # in one channel of three
    found = quality.nearest(queries, train, 4)
    assert found.index[:, 0].tolist() == [2, 0]
    assert found.distance[0, 0] < 1e-3
    assert found.distance[1, 0] == pytest.approx(30 / 255 / 3**0.5, rel=1e-3)
    others = colours[found.index[0]].astype(float) - colours[2]
    assert found.distance[0] == pytest.approx(np.sqrt((others**2).mean(1)) / 255, abs=1e-3)
    rows = [np.stack([query, *train[index]]) for query, index in zip(queries, found.index, strict=True)]
    plots.save_neighbours(rows, found.distance, tmp_path / "nearest.png")
    shown = np.asarray(Image.open(tmp_path / "nearest.png").convert("RGB")).astype(int)
    for colour in (*colours, queries[1, :, 0, 0]):
        assert (np.abs(shown - colour).max(-1) < 8).sum() > 1000, f"a tile of {colour}"


def test_nearest_finds_copies():
    train = np.random.default_rng(0).integers(0, 256, (9000, 1, 4, 4)).astype(np.uint8)
    queries = train[[8999, 3, 4000]].copy()
    queries[1, 0, 0, 0] ^= 128
    found = quality.nearest(queries, train, 3)
    assert found.index[:, 0].tolist() == [8999, 3, 4000]
    assert found.distance[0, 0] < 1e-3
    assert found.distance[1, 0] == pytest.approx(128 / 255 / 4, rel=1e-3)
    assert (np.diff(found.distance) >= 0).all()


# ------------------------------------------------------------------------------------------------------------ bad input


def directory(path, resolution=8, channels=1, **scheduler):
    torch.manual_seed(0)
    unet = build_unet(resolution, channels, (8, 16), norm_num_groups=4)
    checkpoint.save(path, unet, dict(DDPMScheduler(num_train_timesteps=40).config) | scheduler)
    return path


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--sampler", "heun"], 2, "heun.*ddpm_fixed_small.*dpm_solver"),
        (["--num_image", 3], 2, "unknown option --num_image; did you mean --num_images"),
        (["--timesteps", -1], 2, "--timesteps -1: 0 or more"),
        (["--eta", 0.5, "--num_samples", 4], 2, "--eta 0.5: --sampler ddpm does not take it"),
        (["--eta", 0.5, "--sampler", "ddim"], 2, "--eta 0.5: pass --num_samples, too"),
        (["--output", "README.md/r.json"], 2, "--output README.md/r.json: .*README.md is not a folder"),
        (["--output", "report.txt"], 2, "--output report.txt: the name of a .json file"),
        (["--timesteps", 40], 1, "--timesteps 40: 1 to 39 is needed"),
        (["--num_inference_steps", 41, "--num_samples", 4], 1, "--num_inference_steps 41: 1 to 40"),
        (
            ["--num_samples", 854],
            1,
            "--num_samples 854: 2 to 853 is needed, because at least half of the 1707 training images",
        ),
        (["--feature_network", "inception", "--num_samples", 4], 1, "inception: it was trained on colour"),
        (["--dataset_name", "no/such"], 1, "dataset 'no/such'"),
    ],
)
def test_bad_flags_are_one_line(run, words, status, message):
    done = start(run, *words)
    assert done.returncode == status, done.stderr
    assert re.search(f"^python -m ddpm.evaluate: error: .*{message}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_models_and_data_that_do_not_fit_are_one_line(tmp_path):
    """In one process, for they are refused before anything is computed."""
    from ddpm.evaluate import EvaluateConfig, evaluate

    def refused(message, model, **options):
        with pytest.raises(ValueError, match=message) as caught:
            evaluate(EvaluateConfig(model=str(model), num_cpu_threads=1, output=str(tmp_path / "r.json"), **options))
        assert "\n" not in str(caught.value)

    refused("28x28x1|does not say what it was trained on", directory(tmp_path / "plain"))
    refused(
        "the images of 'digits' are 8x8x1, large makes 16x16x1: pass --resolution 16 --channels 1",
        directory(tmp_path / "large", 16),
        dataset_name="digits",
    )
    refused("colour makes 8x8x3", directory(tmp_path / "colour", 8, 3), dataset_name="digits")
    odd = directory(tmp_path / "odd")
    config = json.loads((odd / "scheduler/scheduler_config.json").read_text())
    (odd / "scheduler/scheduler_config.json").write_text(json.dumps(config | {"prediction_type": "score"}))
    refused("prediction_type 'score'", odd, dataset_name="digits")
    repaint = directory(tmp_path / "repaint")
    (repaint / "scheduler/scheduler_config.json").write_text(json.dumps(config | {"_class_name": "RePaintScheduler"}))
    refused("RePaintScheduler", repaint, dataset_name="digits")
    refused("nowhere", "./nowhere", dataset_name="digits")

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{i:02d}.png")
    refused(
        "no labels, and the classifier .* needs them: pass --num_samples 0",
        tmp_path / "plain",
        dataset_name=str(pictures),
        num_samples=4,
    )
    refused(
        "--record: .* is not the directory of a training that has validated its model",
        tmp_path / "plain",
        dataset_name="digits",
        num_images=2,
        timesteps=1,
        record=True,
    )
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"--output .*folder.json cannot be written there"):
        evaluate(
            EvaluateConfig(model=str(tmp_path / "plain"), dataset_name="digits", output=str(tmp_path / "folder.json"))
        )

    labels = np.arange(1100)
    many = data.Images(np.zeros((1100, 1, 8, 8), np.uint8), np.zeros((2, 1, 8, 8), np.uint8), "0" * 64, labels * 10**9)
    with pytest.raises(ValueError, match=r"1100 different labels, and the classifier .* takes 2 to 1000"):
        quality.train_classifier(many)
    constant = dataclasses.replace(many, train_labels=labels * 0)
    with pytest.raises(ValueError, match="1 different labels"):
        quality.train_classifier(constant)


def test_a_network_that_is_not_finite_is_said(tmp_path):
    from ddpm.evaluate import EvaluateConfig, evaluate

    folder = directory(tmp_path / "nan")
    unet = UNet2DModel.from_pretrained(folder / "unet")
    for value, timesteps, said in (
        (math.nan, 0, r"nan: the weights are not finite: conv_out\.bias"),
        (math.nan, 3, r"nan: the weights are not finite: conv_out\.bias"),
        (3e38, 3, "nan: the network's output is not finite; the model may be damaged"),  # a bias, squared
    ):
        torch.nn.init.constant_(unet.conv_out.bias, value)
        unet.save_pretrained(folder / "unet")
        with pytest.raises(ValueError, match=said):
            evaluate(
                EvaluateConfig(
                    model=str(folder),
                    dataset_name="digits",
                    num_images=2,
                    timesteps=timesteps,
                    num_cpu_threads=1,
                    output=str(tmp_path / "r.json"),
                )
            )
    assert not (tmp_path / "r.json").exists()


def test_importing_the_package_loads_nothing_heavy_and_its_command_reproduces(tmp_path):
    code = "import sys, ddpm.evaluate; assert not {'torch', 'diffusers', 'accelerate', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

    from ddpm.evaluate import EvaluateConfig, report
    from ddpm.evaluate.options import parse
    from ddpm.evaluate.subject import Subject

    model = checkpoint.load(directory(tmp_path / "model"))
    images = data.Images(*[np.zeros((4, 1, 8, 8), np.uint8)] * 2, "0" * 64)
    config = EvaluateConfig(str(tmp_path / "my model"), dataset_name="my faces", clip_denoised=False, timesteps=3)
    said = report.command(Subject(config, model, data.DataOptions("my faces"), images))
    assert parse(shlex.split(said)[3:]) == config


@pytest.mark.long
def test_the_optimal_variance_is_measured_kept_and_used_again(run, tmp_path):
    """It costs fewer bits than the model's own variance, most of all in a process of few steps."""
    model = tmp_path / "model"
    shutil.copytree(run, model)
    figures = {}
    for name, words in {
        "own": (),
        "own, 8 steps": ("--bound_steps", 8),
        "optimal, 8 steps": ("--bound_steps", 8, "--variance_type", "optimal"),
        "optimal": ("--variance_type", "optimal", "--record"),
        "again": ("--variance_type", "optimal"),
    }.items():
        output = tmp_path / f"{name}.json"
        done = start(model, "--num_images", 12, *words, "--output", output)
        assert done.returncode == 0, done.stderr
        figures[name] = json.loads(output.read_text())
        assert ("all timesteps of a process of 8" in done.stdout) == ("8 steps" in name)
    bits = {name: found["bits_per_dim"] for name, found in figures.items()}
    assert bits["again"] == pytest.approx(bits["optimal"], rel=1e-5), "six digits are kept"
    assert bits["optimal"] < bits["own"]
    assert bits["optimal, 8 steps"] < bits["own, 8 steps"]
    shorter = figures["own, 8 steps"]
    assert len(shorter["kl_bits"]) == 7
    assert shorter["bound_steps"] == 8
    assert shorter["eps_mse_mean"] == pytest.approx(np.mean(shorter["eps_mse"]))
    assert "bound_steps" not in figures["own"]
    assert figures["optimal"]["variance_type"] == "optimal"
    assert checkpoint.load(model).errors is not None
    assert "optimal" in (model / "README.md").read_text()
    done = start(model, "--num_images", 12, "--bound_steps", 41, "--output", tmp_path / "no.json")
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (
        1,
        "python -m ddpm.evaluate: error: --bound_steps 41: 2 to 40 is needed",
    )
