"""Every random draw of training as a function of (seed, step, slot, purpose).

No generator has a state that would have to be saved, so a resumed run draws what an uninterrupted one would have drawn.
A slot is the position of a micro-batch in the global batch, so one process with two micro-batches draws the same as two
processes with one each.

The generator is Philox, whose output is a function of a key and a counter. The key is (seed, purpose), the upper half
of the counter is (step, slot), and the lower half counts the draws. (torch's CPU generator would keep only 32 bits of
the seed.)
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """What a draw is for. Stored runs depend on these numbers: add new ones, and never change one."""

    ORDER = 0
    TIMESTEPS = 1
    NOISE = 2
    FLIP = 3
    DROPOUT = 4
    WEIGHTS = 5
    VALIDATION = 6
    HELD_OUT = 7
    EVALUATION = 8
    QUALITY = 9
    LABELS = 10


def generator(seed: int, purpose: Purpose, step: int = 0, slot: int = 0) -> np.random.Generator:
    """The random stream of one seed, purpose, step and slot; it is independent of all others."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, step, slot]))


def torch_seed(seed: int, purpose: Purpose, step: int = 0, slot: int = 0) -> int:
    """An int in [0, 2**63) for torch.manual_seed, where torch itself draws (initial weights, dropout)."""
    return int(generator(seed, purpose, step, slot).integers(2**63))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    # permutation(num_images) would give the same order as int64, in twice the memory.
    return generator(seed, Purpose.ORDER, epoch).permutation(np.arange(num_images, dtype=np.uint32))


def image_indices(seed: int, num_images: int, start: int, count: int) -> np.ndarray:
    """The images at positions start ... start + count - 1 of the endless shuffled sequence.

    Each epoch has its own permutation; a batch may extend over the end of an epoch.

    Returns:
        (count,) int64 in [0, num_images).
    """
    positions = np.arange(start, start + count)
    epochs = positions // num_images
    parts = [_order(seed, int(e), num_images)[positions[epochs == e] - e * num_images] for e in np.unique(epochs)]
    return np.concatenate(parts).astype(np.int64)


def _strata(seed: int, step: int, global_batch: int) -> np.ndarray:
    """(global_batch,) numbers in [0, 1), one from each of `global_batch` equal parts, shuffled."""
    draw = generator(seed, Purpose.TIMESTEPS, step)
    return (draw.permutation(global_batch) + draw.random(global_batch)) / global_batch


def timesteps(seed: int, step: int, global_batch: int, num_train_timesteps: int) -> np.ndarray:
    """The timesteps of a global batch, stratified: one from each of `global_batch` equal parts of [0, T), shuffled.

    Each timestep is uniform on 0 ... T - 1, as Algorithm 1 requires, so the expectation of the loss is the same; its
    variance is smaller than with independent draws.

    Returns:
        (global_batch,) int64, 0-based.
    """
    u = _strata(seed, step, global_batch)
    return np.minimum((u * num_train_timesteps).astype(np.int64), num_train_timesteps - 1)


def timesteps_of_density(seed: int, step: int, global_batch: int, density: np.ndarray) -> np.ndarray:
    """The same for timesteps that are not drawn equally often: one from each of `global_batch` parts of equal
    probability.

    Args:
        density: (T,) the probability of each timestep.
    """
    edges = np.cumsum(density)
    at = np.searchsorted(edges, _strata(seed, step, global_batch) * edges[-1], side="right")
    return np.minimum(at, len(density) - 1).astype(np.int64)


def noise(seed: int, step: int, slot: int, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """eps from N(0, I) as float32: drawn by the GPU's own generator on a GPU, and by Philox everywhere else."""
    device = torch.device(device)
    if device.type == "cuda":
        on_device = torch.Generator(device).manual_seed(torch_seed(seed, Purpose.NOISE, step, slot))
        return torch.randn(shape, generator=on_device, device=device)
    drawn = generator(seed, Purpose.NOISE, step, slot).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(drawn).to(device)


def flips(seed: int, step: int, slot: int, count: int) -> np.ndarray:
    """(count,) bool: True for the images of a micro-batch that are mirrored."""
    return generator(seed, Purpose.FLIP, step, slot).random(count) < 0.5


def dropped_labels(seed: int, step: int, slot: int, count: int, share: float) -> np.ndarray:
    """(count,) bool: True for the images of a micro-batch that are trained without their label, a `share` of them."""
    return generator(seed, Purpose.LABELS, step, slot).random(count) < share
