"""The report: as a table, as JSON with its curves, as a command that reproduces it, and as a row in the model's own
metrics and card."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from ddpm import files, plots
from ddpm.evaluate.options import NUM_VALIDATION, PROG, EvaluateConfig
from ddpm.evaluate.subject import Subject
from ddpm.hub import card
from ddpm.metrics import read_metrics, to_lines
from ddpm.names import counted

log = logging.getLogger("evaluate")

# Options that change neither the figures nor, for the model, its name in the command.
NOT_IN_COMMAND = ("model", "output", "record", "num_cpu_threads", "batch_size")
# Figures that the model's metrics do not need: curves, and what the model knows about itself.
NOT_RECORDED = ("kl_bits", "eps_mse", "kl_weight_bits", "model", "revision", "device", "versions")
# What an evaluation may have left out: a figure of it, what it is called, where its command is noted, and how the names
# of its figures begin.
PARTS = (
    (
        "num_samples",
        "samples",
        "samples_command",
        re.compile("num_samples|sampler|eta|num_inference_steps|seconds_per_sample|nearest_|frechet_|num_reference|"
                   "feature_|clear_|sample_class_shares|class_shares_|guidance_scale|by_guidance_scale|label_accuracy"),
    ),
    ("classify_images", "--classify", "classify_command", re.compile("classify_|classifier_|other_classifier_")),
)  # fmt: skip


def check_writable(subject: Subject) -> None:
    """Before minutes of work, reject a report that could not be written.

    Raises:
        ValueError: the report cannot be written, or the figures cannot be recorded.
    """
    config, output = subject.config, Path(subject.config.output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {output}: {error.strerror}") from None
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ValueError(f"--output {output} cannot be written there")
    if not config.record:
        return
    directory, model = Path(config.model), subject.model
    if not (directory.is_dir() and model.config and any(row["kind"] == "validation" for row in model.metrics)):
        raise ValueError(f"--record: {directory} is not the directory of a training that has validated its model")
    if not subject.trained_on_these:
        raise ValueError(
            f"--record: {directory} was not trained on {config.dataset_name}, and its card is about its own dataset"
        )
    with _locked(directory):
        pass


def write(output: Path, figures: dict[str, Any]) -> None:
    """Write the report and the curves of the bound. Before the samples are measured, remove the pictures of samples
    that an earlier report left."""
    files.write_text(output, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    if "num_samples" not in figures:
        for name in ("samples", "neighbours", "labels", "guidance"):
            output.with_name(f"{output.stem}-{name}.png").unlink(missing_ok=True)
        plots.save_elbo_plot(figures, output.with_suffix(".png"))


def command(subject: Subject) -> str:
    """The command line that reproduces the figures."""
    default, words = EvaluateConfig(), [PROG, shlex.quote(subject.config.model)]
    for field in dataclasses.fields(EvaluateConfig):
        value = getattr(subject.config, field.name)
        if field.name in NOT_IN_COMMAND or value == getattr(default, field.name):
            continue
        if field.name == "dataset_name" and subject.public_dataset_name != value:
            continue  # the model itself names its dataset
        if isinstance(value, bool):
            words.append(f"--{field.name}" if value else f"--no_{field.name}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            words.append(" ".join([f"--{field.name}", *(shlex.quote(str(v)) for v in values)]))
    return " ".join(words)


def record(directory: Path, figures: dict[str, Any]) -> None:
    """Write the figures into metrics.jsonl, in place of those of an earlier evaluation, and into the model card.

    Earlier figures of samples stay, together with the command that they came from, if this evaluation drew no samples;
    so do those of --classify.

    Raises:
        ValueError: a training is running in the directory, and its rows must not be lost.
    """
    with _locked(directory):
        rows = read_metrics(directory / "metrics.jsonl")
        earlier = next((row for row in rows if row["kind"] == "evaluation"), {})
        rows = [row for row in rows if row["kind"] != "evaluation"]
        last = max(rows, key=lambda row: row["step"])
        row = {"kind": "evaluation", "step": last["step"], "images": last["images"]}
        row |= {name: value for name, value in figures.items() if name not in NOT_RECORDED}
        for key, what, command, names in PARTS if earlier.get("step") == row["step"] else ():
            if key in earlier and key not in row:
                row |= {name: value for name, value in earlier.items() if names.match(name)}
                row[command] = earlier.get(command, earlier["command"])
                log.info("The figures of %s in %s stay as they were measured before", what, directory / "README.md")
        rows.append(row)
        files.write_text(directory / "metrics.jsonl", to_lines(rows))
        card.write(directory)
    log.info("Recorded in %s and %s", directory / "metrics.jsonl", directory / "README.md")


def _locked(directory: Path):
    """The lock on a run's folder. A model that was pulled or copied has no training states and needs no lock."""
    return files.claim(directory) if (directory / "checkpoints").is_dir() else contextlib.nullcontext()


