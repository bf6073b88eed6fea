"""The batches of Algorithm 1, lines 2 to 4: x_0, t, eps and label of every micro-batch as a function of the step.

A slot is the position of a micro-batch in the batch of an optimizer step, over all processes: micro-batch number times
the number of processes, plus the rank. What is drawn depends on the slot alone, so one process with two micro-batches
draws what two processes draw.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ddpm import data, draws
from ddpm.config import TrainConfig
from ddpm.draws import Purpose
from ddpm.processes import check_alike, in_every
from ddpm.training.labelling import Labelling
from ddpm.training.recipe import data_options
from ddpm.training.timesteps import Timesteps


def prepared(config: TrainConfig, accelerator: Accelerator) -> data.Images:
    """The images of a training, which every machine prepares for itself.

    Raises:
        ValueError: in every process: one of them cannot prepare them, or has others.
    """

    def work() -> tuple[data.Images, str | None]:
        images = data.prepare(data_options(config), accelerator.is_main_process, output_dir=config.directory)
        return images, Labelling(config, images).fingerprint if config.class_conditional else None

    images, labels = in_every(accelerator, work)
    check_alike(accelerator, {"the images of the dataset": images.fingerprint, "the labels of the dataset": labels})
    return images


class Batches:
    """The micro-batches of this process.

    Attributes:
        slots: micro-batches of an optimizer step, over all processes.
        global_size: images of an optimizer step.
        sampler: draws the timesteps.
        timesteps, weights: (global_size,) int64 t and float64 1 / (T p_t) of the step that `of` was last called with,
            in the order of slots.
        labelling: which labels the images are shown with; None for a network that takes none.
    Raises:
        ValueError: there are fewer training images than an optimizer step takes, or labels are wanted and missing.
    """

    def __init__(self, config: TrainConfig, images: data.Images, accelerator: Accelerator) -> None:
        self.config, self.device = config, accelerator.device
        self.rank, self.num_processes = accelerator.process_index, accelerator.num_processes
        self.size = config.train_batch_size
        self.slots = config.gradient_accumulation_steps * self.num_processes
        self.global_size = self.size * self.slots
        self.num_images = len(images.train)
        if self.num_images < self.global_size:
            raise ValueError(
                f"{self.num_images} training image{'s are' if self.num_images != 1 else ' is'} too few for a step of "
                f"{self._size_in_words()}: {self._smaller()}"
            )
        self.labelling = Labelling(config, images) if config.class_conditional else None
        self.pixels = data.resident(images.train, self.device)
        self.sampler = Timesteps(config, self.global_size, accelerator.gather, self.num_processes)
        self.timesteps, self.weights = np.empty(0, np.int64), np.empty(0)

    def _size_in_words(self) -> str:
        """The images of a step, such as "2048 (64 images x 4 micro-batches x 8 processes)"."""
        factors = [(self.config.gradient_accumulation_steps, "micro-batches"), (self.num_processes, "processes")]
        words = "".join(f" x {number} {name}" for number, name in factors if number > 1)
        return (
            f"{self.global_size} ({self.size} image{'s' * (self.size != 1)}{words})" if words else str(self.global_size)
        )

    def _smaller(self) -> str:
        """What to pass for a step that takes at most all images."""
        at_once = self.size * self.num_processes
        if at_once <= self.num_images:  # so the accumulation is the cause
            return f"pass --gradient_accumulation_steps {self.num_images // at_once} or less"
        if self.slots <= self.num_images:
            return f"pass --train_batch_size {self.num_images // self.slots} or less"
        if self.num_processes <= self.num_images:
            size = self.num_images // self.num_processes
            return f"pass --gradient_accumulation_steps 1 and --train_batch_size {size} or less"
        return f"start at most {self.num_images} process{'es' * (self.num_images != 1)}"

    @property
    def labels_fingerprint(self) -> str | None:
        """A digest of the labels that are learned; None for a network that takes none."""
        return self.labelling.fingerprint if self.labelling else None

    def of(self, step: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...]]]:
        """The micro-batches of an optimizer step (0-based), one after another.

        Yields:
            x_0 (B, C, H, W) float32 in [-1, 1], t (B,) int64, 0-based, eps (B, C, H, W) from N(0, I), the weights of
            the images (B,) float32, and what else the network takes: nothing, or labels (B,) int64 in 0 ... K, where K
            is "no label".
        """
        config = self.config
        self.timesteps, self.weights = self.sampler.of(step)
        for micro_batch in range(config.gradient_accumulation_steps):
            slot = micro_batch * self.num_processes + self.rank
            index = self._index(step, slot)
            x0 = self._images(index, step, slot)
            part = slice(slot * self.size, (slot + 1) * self.size)
            t, weight = torch.from_numpy(self.timesteps[part]), torch.from_numpy(self.weights[part]).float()
            eps = draws.noise(config.seed, step, slot, x0.shape, self.device)
            if config.dropout:  # torch draws the dropout masks while the network computes
                torch.manual_seed(draws.torch_seed(config.seed, Purpose.DROPOUT, step, slot))
            labels = (torch.from_numpy(self.labelling.of(index, step, slot)),) if self.labelling else ()
            labels = tuple(label.to(self.device, non_blocking=True) for label in labels)
            t, weight = (x.to(self.device, non_blocking=True) for x in (t, weight))  # waiting would slow every step
            yield x0, t, eps, weight, labels

    def _index(self, step: int, slot: int) -> np.ndarray:
        """Which images a slot takes, (B,) int64."""
        first = step * self.global_size + slot * self.size
        return draws.image_indices(self.config.seed, self.num_images, first, self.size)

    def _images(self, index: np.ndarray, step: int, slot: int) -> Tensor:
        """x_0 of the images at `index`. With `random_flip`, about half of them are mirrored."""
        x0 = data.to_float(data.take(self.pixels, index), self.device)
        if not self.config.random_flip:
            return x0
        flip = torch.from_numpy(draws.flips(self.config.seed, step, slot, self.size))
        return torch.where(flip.to(self.device, non_blocking=True)[:, None, None, None], x0.flip(-1), x0)
