"""What happens around the optimizer steps of a training: rows, validation, samples, saving, and when to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ddpm import plots
from ddpm.config import TrainConfig, preset
from ddpm.data import Images
from ddpm.engine import Engine
from ddpm.processes import agree, share
from ddpm.sampling import sample
from ddpm.training import trackers
from ddpm.training.batches import Batches
from ddpm.training.folder import RunFolder
from ddpm.training.learner import Learner
from ddpm.training.recipe import learning_rate
from ddpm.training.state import State, flatten
from ddpm.training.window import LossWindow
from ddpm.validation import Validation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What `train` yields after every optimizer step.

    step: optimizer steps done. rows: the rows just added to metrics.jsonl. stopped: why the training ends, or None.
    saved_step: in the main process, the step whose state was saved last.
    """

    step: int
    rows: tuple[dict[str, Any], ...] = ()
    stopped: str | None = None
    saved_step: int | None = None


class Recorder:
    """Does what is due after each optimizer step; the processes share the work.

    Args:
        network: the arguments of `build_unet`, for train_config.json.
        saved: the state that the run continues from, or None.
        should_stop: whether somebody asked this process to stop.
        deadline: when `max_train_minutes` are over, by the clock of time.monotonic().
    Raises:
        ValueError: the folder of the run cannot be used.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        learner: Learner,
        batches: Batches,
        images: Images,
        network: dict[str, Any],
        saved: State | None,
        should_stop: Callable[[], bool],
        deadline: float,
    ) -> None:
        self.config, self.accelerator, self.learner, self.batches = config, accelerator, learner, batches
        self.should_stop, self.deadline = should_stop, deadline
        self.image_shape = images.train.shape[1:]
        world = accelerator.num_processes
        self.validation = Validation(
            images.eval, learner.scheduler, config.num_validation_images, rank=accelerator.process_index, world=world
        )
        self.window = LossWindow(accelerator.gather, world, config.num_train_timesteps, saved and saved.part("window"))
        self.folder: RunFolder | None = None
        if accelerator.is_main_process:
            self.folder = RunFolder(config, accelerator, learner.scheduler, images, network, saved)
            _say_how_it_begins(config, learner, images, batches.global_size)
            trackers.start(accelerator, config)
        self._began, self._busy_s, self._timed_from = 0.0, 0.0, learner.step  # for images_per_second
        self._loss_was_high = False

    def start_clock(self) -> None:
        """Mark the beginning of an optimizer step: images_per_second counts the time from here to `record`."""
        self._began = time.monotonic()

    def record(self, losses: list[Tensor]) -> Progress:
        """Do what is due after an optimizer step. The state is saved last: once it exists, all before it is done.

        Args:
            losses: for each of this process's micro-batches, the (B,) losses of its images.
        Raises:
            NonFiniteError: a loss or a gradient is NaN or infinite.
        """
        config, done = self.config, self.learner.step
        if not self.learner.skipped_in_a_row:
            self.window.add(done - 1, self.batches.timesteps, losses, self.learner.grad_norm)
        stopped = self._why_stop(done)
        ends = stopped in ("finished", "time")
        rows = []
        on_cadence = done % config.logging_steps == 0
        # The last row may be off schedule; a resumed run discards it, so its losses are kept.
        means = self.window.means(clear=on_cadence) if on_cadence or ends else None  # waits for the device
        self._busy_s += time.monotonic() - self._began
        if means:
            rows.append(self._add(self._train_row(done, means)))
        if done % config.validation_steps == 0 or ends:
            rows.append(self._validate(done))
        if ends and self.folder:
            self.folder.save_strip(self.learner.best_weights())
        if done % config.checkpointing_steps == 0 or stopped:
            self._save(done)
        return Progress(done, tuple(rows), stopped, self.folder.saved_step if self.folder else None)

    def _why_stop(self, done: int) -> str | None:
        """Why training stops here: "finished", "time", "interrupted" or None, the same in all processes."""
        if done == self.config.max_train_steps:
            return "finished"
        wish = "interrupted" if self.should_stop() else "time" if time.monotonic() > self.deadline else None
        return agree(self.accelerator, wish, done)

    def _train_row(self, done: int, means: dict[str, Any]) -> dict[str, Any]:
        row = {"kind": "train", "step": done, "images": done * self.batches.global_size, **means}
        row |= {"lr": learning_rate(self.config, done - 1 - self.learner.skipped)}
        images = (done - self._timed_from) * self.batches.global_size
        row |= {"images_per_second": round(images / self._busy_s, 1)}
        self._busy_s, self._timed_from = 0.0, done
        warm = done > max(self.config.lr_warmup_steps, 200)
        if self.folder and warm and (row["loss"] or 0) > 0.9 and not self._loss_was_high:
            self._loss_was_high = True
            log.warning("The loss is %.2f after warm-up; predicting no noise at all gives 1.00", row["loss"])
        return row

    def _validate(self, done: int) -> dict[str, Any]:
        """A row with the held-out losses of raw and averaged weights, and a grid of samples."""
        device, best = self.accelerator.device, self.learner.best_weights()
        networks = (self.learner.raw_weights(), best)
        errors = torch.stack([self.validation.squared_error(network, device) for network in networks])
        total: Any = self.accelerator.reduce(errors.to(device, torch.float32), "sum")
        losses = (total / self.validation.count).tolist()
        row = {"kind": "validation", "step": done, "images": done * self.batches.global_size}
        row |= {"val_loss": losses[0], "val_loss_ema": losses[1]}
        tiles = gather_object([self._sample_tiles(best)])
        self._add(row)
        if self.folder:
            grid = plots.grid(plots.to_pixels(torch.cat(tiles)), round(self.config.num_samples**0.5))
            self.folder.save_samples(done, grid)
            trackers.log_samples(self.accelerator, grid, done)
        return row

    def _sample_tiles(self, unet) -> Tensor:
        """This process's images of the sample grid, (n, C, H, W), always from the same noise."""
        part = share(self.config.num_samples, self.accelerator.process_index, self.accelerator.num_processes)
        if not part:
            return torch.empty(0, *self.image_shape)
        device, scheduler = self.accelerator.device, self.learner.scheduler
        options = {"num_inference_steps": self.config.sample_steps, "first_image": part.start, "device": device}
        shape = (len(part), *self.image_shape)
        return sample(Engine(unet, scheduler, device), scheduler, shape, **options).cpu()

    def _add(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.folder:
            self.folder.add(row)
            trackers.log_row(self.accelerator, row)
        return row

    def _save(self, done: int) -> None:
        self.window.fold()  # in every process; it raises if a loss is not finite, so such a state is never saved
        if self.folder:
            tensors = self.learner.tensors() | flatten("window", self.window.tensors())
            meta = self.learner.meta() | {"slots": self.batches.slots, "device": self.accelerator.device.type}
            self.folder.save(done, tensors, meta, self.learner.best_weights())


def _say_how_it_begins(config: TrainConfig, learner: Learner, images: Images, global_batch: int) -> None:
    """Log the data and the first step, and warn about settings that are probably a mistake."""
    images.say(log)
    size = f"{images.resolution}x{images.resolution}x{images.channels}"
    log.info("%d training and %d held-out images, %s", len(images.train), len(images.eval), size)
    if learner.step:
        log.info("Resuming at step %d of %d", learner.step, config.max_train_steps)
    alpha_bar_T = float(learner.scheduler.alphas_cumprod[-1])
    if alpha_bar_T > 1e-3:
        log.warning(
            "alpha_bar_T is %.2g: x_T keeps %.0f %% of the image, but sampling starts from pure noise",
            alpha_bar_T,
            100 * math.sqrt(alpha_bar_T),
        )
    usual = preset(config.preset)
    expected = usual.learning_rate * (global_batch / usual.train_batch_size) ** 0.5
    if not expected / 5 <= config.learning_rate <= expected * 5:
        log.warning(
            "--learning_rate %g is far from %.2g, the preset's rate scaled to %d images per step (square-root rule)",
            config.learning_rate,
            expected,
            global_batch,
        )