def table(figures: dict[str, Any]) -> str:
    """The report as text for people."""
    T = len(figures["eps_mse"])
    exact = figures["timesteps"] == T
    shorter = f" of a process of {T}" if "bound_steps" in figures else ""
    how = f"all timesteps{shorter}" if exact else f"{counted(figures['timesteps'], 'timestep')} per image{shorter}"
    clip = "clipped" if figures["clip_denoised"] else "not clipped"
    clip += "" if figures["precision"] == "float32" else f", {figures['precision']}"
    told = ", told the label" if figures.get("num_labelled_images") else ""
    without = f"label {figures['no_label_is']}" if "no_label_is" in figures else "without labels"
    bare = f", {without}" if "val_loss_with_labels" in figures else ""
    both = told and "bits_per_dim_without_label" in figures
    lines = [
        f"{figures['model']} on {figures['dataset']} ({figures['split']}), "
        f"{counted(figures['num_images'], 'image')}, {how}",
        f"bits/dim         {figures['bits_per_dim']:9.4f}{_error(figures['bits_per_dim_se'])}   "
        f"(an upper bound; {figures['variance_type']}, x_0 {clip}{told})",
        f"  L_T            {figures['prior_bits']:9.2e}",
        f"  sum of L_t-1   {figures['kl_bits_total']:9.4f}",
        *(_ranges(figures) if exact and T > 101 else []),
        f"  L_0            {figures['reconstruction_bits']:9.4f}",
        *(_worth(figures) if both else []),
        f"epsilon-MSE      {figures['eps_mse_mean']:9.5f}{_error(figures['eps_mse_mean_se'], 5)}   "
        f"(L_simple per dimension: the mean over all timesteps{shorter}{told})",
        *([_without(figures, "eps_mse_mean_without_label", 5)] if both else []),
        f"val_loss         {figures['val_loss']:9.4f}   "
        f"(epsilon-MSE of {NUM_VALIDATION:,} frozen draws, as in the rows of the training{bare})",
        *([f"  with labels    {figures['val_loss_with_labels']:9.4f}"] if bare else []),
        *(_classifier(figures) if "classify_images" in figures else []),
        *(_samples(figures) if "frechet_distance" in figures else []),
        *([_nearest(figures)] if "nearest_train_rms" in figures else []),
        *(_guidance(figures) if "by_guidance_scale" in figures else []),
    ]
    return "\n".join(lines)


def _error(standard_error: float | None, digits: int = 4) -> str:
    """The standard error behind a figure; empty where a single image tells none."""
    return "" if standard_error is None else f" ± {standard_error:.{digits}f}"


def _without(figures: dict[str, Any], name: str, digits: int = 4) -> str:
    """The line about a figure of a class-conditional model that is not told the labels."""
    return f"  without label  {figures[name]:9.{digits}f}{_error(figures[f'{name}_se'], digits)}   (same noise)"


def _ranges(figures: dict[str, Any]) -> list[str]:
    """The sum of L_{t-1} by three ranges of t, 1-based."""
    kl, mse = np.array(figures["kl_bits"]), np.array(figures["eps_mse"])
    return [
        f"    t = {first:>3d} ... {last:<4d}{kl[first - 2 : last - 1].sum():8.4f}   "
        f"epsilon-MSE {mse[first - 1 : last].mean():.4f}"
        for first, last in ((2, 10), (11, 100), (101, len(mse)))
    ]


