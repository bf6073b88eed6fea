"""Samples of the model beside the training images: how they are drawn, compared and shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm import plots, tiles
from ddpm.engine import Counted
from ddpm.evaluate import quality
from ddpm.evaluate.bound import shuffled
from ddpm.evaluate.labels import Judge, asked_labels
from ddpm.evaluate.subject import Subject
from ddpm.processes import on_main, share
from ddpm.sampling import sample
from ddpm.schedule import Errors

SHOWN_SAMPLES = 64
SHOWN_CLASSES = 20
SHOWN_NEIGHBOURS = 10  # samples that are shown beside their nearest training images


def load_features(subject: Subject, accelerator: Accelerator) -> quality.Features | None:
    """The features that images are compared by. Only the main process compares, so None in the others; and None where
    the options ask for no comparison.

    Raises:
        ValueError: there are too few images for so many samples, or no features for these images.
    """
    if subject.config.feature_network == "none":
        return None
    quality.check_count(subject.images, subject.config.num_samples)
    features = None

    def load() -> None:
        nonlocal features
        features = quality.Features(subject.config.feature_network, subject.images, accelerator.device)

    on_main(accelerator, load)
    return features


def measure_samples(
    subject: Subject,
    errors: Errors | None,
    features: quality.Features | None,
    judge: Judge | None,
    accelerator: Accelerator,
    bar,
) -> dict[str, Any]:
    """The part of the report about samples. The processes share the sampling; the main one compares and draws pictures.

    A class-conditional model draws a set of samples at each guidance scale, from the same noise and for the same
    labels. The figures that other models have, too, are those of one set: that of s = 1 if there is one.

    Args:
        errors: of the network, for ancestral sampling with the optimal variance.
        features, judge: in the main process; None elsewhere, where the result is empty. Without features, only the
            nearest training images are found.
        bar: progress bar, which counts calls of the network per image.
    """
    config, images, scales = subject.config, subject.images, subject.scales
    labels = asked_labels(subject) if scales else None
    sets = [_draw(subject, errors, accelerator, bar, labels, scale) for scale in scales or (0.0,)]
    if not accelerator.is_main_process:
        return {}
    shown = scales.index(1.0) if 1.0 in scales else len(sets) - 1
    drawn, seconds = sets[shown]
    neighbours = quality.nearest(drawn, images.train)
    held_out = images.eval[shuffled(config.seed, len(images.eval))[: config.num_samples]]
    _save_pictures(drawn, neighbours, images.train, Path(config.output))
    figures: dict[str, Any] = {
        "num_samples": len(drawn),
        "sampler": config.sampler,
        "eta": config.eta,
        "num_inference_steps": subject.num_inference_steps,
        "seconds_per_sample": seconds * accelerator.num_processes / len(drawn),
        "nearest_train_rms": float(np.median(neighbours.distance[:, 0])),
        "nearest_train_rms_real": float(np.median(quality.nearest(held_out, images.train, 1).distance)),
    }
    if features is None:
        if labels is not None:
            figures["guidance_scale"] = scales[shown]
            _save_guided(subject, [part for part, _ in sets], labels, figures)
        return figures
    found, floor = quality.all_distances(features(images.train), [features(part) for part, _ in sets], config.seed)
    about = {"feature_network": features.name, "feature_accuracy": features.accuracy}
    figures = {"frechet_distance": found[shown], **floor, **about, **figures}
    if features.classifier is not None:
        said, of_real = (quality.told(features.classifier, part, features.device) for part in (drawn, held_out))
        figures |= {"clear_samples": said.clear, "clear_real": of_real.clear}
        figures["sample_class_shares"] = dict(zip(features.class_names, said.shares, strict=True))
    if labels is None:
        return figures
    rows = [{"guidance_scale": s, "frechet_distance": f} for s, f in zip(scales, found, strict=True)]
    if judge:
        seen = [judge(part) for part, _ in sets]
        for row, answers in zip(rows, seen, strict=True):
            row["label_accuracy"] = float(np.mean(answers == labels))
        if 0.0 in scales:
            figures["class_shares_without_label"] = _shares(subject, seen[scales.index(0.0)])
    figures |= {**rows[shown], "by_guidance_scale": rows}
    if 0.0 in scales:
        figures["frechet_distance_without_label"] = found[scales.index(0.0)]
    _save_guided(subject, [part for part, _ in sets], labels, figures)
    return figures


def _draw(
    subject: Subject, errors: Errors | None, accelerator: Accelerator, bar, labels: np.ndarray | None, scale: float
) -> tuple[np.ndarray, float]:
    """(N, C, H, W) uint8 samples of all processes, and the seconds that this process took for its share.

    Args:
        labels: (N,) the class of each sample; None: without labels.
        scale: the guidance scale.
    """
    config, model = subject.config, subject.model
    part = share(config.num_samples, accelerator.process_index, accelerator.num_processes)
    # With guidance, the network sees each image twice in a call.
    at_once = config.batch_size if scale in (0, 1) else max(1, config.batch_size // 2)
    sizes = {min(at_once, part.stop - start) for start in part[::at_once]}
    engine = subject.engine(accelerator.device)
    engine.settle(*(size if scale in (0, 1) else 2 * size for size in sizes))
    eps_theta = Counted(engine, bar, strict=True)
    began, drawn = time.perf_counter(), []
    for start in part[::at_once]:
        shape = (min(at_once, part.stop - start), *subject.images.train.shape[1:])
        asked: dict[str, Any] = {}
        if labels is not None and scale:
            asked = {"labels": torch.from_numpy(labels[start : start + shape[0]]), "guidance_scale": scale}
        x0 = sample(
            eps_theta,
            model.scheduler,
            shape,
            sampler=config.sampler,
            eta=config.eta,
            num_inference_steps=config.num_inference_steps,
            seed=config.seed,
            first_image=start,
            errors=errors,
            **asked,
        )
        drawn.append(np.moveaxis(plots.to_pixels(x0), -1, 1))
    seconds = time.perf_counter() - began
    return np.concatenate(gather_object(drawn)), seconds


def _shares(subject: Subject, answers: np.ndarray) -> dict[str, float]:
    """The share of the samples that the classifier gives each class, by name; of the classes that the images have."""
    assert subject.model.classes
    names = subject.model.classes.names
    return {names[n]: float(np.mean(answers == n)) for n in sorted(subject.numbers.tolist()) if n >= 0}


def _save_pictures(drawn: np.ndarray, neighbours: quality.Neighbours, train: np.ndarray, output: Path) -> None:
    """Save a grid of samples, and some samples with their nearest training images, beside the report."""
    grid = tiles.grid(np.moveaxis(drawn[:SHOWN_SAMPLES], 1, -1), min(8, len(drawn)))
    plots.save_image(grid, output.with_name(f"{output.stem}-samples.png"))
    count = min(SHOWN_NEIGHBOURS, len(drawn))
    shown = [np.concatenate([drawn[i : i + 1], train[neighbours.index[i]]]) for i in range(count)]
    plots.save_neighbours(shown, neighbours.distance[:count], output.with_name(f"{output.stem}-neighbours.png"))


def _save_guided(subject: Subject, sets: list[np.ndarray], labels: np.ndarray, figures: dict[str, Any]) -> None:
    """Save a table of samples with a row for each guidance scale and a column for each class, and the plot of quality
    against obedience."""
    assert subject.model.classes
    output = Path(subject.config.output)
    if len(figures.get("by_guidance_scale", ())) > 1 and subject.images.classes:
        plots.save_guidance_plot(figures, subject.model.name, output.with_name(f"{output.stem}-guidance.png"))
    first = {int(label): place for place, label in reversed(list(enumerate(labels)))}
    shown = sorted(first)[:SHOWN_CLASSES]
    rows = [[np.moveaxis(part[first[label]], 0, -1) for label in shown] for part in sets]
    names = [subject.model.classes.names[label] for label in shown]
    plots.save_labelled(rows, names, list(subject.scales), output.with_name(f"{output.stem}-labels.png"))
