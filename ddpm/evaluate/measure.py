"""Measure a model: the bound, the validation loss and, if wanted, samples. The command line prints the report."""

from __future__ import annotations

import copy
import importlib.metadata
import logging
import math
import os
import sys
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator

from ddpm import hub, variance
from ddpm.checkpoint import Checkpoint, check_precision
from ddpm.classes import Classes
from ddpm.errors import first_line
from ddpm.evaluate import report
from ddpm.evaluate.bound import chosen_images, find_errors, measure_bound
from ddpm.evaluate.labels import load_judge, measure_classifier, most_evaluations
from ddpm.evaluate.options import NUM_VALIDATION, PROG, EvaluateConfig
from ddpm.evaluate.samples import load_features, measure_samples
from ddpm.evaluate.subject import Subject, find_subject
from ddpm.launcher import launchers_precision
from ddpm.optimal import PER_TIMESTEP
from ddpm.processes import on_main, plain_logging, settle
from ddpm.validation import Validation

log = logging.getLogger("evaluate")


def evaluate(config: EvaluateConfig, model: Checkpoint | None = None) -> dict[str, Any]:
    """Measure a model, write the report and pictures beside it, and return the report.

    The report is written as soon as the bound is known, so that trouble with the samples does not cost the bound. Only
    the main process writes, and only its report holds the figures of samples.

    Args:
        model: one that is loaded already, instead of `config.model`, which then only names it.
    Raises:
        ValueError: in one line why this model cannot be measured on these images.
    """
    accelerator = Accelerator(mixed_precision=launchers_precision("no", PROG, "figures are computed in float32"))
    settle(accelerator, config.num_cpu_threads, "-m ddpm.evaluate ...", tf32=False)
    check_precision(config.precision, accelerator.device.type)
    model = model or hub.pull(config.model, config.revision)
    # Whatever can be rejected is rejected before the minutes that the bound takes.
    subject = find_subject(config, model, progress=accelerator.is_main_process)
    features = load_features(subject, accelerator) if config.num_samples else None
    judge = load_judge(subject, features, accelerator)
    on_main(accelerator, lambda: report.check_writable(subject))
    if accelerator.is_main_process:
        subject.images.say(log)
    with _progress(subject, accelerator) as bar:
        errors = subject.errors
        if errors is None and config.needs_errors:
            bar.set_description("variance")
            errors = find_errors(subject, accelerator, bar)
        bar.set_description("bits/dim")
        bound = measure_bound(subject, errors, accelerator, bar)
        bar.set_description("val_loss")
        losses = _val_losses(subject, accelerator, bar)
        figures = {**_about(subject), **bound, **losses}
        if config.classify:
            bar.set_description("classify")
            figures |= measure_classifier(subject, errors, judge, accelerator, bar)
        figures |= _origin(subject, accelerator)
        if accelerator.is_main_process:
            report.write(Path(config.output), figures)
        if config.num_samples:
            bar.set_description("samples")
            figures |= measure_samples(subject, errors, features, judge, accelerator, bar)
            if accelerator.is_main_process:
                report.write(Path(config.output), figures)
    if config.record and accelerator.is_main_process:
        report.record(Path(config.model), figures)
        if model.errors is None and errors is not None and config.clip_denoised:
            variance.save(Path(config.model), model.lowest_log_variance, errors, model.unet)
    return figures


def _progress(subject: Subject, accelerator: Accelerator):
    """A progress bar over this process's share of the network evaluations, one for each image and timestep."""
    from tqdm import tqdm

    T, timesteps = subject.bound_steps, subject.config.timesteps
    labelled = subject.held_out_classes >= 0
    twice = int(labelled[chosen_images(subject)].sum()) if subject.model.knows_no_label else 0
    calls = (subject.num_images + twice) * (timesteps + 1 if timesteps else T)
    calls += NUM_VALIDATION * (1 + bool(labelled.any()))
    halves = sum(1 if scale in (0, 1) else 2 for scale in subject.scales or (0,))
    calls += subject.config.num_samples * subject.num_inference_steps * halves
    calls += most_evaluations(subject) * subject.images_to_classify
    calls //= accelerator.num_processes
    if subject.config.needs_errors and subject.errors is None:  # which only the main process measures
        calls += PER_TIMESTEP * subject.model.schedule.num_steps
    return tqdm(
        total=calls,
        unit=" network evaluations",
        smoothing=0,
        disable=not accelerator.is_main_process,
    )


def _val_losses(subject: Subject, accelerator: Accelerator, bar) -> dict[str, float]:
    """Epsilon-MSE with frozen images, timesteps and noise, as train.py reports it: without labels and, for a
    class-conditional model, with them."""
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    labels, losses = subject.held_out_classes, {}
    unet: Any = subject.model.unet
    unet = unet if device.type == "cpu" else copy.deepcopy(unet).to(device)  # the model itself stays on the CPU
    asked: dict[str, Classes | None] = {"val_loss": None}
    validation = Validation(
        subject.images.eval, subject.model.scheduler, NUM_VALIDATION, classes=labels, rank=rank, world=world
    )
    if (labels >= 0).any():
        asked["val_loss_with_labels"] = subject.model.classes
    for name, known in asked.items():
        error = validation.squared_error(unet, device, known).float().to(device)
        bar.update(NUM_VALIDATION // world)
        losses[name] = float(cast(torch.Tensor, accelerator.reduce(error, "sum"))) / NUM_VALIDATION
        if not math.isfinite(losses[name]):  # the bound is computed in float64, and clips x_0
            raise ValueError(f"{subject.model.name}: the network's output is not finite; the model may be damaged")
    return losses


def _about(subject: Subject) -> dict[str, Any]:
    """What was measured."""
    classes = subject.model.classes
    return {
        "model": subject.model.name,
        "revision": subject.model.revision,
        "dataset": subject.public_dataset_name,
        "split": subject.split,
        **({"no_label_is": classes.unlabelled} if classes and classes.unlabelled else {}),
    }


def _origin(subject: Subject, accelerator: Accelerator) -> dict[str, Any]:
    """How to reproduce the report, and what computed it."""
    return {
        "seed": subject.config.seed,
        "precision": subject.config.precision,
        "command": report.command(subject),
        "device": str(accelerator.device),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "torchmetrics")},
    }


def main(config: EvaluateConfig) -> int:
    """Measure, and print the report as a table. Returns the exit status; an error is one line on stderr."""
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
        print(report.table(figures))
        print(f"The report is in {config.output}, and its pictures are beside it.")
    return 0