def _samples(figures: dict[str, Any]) -> list[str]:
    """The lines about samples."""
    accuracy = figures["feature_accuracy"]
    seen = f", which is right on {100 * accuracy:.1f} % of the held-out images" if accuracy is not None else ""
    scale = f", s = {figures['guidance_scale']:g}" if "guidance_scale" in figures else ""
    eta = f", eta = {figures['eta']:g}" if figures.get("eta") else ""
    return [
        f"Fréchet distance {figures['frechet_distance']:9.3f}{scale}   floor, real against real: "
        f"{figures['frechet_distance_real']:.3f} ± {figures['frechet_distance_real_sd']:.3f}",
        f"  {figures['num_samples']} samples against {figures['num_reference']} training images; "
        f"{figures['sampler']}{eta}, {counted(figures['num_inference_steps'], 'step')}; "
        f"features of {figures['feature_network']}{seen}.",
        "  Compare this distance only with others of this project.",
        *([_clear(figures)] if "clear_samples" in figures else []),
    ]


def _clear(figures: dict[str, Any]) -> str:
    """The line about samples that the classifier is sure of, and about the classes that they belong to."""
    shares = figures["sample_class_shares"]
    ends = (min(shares, key=shares.get), max(shares, key=shares.get))
    least, most = (f"{100 * shares[name]:.1f} % ({name})" for name in ends)
    real = 100 * figures["clear_real"]
    return (
        f"clear samples {100 * figures['clear_samples']:11.1f} %   held-out images: {real:.1f} %; the classifier gives "
        f"one class at least 0.9. Shares of the classes: {least} to {most}"
    )


def _nearest(figures: dict[str, Any]) -> str:
    """The line about copies of training images."""
    return (
        f"nearest training image: {figures['nearest_train_rms']:.4f} (rms, median) for samples, "
        f"{figures['nearest_train_rms_real']:.4f} for held-out images; copies would come much closer"
    )


def _worth(figures: dict[str, Any]) -> list[str]:
    """The lines about the bits that a label is worth."""
    lines = [_without(figures, "bits_per_dim_without_label")]
    if "label_bits_per_dim" in figures:
        lines.append(
            f"  label saves    {figures['label_bits_per_dim']:9.4f} ± {figures['label_bits_per_dim_se']:.4f}   "
            f"({figures['label_bits_per_image']:.2f} ± {figures['label_bits_per_image_se']:.2f} bits per image; "
            f"same noise; {counted(figures['num_labelled_images'], 'image')})"
        )
    return lines


def _classifier(figures: dict[str, Any]) -> list[str]:
    """The lines about the bound as a classifier."""
    count, share = figures["classify_images"], figures["classifier_accuracy"]
    lines = [
        f"bound as classifier {100 * share:6.1f} % ± {100 * (share * (1 - share) / count) ** 0.5:.1f} of "
        f"{counted(count, 'held-out image')}; {counted(figures['classify_timesteps'], 'timestep')}, "
        f"{figures['classify_network_evaluations'] / count:.0f} network evaluations per image"
    ]
    if "other_classifier_accuracy" in figures:
        lines.append(f"  own classifier    {100 * figures['other_classifier_accuracy']:6.1f} % of the same images")
    return lines


def _guidance(figures: dict[str, Any]) -> list[str]:
    """The table over guidance scales."""
    lines = ["guidance scale s   Fréchet distance   samples with the label that was asked for"]
    for row in figures["by_guidance_scale"]:
        right = f"{100 * row['label_accuracy']:.1f} %" if "label_accuracy" in row else "not measured"
        chance = "   (s = 0: by chance)" if row["guidance_scale"] == 0 else ""
        lines.append(f"{row['guidance_scale']:16g}   {row['frechet_distance']:16.3f}   {right}{chance}")
    if shares := figures.get("class_shares_without_label"):
        (least, low), (most, high) = (find(shares.items(), key=lambda item: item[1]) for find in (min, max))
        lines.append(f"samples without label: {100 * low:.1f} % ({least}) to {100 * high:.1f} % ({most}) of each class")
    return lines
