"""Measure a checkpoint: the whole of a report, and what is done with it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import math
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm import checkpoint, data, files, hub, plots
from ddpm.draws import Purpose, generator
from ddpm.elbo import elbo_estimate, elbo_terms
from ddpm.errors import first_line
from ddpm.evaluate import quality
from ddpm.evaluate.options import PROG, EvaluateConfig
from ddpm.files import claim
from ddpm.hub import card
from ddpm.metrics import to_lines
from ddpm.processes import on_main, plain_logging, settle, share
from ddpm.sampling import sample
from ddpm.validation import Validation

log = logging.getLogger("evaluate")

NUM_VALIDATION = 1024  # triples of val_loss, as train.py takes by default


# --------------------------------------------------------------------------------------------------------- the bound


def measure_bound(config: EvaluateConfig, model, images: data.Images, accelerator, bar) -> dict[str, Any]:
    """The part of the report that is about the bound. The processes deal the images among each other.

    Raises:
        ValueError: the network's output is not finite.
    """
    schedule = dataclasses.replace(model.schedule, variance_type=config.variance_type or model.schedule.variance_type)
    T, count = schedule.num_steps, _count(config, images)
    eps_theta = model.engine(accelerator.device)
    chosen = shuffled(config.seed, len(images.eval))[:count]
    rows, sums = [], np.zeros((2, T))
    met = np.zeros(T, np.int64)
    for number in range(accelerator.process_index, count, accelerator.num_processes):
        index = int(chosen[number])
        x0 = data.to_float(images.eval[index : index + 1])
        # Noise belongs to the image: figures do not depend on batches, processes or the other images.
        draw = generator(config.seed, Purpose.EVALUATION, index, slot=2)
        if config.timesteps:
            terms, kl_sum = elbo_estimate(
                eps_theta, schedule, x0[0], config.timesteps, draw, config.clip_denoised, config.batch_size
            )
            bar.update(config.timesteps + 1)
        else:
            noise = torch.Generator().manual_seed(int(draw.integers(2**63)))
            terms = elbo_terms(
                eps_theta,
                schedule,
                x0,
                clip_denoised=config.clip_denoised,
                generator=noise,
                batch_size=config.batch_size,
                on_batch=bar.update,
            )
            kl_sum = terms.kl.sum(1)
        rows.append((number, float(terms.prior), float(kl_sum), float(terms.reconstruction)))
        curves = np.stack([torch.cat([terms.reconstruction, terms.kl[0]]).numpy(), terms.eps_mse[0].numpy()])
        known = ~np.isnan(curves[0])
        sums[:, known] += curves[:, known]
        met += known
    rows = sorted(gather_object(rows))
    sums, met = (sum(gather_object([part])) for part in (sums, met))
    prior, kl_sum, reconstruction = np.array(rows).T[1:]
    total = prior + kl_sum + reconstruction
    if not np.isfinite(total).all():
        raise ValueError(f"{model.name}: the network's output is not finite")
    bits, mse = np.where(met > 0, sums / np.maximum(met, 1), np.nan)
    return {
        "bits_per_dim": float(total.mean()),
        "bits_per_dim_se": float(total.std(ddof=1) / len(total) ** 0.5),
        "prior_bits": float(prior.mean()),
        "kl_bits_total": float(kl_sum.mean()),
        "reconstruction_bits": float(reconstruction.mean()),
        "kl_bits": [None if math.isnan(v) else v for v in bits[1:].tolist()],
        "eps_mse": [None if math.isnan(v) else v for v in mse.tolist()],
        "kl_weight_bits": (schedule.kl_weight / math.log(2)).tolist(),
        "variance_type": schedule.variance_type,
        "clip_denoised": config.clip_denoised,
        "num_images": len(rows),
        "timesteps": config.timesteps or T,
    }


def _count(config: EvaluateConfig, images: data.Images) -> int:
    return min(config.num_images or len(images.eval), len(images.eval))


def shuffled(seed: int, count: int) -> np.ndarray:
    """An order of the held-out images. Not their own: MNIST's test split begins with the neater writers."""
    return generator(seed, Purpose.EVALUATION, slot=1).permutation(count)


# ----------------------------------------------------------------------------------------------------------- samples


