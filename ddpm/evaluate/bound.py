"""The variational bound of held-out images in bits per dimension, term by term, with its standard error; the
epsilon-MSE at the same timesteps; and how many bits a label is worth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ddpm import data
from ddpm.draws import Purpose, generator
from ddpm.elbo import ElboEstimate, elbo_estimate, elbo_terms
from ddpm.evaluate.options import EvaluateConfig
from ddpm.evaluate.subject import Subject
from ddpm.optimal import Respaced, measure_errors
from ddpm.processes import on_main
from ddpm.sampling import timesteps_for
from ddpm.schedule import Errors, NoiseSchedule


def measure_bound(subject: Subject, errors: Errors | None, accelerator: Accelerator, bar) -> dict[str, Any]:
    """The part of the report about the bound and the epsilon-MSE, the same in every process. The processes share the
    images.

    A class-conditional model is told the label of each image, and is measured without labels beside that, with the same
    noise.

    Args:
        errors: of the network, for the optimal variance.
        bar: progress bar, which counts calls of the network per image.
    Raises:
        ValueError: the network's output is not finite.
    """
    config, model, images = subject.config, subject.model, subject.images
    schedule = with_variance_type(model.schedule, config.variance_type, errors)
    eps_theta = subject.engine(accelerator.device)
    eps_theta.settle(min(config.batch_size, subject.num_timesteps))
    if subject.bound_steps < schedule.num_steps:
        timesteps = timesteps_for(subject.bound_steps, schedule.num_steps - 1)[::-1]
        schedule, eps_theta = schedule.respaced(timesteps), Respaced(eps_theta, timesteps)
    chosen = chosen_images(subject)
    # Number of the image, L_T, sum of L_{t-1}, L_0, epsilon-MSE; then whether it has a label, and its bound and
    # epsilon-MSE without one.
    rows: list[tuple[float, ...]] = []
    # Sums over images, by timestep, of the term in bits and of the epsilon-MSE; and how many images know both.
    sums, counts = np.zeros((2, schedule.num_steps)), np.zeros(schedule.num_steps, np.int64)
    for number in range(accelerator.process_index, subject.num_images, accelerator.num_processes):
        index = int(chosen[number])
        pixels, label = images.eval[index : index + 1], int(subject.held_out_classes[index])
        told = eps_theta if label < 0 else ForLabel(eps_theta, label)
        found = _estimate(config, told, schedule, pixels, index, bar)
        bare = found
        if label >= 0 and subject.model.knows_no_label:
            bare = _estimate(config, eps_theta, schedule, pixels, index, bar)
        *bits, mse_bare = _parts(bare)
        rows.append((number, *_parts(found), label >= 0, sum(bits), mse_bare))
        terms = found.terms
        curves = torch.stack([torch.cat([terms.reconstruction, terms.kl[0]]), terms.eps_mse[0]]).numpy()
        known = ~np.isnan(curves[0])  # an estimate leaves timesteps out
        sums[:, known] += curves[:, known]
        counts += known
    rows = sorted(gather_object(rows))
    sums, counts = (sum(gather_object([part])) for part in (sums, counts))
    prior, kl_sums, reconstruction, mse_told, labelled, without, mse_without = np.array(rows).T[1:]
    total = prior + kl_sums + reconstruction
    if not np.isfinite([total, without, mse_told, mse_without]).all():
        raise ValueError(f"{model.name}: the network's output is not finite; the model may be damaged")
    bits, mse = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    of_labels: dict[str, Any] = {"num_labelled_images": int(labelled.sum())} if model.classes else {}
    if model.knows_no_label:
        of_labels |= _worth(total, without, labelled > 0, images.eval[0].size)
        of_labels |= _mean("eps_mse_mean_without_label", mse_without)
    return {
        **_mean("bits_per_dim", total),
        **_mean("eps_mse_mean", mse_told),
        **of_labels,
        "prior_bits": float(prior.mean()),
        "kl_bits_total": float(kl_sums.mean()),
        "reconstruction_bits": float(reconstruction.mean()),
        "kl_bits": [None if math.isnan(v) else v for v in bits[1:].tolist()],
        "eps_mse": [None if math.isnan(v) else v for v in mse.tolist()],
        "kl_weight_bits": (schedule.kl_weight / math.log(2)).tolist(),
        "variance_type": schedule.variance_type,
        "clip_denoised": config.clip_denoised,
        "num_images": len(rows),
        "timesteps": subject.num_timesteps,
        **({"bound_steps": subject.bound_steps} if subject.bound_steps < model.schedule.num_steps else {}),
    }


def with_variance_type(schedule: NoiseSchedule, variance_type: str | None, errors: Errors | None) -> NoiseSchedule:
    """A model's schedule with the variance that the options ask for; None: with the model's own."""
    if variance_type in (None, schedule.variance_type):
        return schedule
    return NoiseSchedule(schedule.beta, str(variance_type), errors=errors)


def find_errors(subject: Subject, accelerator: Accelerator, bar) -> Errors:
    """The errors of the network, in every process, measured on training images."""
    config, model, images = subject.config, subject.model, subject.images

    def measure() -> Errors:
        eps_theta = subject.engine(accelerator.device)
        eps_theta.settle(config.batch_size)
        return measure_errors(
            eps_theta,
            model.schedule,
            lambda numbers: data.to_float(data.take(images.train, numbers)),
            len(images.train),
            generator(config.seed, Purpose.EVALUATION, slot=3),
            clip_denoised=config.clip_denoised,
            batch_size=config.batch_size,
            on_batch=bar.update,
        )

    return on_main(accelerator, measure)


class ForLabel:
    """eps_theta(x_t, t) for one label.

    Args:
        engine: called as engine(xt, t, labels), see `Engine`.
    """

    def __init__(self, engine, label: int) -> None:
        self.engine, self.label, self.device = engine, label, getattr(engine, "device", "cpu")

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        return self.with_variance(xt, t)[0]

    def with_variance(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.engine.with_variance(xt, t, torch.full((len(xt),), self.label))


def _mean(name: str, values: np.ndarray) -> dict[str, float | None]:
    """The mean of (N,) values under this name, and its standard error under `name`_se: None for a single value, which
    says nothing about it."""
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return {name: float(values.mean()), f"{name}_se": error}


def _worth(told: np.ndarray, without: np.ndarray, labelled: np.ndarray, dimensions: int) -> dict[str, Any]:
    """The figures of a class-conditional model about its labels.

    Args:
        told, without: (N,) the bound of each image, with its label and without, in bits per dimension.
        labelled: (N,) bool: whether the image has a label that the model knows. The two are the same where not.
        dimensions: of an image.
    """
    figures: dict[str, Any] = _mean("bits_per_dim_without_label", without)
    saved = (without - told)[labelled]
    if len(saved) > 1:
        figures |= _mean("label_bits_per_dim", saved) | _mean("label_bits_per_image", saved * dimensions)
    return figures


def _estimate(
    config: EvaluateConfig, eps_theta, schedule: NoiseSchedule, pixels: np.ndarray, index: int, bar
) -> ElboEstimate:
    """The terms of one image, exactly or as an estimate, as the options ask.

    Args:
        pixels: (1, C, H, W) uint8.
        index: of the image. It decides the noise, so that the figures depend neither on batches nor on processes.
    """
    x0 = data.to_float(pixels)
    draw = generator(config.seed, Purpose.EVALUATION, index, slot=2)
    if config.timesteps:
        estimate = elbo_estimate(
            eps_theta, schedule, x0[0], config.timesteps, draw, config.clip_denoised, config.batch_size
        )
        bar.update(config.timesteps + 1)
        return estimate
    terms = elbo_terms(
        eps_theta,
        schedule,
        x0,
        clip_denoised=config.clip_denoised,
        generator=torch.Generator().manual_seed(int(draw.integers(2**63))),
        batch_size=config.batch_size,
        on_batch=bar.update,
    )
    return ElboEstimate(terms, terms.kl.sum(1), terms.eps_mse.mean(1))


def _parts(estimate: ElboEstimate) -> tuple[float, float, float, float]:
    """L_T, the sum of L_{t-1}, L_0 and the mean epsilon-MSE of one image."""
    terms = estimate.terms
    return float(terms.prior), float(estimate.kl_sum), float(terms.reconstruction), float(estimate.eps_mse_mean)


def chosen_images(subject: Subject) -> np.ndarray:
    """The held-out images that the bound is computed on, (num_images,) int64."""
    return shuffled(subject.config.seed, len(subject.images.eval))[: subject.num_images]


def shuffled(seed: int, count: int) -> np.ndarray:
    """A random order of `count` held-out images, (count,) int64. Their own order is not random: the test split of
    MNIST begins with the neater writers."""
    return generator(seed, Purpose.EVALUATION, slot=1).permutation(count)
