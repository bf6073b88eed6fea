"""What happens around the optimizer steps of a training: rows, validation, samples, saving, and when to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ddpm.classes import Weights
from ddpm.config import TrainConfig, preset
from ddpm.data import Images
from ddpm.metrics import FEW_IMAGES, memorises
from ddpm.names import counted, grid_steps
from ddpm.processes import agree, on_main
from ddpm.training import memorising, trackers
from ddpm.training.batches import Batches
from ddpm.training.folder import RunFolder, Saved
from ddpm.training.grids import Grids, draw_last
from ddpm.training.learner import Learner
from ddpm.training.moments import grid_moments, warn_about
from ddpm.training.recipe import learned_variance, learning_rate, make_schedule
from ddpm.training.state import State, flatten
from ddpm.training.window import LossWindow
from ddpm.validation import BoundValidation, Validation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What `train` yields after every optimizer step.

    step: optimizer steps done. rows: the rows just added to metrics.jsonl. stopped: why the training ends, or None.
    saved: in the main process, what the run has on the disk. epoch: how often all training images have been seen.
    """

    step: int
    rows: tuple[dict[str, Any], ...] = ()
    stopped: str | None = None
    saved: Saved = Saved()
    epoch: float = 0.0


def finished_before(
    config: TrainConfig,
    accelerator: Accelerator,
    folder: RunFolder,
    learner: Learner,
    saved: State,
    images: Images,
    should_stop: Callable[[], bool],
) -> Progress:
    """What `train` yields if nothing is left to train. A model that could not be saved before is saved now, and last
    pictures that are missing are drawn."""
    complete = partial(folder.complete, learner.step, saved.meta.get("exported", True))
    done = []
    if on_main(accelerator, lambda: complete(learner.best_weights(), learner.scheduler)):
        done.append("the model is saved now")
    if draw_last(config, accelerator, folder, learner, images, should_stop):
        done.append("its last pictures are drawn now")
    return Progress(
        learner.step, stopped=f"finished before, {' and '.join(done) or 'nothing changed'}", saved=folder.saved
    )