def measure_samples(
    config: EvaluateConfig, model, images: data.Images, features: list[quality.Features], accelerator, bar
) -> dict[str, Any]:
    """The part of the report that is about samples, and their pictures. The processes share the sampling; the main one,
    which alone has `features`, measures."""
    mine = share(config.num_samples, accelerator.process_index, accelerator.num_processes)
    steps = config.num_inference_steps or model.schedule.num_steps
    began, drawn = time.perf_counter(), []
    for start in mine[:: config.batch_size]:
        shape = (min(config.batch_size, mine.stop - start), *images.train.shape[1:])
        x0 = sample(
            _counted(model.engine(accelerator.device), bar),
            model.scheduler,
            shape,
            sampler=config.sampler,
            num_inference_steps=config.num_inference_steps,
            seed=config.seed,
            first_image=start,
        )
        drawn.append(np.moveaxis(plots.to_pixels(x0), -1, 1))
    seconds = time.perf_counter() - began
    drawn = np.concatenate(gather_object(drawn))
    if not features:
        return {}
    (features,) = features
    output = Path(config.output)
    neighbours = quality.nearest(drawn, images.train)
    held_out = images.eval[shuffled(config.seed, len(images.eval))[: config.num_samples]]
    plots.save_image(
        plots.grid(np.moveaxis(drawn[:64], 1, -1), min(8, len(drawn))), output.with_name(f"{output.stem}-samples.png")
    )
    shown = [np.concatenate([drawn[i : i + 1], images.train[neighbours.index[i]]]) for i in range(min(10, len(drawn)))]
    plots.save_neighbours(shown, neighbours.distance[: len(shown)], output.with_name(f"{output.stem}-neighbours.png"))
    return {
        **quality.distances(features(images.train), features(drawn), config.seed),
        "feature_network": features.name,
        "feature_accuracy": features.accuracy,
        "num_samples": len(drawn),
        "sampler": config.sampler,
        "num_inference_steps": steps,
        "seconds_per_sample": seconds * accelerator.num_processes / len(drawn),
        "nearest_train_rms": float(np.median(neighbours.distance[:, 0])),
        "nearest_train_rms_real": float(np.median(quality.nearest(held_out, images.train, 1).distance)),
    }


def _counted(eps_theta, bar):
    def counted(xt, t):
        eps_hat = eps_theta(xt, t)
        bar.update(len(xt))
        return eps_hat

    counted.device = eps_theta.device
    return counted


# ---------------------------------------------------------------------------------------------------------- the whole


def data_options(config: EvaluateConfig, model) -> data.DataOptions:
    """The flags, or what the model was trained on.

    Raises:
        ValueError: neither says.
    """
    names = [name for name in data.DataOptions.__dataclass_fields__ if name != "revision"]
    given = {name: getattr(config, name) for name in names} | {"revision": config.dataset_revision}
    trained = model.config.get("options") or {}
    if config.dataset_name is None:
        if not trained.get("dataset_name"):
            raise ValueError(f"{model.name} does not say what it was trained on: pass --dataset_name")
        given = {name: trained.get(name) if value is None else value for name, value in given.items()}
    return data.DataOptions(**given)


