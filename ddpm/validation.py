"""val_loss and val_bits: the epsilon-MSE and the bound on held-out images, with frozen images, timesteps and noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm.class_names import NO_LABEL
from ddpm.classes import Classes
from ddpm.data import to_float
from ddpm.data.groups import by_itself
from ddpm.draws import Purpose, generator
from ddpm.elbo import estimate_density, estimate_timesteps, prior_bits, terms_at
from ddpm.engine import Engine
from ddpm.schedule import NoiseSchedule


class Validation:
    """A fixed set of triples (x_0, t, eps) on which networks are compared.

    It depends on the dataset only, and not on the seed of the run. So values can be compared between the steps of a run
    and between the runs of one dataset.

    Args:
        images: (N, C, H, W) uint8, the held-out images; they repeat in shuffled order until there are `count` triples.
        scheduler: the DDPMScheduler of training.
        count: number of triples, over all processes.
        classes: (N,) int64, the class of each image, -1 for an image without a label; None: no image has one.
        chosen: (M,) int64, which of the images; they may repeat. None: all, once.
        groups: (N,) int64, which images belong together, -1 for an image that belongs to none; None: none do.
        batch_size: triples per call of the network.
        rank, world: the number of this process and of all processes; it computes every `world`-th batch.
    Attributes:
        labelled: whether one of the images has a class.
        group: (count,) int64, the group of each triple's image; an image that belongs to none is a group by itself.
    """

    def __init__(
        self,
        images: np.ndarray,
        scheduler,
        count: int,
        *,
        classes: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        batch_size: int = 128,
        rank: int = 0,
        world: int = 1,
    ):
        draw = generator(0, Purpose.VALIDATION)  # seed 0 whatever the seed of the run
        chosen = np.arange(len(images)) if chosen is None else chosen
        order = chosen[_in_turn(draw, len(chosen), count)]
        strata = (draw.permutation(count) + draw.random(count)) / count
        t = (strata * scheduler.config.num_train_timesteps).astype(np.int64)
        eps = draw.standard_normal((count, *images.shape[1:]), dtype=np.float32)
        self.count = count
        self.scheduler = scheduler
        self.group = by_itself(np.full(len(images), -1) if groups is None else groups)[order]
        classes = np.full(len(images), NO_LABEL) if classes is None else classes
        self.labelled = bool((classes != NO_LABEL).any())
        self._starts = range(0, count, batch_size)[rank::world]
        self.batches = [
            (
                images[order[i : i + batch_size]],
                torch.from_numpy(t[i : i + batch_size]),
                torch.from_numpy(eps[i : i + batch_size]),
                torch.from_numpy(classes[order[i : i + batch_size]]),
            )
            for i in self._starts
        ]

    def squared_error(self, unet, device: torch.device | str = "cpu", classes: Classes | None = None) -> Tensor:
        """The squared error |eps - eps_theta|^2, averaged over dimensions and summed over this process's triples.

        val_loss is this sum over all processes, divided by `count`.

        Args:
            unet, classes: as in `squared_errors`.
        Returns:
            () float64 on the CPU.
        """
        return self.squared_errors(unet, device, classes).sum()

    @torch.no_grad()
    def squared_errors(self, unet, device: torch.device | str = "cpu", classes: Classes | None = None) -> Tensor:
        """The squared error |eps - eps_theta|^2 of each triple, averaged over dimensions; 0 for the triples of other
        processes, so that the sum over all processes has all of them.

        The network computes in eval mode and float32.

        Args:
            unet: a UNet2DModel on `device` that takes no labels.
            classes: its classes, if it is to be told the labels of the images.
        Returns:
            (count,) float64 on the CPU.
        """
        eps_theta = Engine(unet, self.scheduler, device, classes=classes)
        found = torch.zeros(self.count, dtype=torch.float64)
        was_training = unet.training
        unet.eval()
        for start, (pixels, t, eps, labels) in zip(self._starts, self.batches, strict=True):
            x0, t, eps = to_float(pixels, device), t.to(device), eps.to(device)
            xt = eps_theta.schedule.q_sample(x0, eps, t)
            errors = (eps_theta(xt, t, labels if classes else None) - eps).square().mean(dim=(1, 2, 3))
            found[start : start + len(errors)] = errors.cpu().double()  # on the CPU: some devices have no float64
        unet.train(was_training)
        return found


class BoundValidation:
    """Fixed terms of the bound, from which it is estimated without bias: L_0 and L_T of some held-out images, and of
    others one KL term each.

    The timesteps of the KL terms are those of `ddpm.elbo.elbo_estimate`, and each term is divided by their probability.
    As in `Validation`, nothing depends on the seed of the run.

    Args:
        images, batch_size, rank, world: as in `Validation`.
        schedule: of the training, with its variance.
        count: calls of the network per image, over all processes; half of them for L_0.
    """

    def __init__(
        self,
        images: np.ndarray,
        schedule: NoiseSchedule,
        count: int,
        *,
        batch_size: int = 128,
        rank: int = 0,
        world: int = 1,
    ):
        draw, half = generator(0, Purpose.VALIDATION, slot=1), max(1, count // 2)
        order = _in_turn(draw, len(images), 2 * half)
        density = estimate_density(schedule.num_steps)
        later = draw.permutation(estimate_timesteps(density, half, draw))
        t = np.concatenate([np.zeros(half, np.int64), later])
        weight = np.concatenate([np.ones(half), 1 / density[later - 1]]) / half
        eps = draw.standard_normal((2 * half, *images.shape[1:]), dtype=np.float32)
        self.schedule = schedule
        self.batches = [
            (images[order[part]], *(torch.from_numpy(values[part]) for values in (t, eps, weight)))
            for part in (slice(i, i + batch_size) for i in range(0, 2 * half, batch_size)[rank::world])
        ]

    @torch.no_grad()
    def bits(self, unet, scheduler, device: torch.device | str = "cpu") -> Tensor:
        """This process's part of val_bits, the estimate of the bound in bits per dimension; the sum over all processes
        is the whole.

        Args:
            unet: a UNet2DModel on `device` that takes no labels, in eval mode.
            scheduler: the DDPMScheduler of training.
        Returns:
            () float64 on the CPU.
        """
        eps_theta, total = Engine(unet, scheduler, device), torch.zeros((), dtype=torch.float64)
        place = torch.device("cpu") if torch.device(device).type == "mps" else device  # an Apple GPU has no float64
        for pixels, t, eps, weight in self.batches:
            x0 = to_float(pixels)
            bits, _ = terms_at(eps_theta, self.schedule, x0.to(place), eps.to(place), t.to(place))
            bits = bits.cpu() + torch.where(t == 0, prior_bits(self.schedule, x0), 0.0)
            total += (weight * bits).sum()
        return total


def _in_turn(draw: np.random.Generator, images: int, count: int) -> np.ndarray:
    """(count,) numbers of images, in a random order; none comes again before all others have come."""
    return np.concatenate([draw.permutation(images) for _ in range(-(-count // images))])[:count]