class Recorder:
    """Does what is due after each optimizer step; the processes share the work.

    Args:
        folder: of the run, checked already.
        network: the arguments of `build_unet`, for train_config.json.
        saved: the state that the run continues from, or None.
        should_stop: whether somebody asked this process to stop.
        deadline: when `max_train_minutes` are over, by the clock of time.monotonic().
    Raises:
        ValueError: another process trains in the folder, or nothing can be written there.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        folder: RunFolder,
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
        world = accelerator.num_processes
        self.validation = Validation(
            images.eval,
            learner.scheduler,
            config.num_validation_images,
            classes=images.class_of(images.eval_labels, len(images.eval)),
            groups=images.eval_groups,
            rank=accelerator.process_index,
            world=world,
        )
        # People who train for the bound want to see it fall.
        wanted = config.beta_schedule == "log_snr" or config.loss_weighting == "vlb" or learned_variance(config)
        calls, place = config.num_validation_images, {"rank": accelerator.process_index, "world": world}
        schedule = make_schedule(learner.scheduler)
        self.bound = BoundValidation(images.eval, schedule, calls, **place) if wanted else None
        self.learnt = memorising.on_training_images(
            images, self.validation, learner.scheduler, rank=accelerator.process_index, world=world
        )
        self.grids = Grids(config, accelerator, learner.scheduler, images, should_stop)
        self.window = LossWindow(accelerator.gather, world, config.num_train_timesteps, saved and saved.part("window"))
        self.folder = folder if accelerator.is_main_process else None
        begin = partial(folder.begin, accelerator, learner.scheduler, images, network, saved)
        on_main(accelerator, begin)
        if self.folder:
            _say_how_it_begins(config, learner, images, batches)
            trackers.start(accelerator, config)
        self._began, self._busy_s, self._timed_from = 0.0, 0.0, learner.step  # for images_per_second
        self._loss_was_high = False
        self.moments = grid_moments(config, batches.num_images, batches.global_size)
        if self.folder:
            warn_about(self.moments, learner.step, config.max_train_steps)
        if learner.step and (learner.step % config.validation_steps == 0 or learner.step in self.moments):
            lacks = partial(RunFolder.lacks_samples, folder, learner.step)
            if on_main(accelerator, lacks):  # the run was asked to stop while it drew them
                self._draw_samples(learner.step, learner.best_weights())

    def start_clock(self) -> None:
        """Mark the beginning of an optimizer step: images_per_second counts the time from here to `record`."""
        self._began = time.monotonic()

    def record(self, losses: list[Tensor]) -> Progress:
        """Do what is due after an optimizer step. The state is saved last: once it exists, all before it is done.

        Args:
            losses: for each of this process's micro-batches, the (B,) squared errors of its images.
        Raises:
            NonFiniteError: a loss or a gradient is NaN or infinite.
        """
        config, done = self.config, self.learner.step
        if not self.learner.skipped_in_a_row:
            batches = self.batches
            self.window.add(done - 1, batches.timesteps, batches.weights, losses, self.learner.grad_norm)
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
            stopped = stopped or self._interrupted(done)  # by a signal during the validation
        elif done in self.moments:
            self._draw_samples(done, self.learner.best_weights())
            stopped = stopped or self._interrupted(done)
        if ends and self.folder:
            self.folder.save_strip(self.learner.best_weights(), done, self.should_stop)
        if done % config.checkpointing_steps == 0 or stopped:
            self._save(done)
        saved = self.folder.saved if self.folder else Saved()
        return Progress(done, tuple(rows), stopped, saved, self._seen(done)["epoch"])

    def _seen(self, done: int) -> dict[str, Any]:
        """The images and the epochs that a row names."""
        images = done * self.batches.global_size
        return {"images": images, "epoch": images / self.batches.num_images}

    def _why_stop(self, done: int) -> str | None:
        """Why training stops here: "finished", "time", "interrupted" or None, the same in all processes."""
        if done == self.config.max_train_steps:
            return "finished"
        wish = "interrupted" if self.should_stop() else "time" if time.monotonic() > self.deadline else None
        return agree(self.accelerator, wish, done)

    def _interrupted(self, done: int) -> str | None:
        """ "interrupted" in all processes if somebody asked one of them to stop, otherwise None."""
        return agree(self.accelerator, "interrupted" if self.should_stop() else None, done)

    def _train_row(self, done: int, means: dict[str, Any]) -> dict[str, Any]:
        row = {"kind": "train", "step": done, **self._seen(done), **means}
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
        """A row with the held-out losses of raw and averaged weights, with the loss of the averaged ones on training
        images, and a grid of samples.

        The losses of a class-conditional network are those without labels, and those with the labels of the images. The
        bound is that of the averaged weights, without labels.
        """
        device, best = self.accelerator.device, self.learner.best_weights()
        raw = self.learner.raw_weights()
        asked = [("val_loss", raw.unet, None), ("val_loss_ema", best.unet, None)]
        if best.classes and self.validation.labelled:
            asked += [("val_loss_with_labels", *raw), ("val_loss_ema_with_labels", *best)]
        errors = {name: self.validation.squared_errors(unet, device, known) for name, unet, known in asked}
        errors["train_loss_ema"] = self.learnt.squared_errors(best.unet, device)
        whole: Any = self.accelerator.reduce(torch.stack([*errors.values()]).to(device, torch.float32), "sum")
        errors = dict(zip(errors, whole.cpu().double(), strict=True))
        row = {"kind": "validation", "step": done, **self._seen(done)}
        row |= {name: float(found.mean()) for name, found in errors.items()}
        if self.bound:
            own = self.bound.bits(best.unet, self.learner.scheduler, device).to(device, torch.float32)
            bits: Any = self.accelerator.reduce(own, "sum")
            row["val_bits"] = float(bits)
        pair = errors["val_loss_ema"], errors["train_loss_ema"]
        error = memorising.gap_error(*pair, (self.validation.group, self.learnt.group))
        row |= {} if error is None else {"loss_gap_se": error}
        if self.folder and memorises(row) and not any(map(memorises, self.folder.metrics.rows)):
            log.warning("%s", memorising.warning(row))
        self._add(row)
        self._draw_samples(done, best)
        return row

    def _draw_samples(self, done: int, weights: Weights) -> None:
        """Draw the sample grid, unless somebody asks to stop; then a resumed run draws it."""
        grid = self.grids.draw(done, weights)
        if self.folder:
            if (steps := grid_steps(self.config.sample_steps, done)) < self.config.sample_steps:
                few = counted(steps, "sampling step")
                log.info("The sample grid is drawn in %s, because training has done no more steps", few)
            self.folder.save_samples(done, grid)
            if grid:
                trackers.log_samples(self.accelerator, grid, done)

    def _add(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.folder:
            self.folder.add(row)
            trackers.log_row(self.accelerator, row)
        return row

    def _save(self, done: int) -> None:
        self.window.fold()  # in every process; it raises if a loss is not finite, so such a state is never saved
        if self.folder:
            tensors = self.learner.tensors() | flatten("window", self.window.tensors())
            tensors |= flatten("timesteps", self.batches.sampler.tensors())
            meta = self.learner.meta() | {"slots": self.batches.slots, "device": self.accelerator.device.type}
            meta |= {"labels": self.batches.labels_fingerprint}
            self.folder.save(done, tensors, meta, self.learner.best_weights())


def _say_how_it_begins(config: TrainConfig, learner: Learner, images: Images, batches: Batches) -> None:
    """Log the data and the first step, and warn about settings that are probably a mistake."""
    global_batch = batches.global_size
    images.say(log)
    size = f"{'x'.join(map(str, images.size))}x{images.channels}"
    log.info("%d training and %d held-out images, %s", len(images.train), len(images.eval), size)
    if len(images.train) < FEW_IMAGES:
        few = memorising.few_images(len(images.train), config.directory, config.num_train_timesteps)
        log.warning("%s", few)
    if batches.labelling:
        batches.labelling.say()
    if learner.step:
        log.info("Resuming at step %d of %d", learner.step, config.max_train_steps)
    alpha_bar_T = float(learner.scheduler.alphas_cumprod[-1])
    if alpha_bar_T > 3e-3:  # a log SNR of -6 is 0.0025, and costs 0.002 bits per dimension (L_T)
        log.warning(
            "alpha_bar_T is %.2g: x_T keeps %.0f %% of the image, but sampling starts from pure noise",
            alpha_bar_T,
            100 * math.sqrt(alpha_bar_T),
        )
    usual = preset(config.preset)
    expected = usual.learning_rate * (global_batch / usual.train_batch_size) ** 0.5
    if not expected / 5 <= config.learning_rate <= expected * 5:
        log.warning(
            "--learning_rate %g is far from %.2g, the preset's rate scaled to %s per step (square-root rule)",
            config.learning_rate,
            expected,
            counted(global_batch, "image"),
        )