def evaluate(config: EvaluateConfig, model: checkpoint.Checkpoint | None = None) -> dict[str, Any]:
    """Measure and return the report; complete in the main process alone, which also writes it and pictures beside it:
    the bound as soon as it is known, so that trouble with the samples does not cost it.

    Args:
        model: one that is loaded already, instead of `config.model`, which then only names it.
    Raises:
        ValueError: in one line why this model cannot be measured on these data.
    """
    from tqdm import tqdm

    accelerator = Accelerator()
    settle(accelerator, config.num_cpu_threads, "-m ddpm.evaluate ...")
    model = model or hub.pull(config.model, config.revision)
    options = data_options(config, model)
    images = data.prepare(options, progress=accelerator.is_main_process)
    size, needed = ((i.resolution, i.resolution, i.channels) for i in (images, model))
    if size != needed:
        have, want = ("x".join(map(str, s)) for s in (size, needed))
        raise ValueError(
            f"the images of {options.dataset_name!r} are {have}, {model.name} makes {want}: pass "
            f"--resolution {needed[0]} --channels {needed[2]}, or another --dataset_name"
        )
    T = model.schedule.num_steps
    if config.timesteps >= T:
        raise ValueError(f"--timesteps {config.timesteps}: 1 to {T - 1} are possible, or 0 for all, exactly")
    steps = config.num_inference_steps or T
    if steps > T:
        raise ValueError(f"--num_inference_steps {steps}: 1 to {T} are possible")
    features: list[quality.Features] = []
    if config.num_samples:  # what is refused is refused before the minutes that the bound takes
        quality.check_count(images, config.num_samples)
        on_main(
            accelerator,
            lambda: features.append(quality.Features(config.feature_network, images, accelerator.device)),
        )
    if _count(config, images) < 2:
        raise ValueError(f"{len(images.eval)} held-out image: 2 are needed for a standard error; pass --eval_split")
    output = Path(config.output)
    on_main(accelerator, lambda: _ready(config, model, images, output))
    if accelerator.is_main_process:
        for note in images.notes:
            log.info("%s", note)

    per_image = (config.timesteps + 1) if config.timesteps else T
    calls = _count(config, images) * per_image + NUM_VALIDATION + config.num_samples * steps
    with tqdm(
        total=calls // accelerator.num_processes,
        unit=" network evaluations",
        smoothing=0,
        disable=not accelerator.is_main_process,
    ) as bar:
        bar.set_description("bits/dim")
        bound = measure_bound(config, model, images, accelerator, bar)
        rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
        validation = Validation(images.eval, model.scheduler, NUM_VALIDATION, rank=rank, world=world)
        loss = accelerator.reduce(validation.squared_error(model.unet, device).float().to(device), "sum")
        bar.update(NUM_VALIDATION // world)
        figures = {
            "model": model.name,
            "revision": model.revision,
            "dataset": _public_name(options, model, images),
            "split": options.eval_split or _held_out_split(images),
            **bound,
            "val_loss": float(loss) / NUM_VALIDATION,
            "seed": config.seed,
            "command": command(config, options, model, images),
            "device": str(device),
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "torchmetrics")},
        }
        if accelerator.is_main_process:
            write(output, figures)
        if config.num_samples:
            bar.set_description("samples")
            figures |= measure_samples(config, model, images, features, accelerator, bar)
            if accelerator.is_main_process:
                write(output, figures)
    if config.record and accelerator.is_main_process:
        record(Path(config.model), figures)
    return figures


def _ready(config: EvaluateConfig, model, images: data.Images, output: Path) -> None:
    """Refuse what could only fail after the work is done.

    Raises:
        ValueError: the report cannot be written, or the figures cannot be recorded.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ValueError(f"--output {output} cannot be written there")
    if config.record:
        directory = Path(config.model)
        if not (directory.is_dir() and model.config and any(row["kind"] == "validation" for row in model.metrics)):
            raise ValueError(f"--record: {directory} is no directory of a run that has validated its model")
        if not _same_data(model, images):
            raise ValueError(
                f"--record: {config.dataset_name} is not what {directory} was trained on, and the card speaks of that"
            )
        with _alone(directory):
            pass


def _held_out_split(images: data.Images) -> str:
    """The split that the notes say was chosen, or "held out" where there is none."""
    found = (re.search("held out: split '(.+?)'", note) for note in images.notes)
    return next((match[1] for match in found if match), "held out")


def _alone(directory: Path):
    """The lock of a run's folder; nothing where no training ever ran, as in a model that was pulled or copied."""
    return claim(directory) if (directory / "checkpoints").is_dir() else contextlib.nullcontext()


