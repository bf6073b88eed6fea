"""Whether a network begins to memorise: the gap between its losses on training images and on held-out ones.

Both losses are those of the averaged weights on as many images, with the same timesteps and the same noise, and without
dropout and labels. So a network that knows its training images no better than others has the same loss on both, but
for the difference between the images.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ddpm.data import Images
from ddpm.data.groups import hold_out
from ddpm.draws import Purpose, generator
from ddpm.metrics import GAP
from ddpm.names import counted
from ddpm.validation import Validation

FEWEST_GROUPS = 10  # of images that belong together, on each side: fewer do not tell how much losses differ by chance
ESTIMATED = 20  # timesteps per image, which are enough for the bound where the question is about samples


def few_images(count: int, directory: Path, num_timesteps: int) -> str:
    """What to say about a training with fewer than FEW_IMAGES images.

    Args:
        directory: of the run.
        num_timesteps: T, over all of which the bound takes longer than the samples that the command is for.
    """
    command = f"python -m ddpm.evaluate {shlex.quote(str(directory))} --num_samples 16 --feature_network none"
    command += f" --timesteps {ESTIMATED}" if num_timesteps > ESTIMATED else ""
    number = f"{counted(count, 'training image')} {'is' if count == 1 else 'are'} few"
    return (
        f"{number}, so the network is likely to copy them. After the training, `{command}` shows samples beside their "
        "nearest training images in report-neighbours.png"
    )


def on_training_images(images: Images, held_out: Validation, scheduler, *, rank: int = 0, world: int = 1) -> Validation:
    """Triples like those of the validation, with training images instead of the held-out ones.

    They are drawn like the held-out images: where these are whole groups, the others are, too.

    Args:
        held_out: the validation on `images.eval`.
        rank, world: as in `Validation`.
    """
    number, count = len(images.eval), len(images.train)
    if images.train_groups is not None:
        chosen = np.flatnonzero(hold_out(images.train_groups, number))
    else:
        draw = generator(0, Purpose.VALIDATION, slot=2)
        chosen = np.sort(draw.choice(count, min(number, count), replace=False))
    # As many as there are held-out images, so that timesteps and noise are the same.
    chosen = np.resize(chosen, number)
    groups = images.train_groups
    return Validation(images.train, scheduler, held_out.count, chosen=chosen, groups=groups, rank=rank, world=world)


def gap_error(held_out: Tensor, training: Tensor, groups: tuple[np.ndarray, np.ndarray]) -> float | None:
    """The standard error of the mean difference between the losses of two validations.

    The differences are taken in pairs of equal timestep and noise. Pairs that share a group of images, on either side,
    are not independent, so the error is clustered on both sides (Cameron, Gelbach & Miller 2011, Eq. 2.9).

    Args:
        held_out, training: (n,) errors, in pairs.
        groups: of both, (n,) each.
    Returns:
        None if one side has fewer than FEWEST_GROUPS: of a single held-out image, for example, the residuals add up to
        0, and any difference would look certain.
    """
    if min(len(np.unique(group)) for group in groups) < FEWEST_GROUPS:
        return None
    difference = (held_out - training).double().numpy()
    rest = difference - difference.mean()
    both = np.unique(np.stack(groups), axis=1, return_inverse=True)[1].reshape(-1)
    of_held_out, of_training, of_both = (_clustered(rest, group) for group in (*groups, both))
    return max(of_held_out + of_training - of_both, of_held_out, of_training) ** 0.5 / len(rest)


def warning(row: dict[str, Any]) -> str:
    """What to say about the first row of validation of which `ddpm.metrics.memorises` is true."""
    return (
        f"Step {row['step']}: the network begins to memorise. Its loss is {row['train_loss_ema']:.4f} on training "
        f"images and {row['val_loss_ema']:.4f} on held-out ones, a difference of more than {GAP:g} standard errors. "
        "More images, a smaller network, or dropout delay that"
    )


def _clustered(rest: np.ndarray, group: np.ndarray) -> float:
    """The sum of the squared sums of each group."""
    _, place = np.unique(group, return_inverse=True)
    return float(np.square(np.bincount(place.reshape(-1), weights=rest)).sum())
