"""The variational bound of held-out images in bits per dimension, term by term, with its standard error."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm import data
from ddpm.draws import Purpose, generator
from ddpm.elbo import ElboTerms, elbo_estimate, elbo_terms
from ddpm.evaluate.options import EvaluateConfig
from ddpm.evaluate.subject import Subject
from ddpm.schedule import NoiseSchedule


def measure_bound(subject: Subject, accelerator: Accelerator, bar) -> dict[str, Any]:
    """The part of the report about the bound, the same in every process. The processes share the images.

    Args:
        bar: progress bar, which counts calls of the network per image.
    Raises:
        ValueError: the network's output is not finite.
    """
    config, model, images = subject.config, subject.model, subject.images
    schedule = dataclasses.replace(model.schedule, variance_type=config.variance_type or model.schedule.variance_type)
    eps_theta = model.engine(accelerator.device)
    eps_theta.settle(min(config.batch_size, subject.num_timesteps))
    chosen = shuffled(config.seed, len(images.eval))[: subject.num_images]
    rows: list[tuple[int, float, float, float]] = []  # number of the image, L_T, sum of L_{t-1}, L_0
    # Sums over images, by timestep, of the term in bits and of the epsilon-MSE; and how many images know both.
    sums, counts = np.zeros((2, schedule.num_steps)), np.zeros(schedule.num_steps, np.int64)
    for number in range(accelerator.process_index, subject.num_images, accelerator.num_processes):
        index = int(chosen[number])
        terms, kl_sum = _terms(config, eps_theta, schedule, images.eval[index : index + 1], index, bar)
        rows.append((number, float(terms.prior), kl_sum, float(terms.reconstruction)))
        curves = torch.stack([torch.cat([terms.reconstruction, terms.kl[0]]), terms.eps_mse[0]]).numpy()
        known = ~np.isnan(curves[0])  # an estimate leaves timesteps out
        sums[:, known] += curves[:, known]
        counts += known
    rows = sorted(gather_object(rows))
    sums, counts = (sum(gather_object([part])) for part in (sums, counts))
    prior, kl_sums, reconstruction = np.array(rows).T[1:]
    total = prior + kl_sums + reconstruction
    if not np.isfinite(total).all():
        raise ValueError(f"{model.name}: the network's output is not finite")
    bits, mse = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return {
        "bits_per_dim": float(total.mean()),
        "bits_per_dim_se": float(total.std(ddof=1) / len(total) ** 0.5),
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
    }


def _terms(
    config: EvaluateConfig, eps_theta, schedule: NoiseSchedule, pixels: np.ndarray, index: int, bar
) -> tuple[ElboTerms, float]:
    """The terms of one image and the sum of its KL terms, in bits per dimension.

    Args:
        pixels: (1, C, H, W) uint8.
        index: of the image. It decides the noise, so that the figures depend neither on batches nor on processes.
    """
    x0 = data.to_float(pixels)
    draw = generator(config.seed, Purpose.EVALUATION, index, slot=2)
    if config.timesteps:
        terms, kl_sum = elbo_estimate(
            eps_theta, schedule, x0[0], config.timesteps, draw, config.clip_denoised, config.batch_size
        )
        bar.update(config.timesteps + 1)
        return terms, float(kl_sum)
    terms = elbo_terms(
        eps_theta,
        schedule,
        x0,
        clip_denoised=config.clip_denoised,
        generator=torch.Generator().manual_seed(int(draw.integers(2**63))),
        batch_size=config.batch_size,
        on_batch=bar.update,
    )
    return terms, float(terms.kl.sum())


def shuffled(seed: int, count: int) -> np.ndarray:
    """A random order of `count` held-out images, (count,) int64. Their own order is not random: the test split of
    MNIST begins with the neater writers."""
    return generator(seed, Purpose.EVALUATION, slot=1).permutation(count)
