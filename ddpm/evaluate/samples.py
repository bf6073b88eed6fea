"""Samples of the model beside the training images: how they are drawn, compared and shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm import plots
from ddpm.engine import Counted
from ddpm.evaluate import quality
from ddpm.evaluate.bound import shuffled
from ddpm.evaluate.subject import Subject
from ddpm.processes import on_main, share
from ddpm.sampling import sample

SHOWN_SAMPLES = 64
SHOWN_NEIGHBOURS = 10  # samples that are shown beside their nearest training images


def load_features(subject: Subject, accelerator: Accelerator) -> quality.Features | None:
    """The features that images are compared by. Only the main process compares, so None in the others.

    Raises:
        ValueError: there are too few images for so many samples, or no features for these images.
    """
    quality.check_count(subject.images, subject.config.num_samples)
    features = None

    def load() -> None:
        nonlocal features
        features = quality.Features(subject.config.feature_network, subject.images, accelerator.device)

    on_main(accelerator, load)
    return features


def measure_samples(
    subject: Subject, features: quality.Features | None, accelerator: Accelerator, bar
) -> dict[str, Any]:
    """The part of the report about samples. The processes share the sampling; the main one compares and draws pictures.

    Args:
        features: in the main process; None elsewhere, where the result is empty.
        bar: progress bar, which counts calls of the network per image.
    """
    config, images = subject.config, subject.images
    drawn, seconds = _draw(subject, accelerator, bar)
    if features is None:
        return {}
    neighbours = quality.nearest(drawn, images.train)
    held_out = images.eval[shuffled(config.seed, len(images.eval))[: config.num_samples]]
    _save_pictures(drawn, neighbours, images.train, Path(config.output))
    return {
        **quality.distances(features(images.train), features(drawn), config.seed),
        "feature_network": features.name,
        "feature_accuracy": features.accuracy,
        "num_samples": len(drawn),
        "sampler": config.sampler,
        "num_inference_steps": subject.num_inference_steps,
        "seconds_per_sample": seconds * accelerator.num_processes / len(drawn),
        "nearest_train_rms": float(np.median(neighbours.distance[:, 0])),
        "nearest_train_rms_real": float(np.median(quality.nearest(held_out, images.train, 1).distance)),
    }


def _draw(subject: Subject, accelerator: Accelerator, bar) -> tuple[np.ndarray, float]:
    """(N, C, H, W) uint8 samples of all processes, and the seconds that this process took for its share."""
    config, model = subject.config, subject.model
    part = share(config.num_samples, accelerator.process_index, accelerator.num_processes)
    engine = model.engine(accelerator.device)
    engine.settle(*{min(config.batch_size, part.stop - start) for start in part[:: config.batch_size]})
    eps_theta = Counted(engine, bar)
    began, drawn = time.perf_counter(), []
    for start in part[:: config.batch_size]:
        shape = (min(config.batch_size, part.stop - start), *subject.images.train.shape[1:])
        x0 = sample(
            eps_theta,
            model.scheduler,
            shape,
            sampler=config.sampler,
            num_inference_steps=config.num_inference_steps,
            seed=config.seed,
            first_image=start,
        )
        drawn.append(np.moveaxis(plots.to_pixels(x0), -1, 1))
    seconds = time.perf_counter() - began
    return np.concatenate(gather_object(drawn)), seconds


def _save_pictures(drawn: np.ndarray, neighbours: quality.Neighbours, train: np.ndarray, output: Path) -> None:
    """Save a grid of samples, and some samples with their nearest training images, beside the report."""
    grid = plots.grid(np.moveaxis(drawn[:SHOWN_SAMPLES], 1, -1), min(8, len(drawn)))
    plots.save_image(grid, output.with_name(f"{output.stem}-samples.png"))
    count = min(SHOWN_NEIGHBOURS, len(drawn))
    shown = [np.concatenate([drawn[i : i + 1], train[neighbours.index[i]]]) for i in range(count)]
    plots.save_neighbours(shown, neighbours.distance[:count], output.with_name(f"{output.stem}-neighbours.png"))