def write(output: Path, figures: dict[str, Any]) -> None:
    """The report and its curves, in the place of all pictures of an earlier one."""
    if "num_samples" not in figures:
        for name in ("samples", "neighbours"):
            output.with_name(f"{output.stem}-{name}.png").unlink(missing_ok=True)
    files.write_text(output, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    plots.save_elbo_plot(figures, output.with_suffix(".png"))


def _public_name(options: data.DataOptions, model, images: data.Images) -> str:
    """The dataset as others know it: a folder with the very pixels of the training is what the model was trained on."""
    return model.config["options"]["dataset_name"] if _same_data(model, images) else options.dataset_name


def _same_data(model, images: data.Images) -> bool:
    """Whether the images are, to the pixel, those that the model was trained on."""
    return model.config.get("data", {}).get("fingerprint") == images.fingerprint


def command(config: EvaluateConfig, options: data.DataOptions, model, images: data.Images) -> str:
    """The command line that gives these figures again."""
    default, words = EvaluateConfig(), [PROG, shlex.quote(config.model)]
    public = _public_name(options, model, images)
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if f.name in ("model", "output", "record", "num_cpu_threads", "batch_size") or value == getattr(
            default, f.name
        ):
            continue
        if f.name == "dataset_name" and public != value:
            continue  # the model says it itself
        words.append(f"--{f.name} {shlex.quote(str(value))}" if not isinstance(value, bool) else f"--no_{f.name}")
    return " ".join(words)


def record(directory: Path, figures: dict[str, Any]) -> None:
    """The figures as a row of metrics.jsonl, in the place of an earlier evaluation's, and in the model card. Figures of
    samples that were not measured again stay, with the command that they came from.

    Raises:
        ValueError: a training runs there, whose rows must not be lost.
    """
    left_out = ("kl_bits", "eps_mse", "kl_weight_bits", "model", "revision", "device", "versions")
    with _alone(directory):
        rows = checkpoint.read_metrics(directory / "metrics.jsonl")
        earlier = next((row for row in rows if row["kind"] == "evaluation"), {})
        rows = [row for row in rows if row["kind"] != "evaluation"]
        last = max(rows, key=lambda row: row["step"])
        row = {"kind": "evaluation", "step": last["step"], "images": last["images"]}
        row |= {name: value for name, value in figures.items() if name not in left_out}
        if "num_samples" not in row and "num_samples" in earlier and earlier["step"] == row["step"]:
            row |= {name: value for name, value in earlier.items() if name not in row}
            row.setdefault("samples_command", earlier["command"])
            log.info("The figures of samples in %s stay as measured before", directory / "README.md")
        rows.append(row)
        files.write_text(directory / "metrics.jsonl", to_lines(rows))
        card.write(directory)
    log.info("Recorded in %s and %s", directory / "metrics.jsonl", directory / "README.md")


def table(figures: dict[str, Any]) -> str:
    """The report for people."""
    kl = np.array([math.nan if v is None else v for v in figures["kl_bits"]])
    mse = np.array([math.nan if v is None else v for v in figures["eps_mse"]])
    T = len(mse)
    exact = figures["timesteps"] == T
    how = "all timesteps" if exact else f"{figures['timesteps']} timesteps an image"
    clip = "clipped" if figures["clip_denoised"] else "not clipped"
    lines = [
        f"{figures['model']} on {figures['dataset']} ({figures['split']}), {figures['num_images']} images, {how}",
        f"bits/dim         {figures['bits_per_dim']:9.4f} ± {figures['bits_per_dim_se']:.4f}   "
        f"(an upper bound; {figures['variance_type']}, x_0 {clip})",
        f"  L_T            {figures['prior_bits']:9.2e}",
        f"  sum of L_t-1   {figures['kl_bits_total']:9.4f}",
    ]
    for first, last in ((2, 10), (11, 100), (101, T)) if exact and T > 101 else ():
        part = slice(first - 2, last - 1)
        lines.append(
            f"    t = {first:>3d} ... {last:<4d}{kl[part].sum():8.4f}   epsilon-MSE {mse[first - 1 : last].mean():.4f}"
        )
    lines += [
        f"  L_0            {figures['reconstruction_bits']:9.4f}",
        f"val_loss         {figures['val_loss']:9.4f}   (epsilon-MSE, frozen images, timesteps and noise)",
    ]
    if "frechet_distance" in figures:
        accuracy = figures["feature_accuracy"]
        seen = f", {100 * accuracy:.1f} % right on held-out images" if accuracy is not None else ""
        lines += [
            f"Fréchet distance {figures['frechet_distance']:9.3f}   floor, real against real: "
            f"{figures['frechet_distance_real']:.3f} ± {figures['frechet_distance_real_sd']:.3f}",
            f"  {figures['num_samples']} samples against {figures['num_reference']} training images; "
            f"{figures['sampler']}, {figures['num_inference_steps']} steps; "
            f"features of {figures['feature_network']}{seen}.",
            "  Compares within this project only.",
            f"nearest training image: {figures['nearest_train_rms']:.4f} (rms, median) for samples, "
            f"{figures['nearest_train_rms_real']:.4f} for held-out images; copies would come much closer",
        ]
    return "\n".join(lines)


def main(config: EvaluateConfig) -> int:
    plain_logging()
    is_main = os.environ.get("RANK", "0") == "0"
    try:
        figures = evaluate(config)
    except (ValueError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        if is_main:
            print(f"{PROG}: error: {first_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if is_main:
        print(table(figures))
        print(f"written: {config.output} and pictures beside it")
    return 0
