"""The pictures of a training: grids of samples, always from the same noise, and the last pictures of a finished run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ddpm import plots, tiles
from ddpm.classes import Weights
from ddpm.config import TrainConfig
from ddpm.data import Images
from ddpm.engine import Counted, Engine
from ddpm.names import grid_steps
from ddpm.processes import on_main, share
from ddpm.sampling import sample
from ddpm.training.folder import RunFolder
from ddpm.training.learner import Learner
from ddpm.training.sheet import Sheet


class Grids:
    """Grids of samples, whose images the processes share.

    Args:
        scheduler: of the training.
        should_stop: whether somebody asked this process to stop.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        scheduler: Any,
        images: Images,
        should_stop: Callable[[], bool],
    ) -> None:
        self.config, self.accelerator, self.scheduler, self.should_stop = config, accelerator, scheduler, should_stop
        self.image_shape = images.train.shape[1:]
        self.sheet = Sheet.of(config.num_samples, len(images.classes) if config.class_conditional else 0)

    def draw(self, trained: int, weights: Weights) -> Image.Image | None:
        """The grid after so many optimizer steps, in every process; None if somebody asked to stop before it was
        finished."""
        parts = gather_object([self._own_part(weights, grid_steps(self.config.sample_steps, trained))])
        if any(part is None for part in parts):
            return None
        return tiles.grid(plots.to_pixels(torch.cat(parts)), self.sheet.columns)

    def _own_part(self, weights: Weights, steps: int) -> Tensor | None:
        """This process's images of the grid, (n, C, H, W); None if somebody asked to stop before they were finished."""
        part = share(len(self.sheet.labels), self.accelerator.process_index, self.accelerator.num_processes)
        if not part:
            return torch.empty(0, *self.image_shape)
        device, scheduler = self.accelerator.device, self.scheduler
        options: dict[str, Any] = {"num_inference_steps": steps, "first_image": part.start, "device": device}
        if weights.classes:
            options["labels"] = torch.tensor(self.sheet.labels[part.start : part.stop])
        shape = (len(part), *self.image_shape)
        # Shown where people look, and only if they would have to wait.
        hidden = None if self.accelerator.is_main_process else True
        with tqdm(desc="sample grid", total=len(part) * steps, leave=False, delay=2, disable=hidden) as bar:
            eps_theta = Counted(Engine(weights.unet, scheduler, device, classes=weights.classes), bar)
            with contextlib.suppress(InterruptedError):
                return sample(eps_theta, scheduler, shape, cancelled=self.should_stop, **options).cpu()
        return None


def draw_last(
    config: TrainConfig,
    accelerator: Accelerator,
    folder: RunFolder,
    learner: Learner,
    images: Images,
    should_stop: Callable[[], bool],
) -> bool:
    """Draw the last pictures of a finished run that are missing, because it was asked to stop meanwhile or could not
    save them, and nothing else; returns whether some were missing and all are there now.

    Raises:
        ValueError: another process trains in the folder, or it cannot be written.
    """
    step, weights = learner.step, learner.best_weights()
    lacking: Callable[[], list[str]] = partial(on_main, accelerator, partial(folder.lacking_pictures, step))
    if not (names := lacking()):
        return False
    on_main(accelerator, partial(folder.reopen, accelerator, learner.scheduler, images))
    if names != ["strip.png"]:
        grid = Grids(config, accelerator, learner.scheduler, images, should_stop).draw(step, weights)
        on_main(accelerator, partial(folder.save_samples, step, grid))
    if "strip.png" in names:
        on_main(accelerator, partial(folder.save_strip, weights, step, should_stop))
    on_main(accelerator, folder.write_card)
    return not lacking()
