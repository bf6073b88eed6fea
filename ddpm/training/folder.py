"""The folder of a training run: settings, metrics, pictures, the model with its card, and the training states."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ddpm import checkpoint, plots
from ddpm.classes import Weights
from ddpm.config import TrainConfig, preset
from ddpm.data import Images
from ddpm.engine import Engine
from ddpm.errors import first_line
from ddpm.files import claim, write_text
from ddpm.hub import card
from ddpm.hub.snapshot import remove_abandoned
from ddpm.metrics import MetricsLog, read_metrics
from ddpm.names import size_name
from ddpm.presets import reference_val_loss
from ddpm.sampling import reverse_process
from ddpm.training import state
from ddpm.training.recipe import make_schedule
from ddpm.training.state import State

log = logging.getLogger(__name__)

PACKAGES = ("torch", "diffusers", "accelerate", "datasets", "numpy")
STOPPED = "somebody asked the training to stop"
BEGUN = ".begun"  # lies in checkpoints/ until a run has tried to save its first state: until then it may start again


@dataclass(frozen=True)
class Saved:
    """What a run has on the disk.

    model_step, state_step: the steps of the model and of the training state that were saved last, or None.
    missing: what could not be written, or only in an earlier version, and why.
    """

    model_step: int | None = None
    state_step: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


class RunFolder:
    """Writes everything that a run leaves behind. Only the main process uses it, and only one run at a time.

    `check` comes first, before anything takes time; `begin` comes before the first step. A file that cannot be written
    costs that file alone: the run goes on, a warning says so, and `saved` tells at the end what is on the disk.

    Attributes:
        saved: what the run has on the disk.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.path, self.states = config, config.directory, config.directory / "checkpoints"
        self.saved = Saved()
        self._lock: Any = None
        self._rows: list[dict[str, Any]] | None = None  # of a run that has finished

    def check(self) -> None:
        """Refuse a folder that this run must not write to, without changing anything.

        Raises:
            ValueError: the folder holds other files, or a model that nothing continues, or cannot be written.
        """
        place = next(p for p in (self.path.absolute(), *self.path.absolute().parents) if p.exists())
        if not place.is_dir():
            raise ValueError(f"--output_dir {self.path}: {place} is a file, not a folder")
        if not os.access(place, os.W_OK):
            raise ValueError(f"--output_dir {self.path}: {place} cannot be written to")
        self._found = state.folders(self.states)
        afresh = self.config.resume_from_checkpoint == "none"
        if not self.path.is_dir() or (self._found and not afresh):
            return
        ours, model = (self.path / "train_config.json").exists(), _trace_of_model(self.path)
        if model and not afresh and not (ours and (self.states / BEGUN).exists()):
            raise ValueError(
                f"--output_dir {self.path} holds a model ({model}), but no training state to continue from; give "
                f"--init_from {self.path} and another --output_dir to train that model on, or "
                "--resume_from_checkpoint none to start afresh there and replace it"
            )
        others = sorted(p.name for p in self.path.iterdir() if p != self.states and not p.name.startswith(".tmp-"))
        if others and not ours and not model:
            raise ValueError(
                f"--output_dir {self.path} holds other files ({', '.join(others[:3])}); "
                "give a new folder, or the folder of an earlier run"
            )

    def begin(
        self, accelerator: Accelerator, scheduler: Any, images: Images, network: dict[str, Any], resumed: State | None
    ) -> None:
        """Lock the folder, and prepare it for the first step.

        Args:
            network: the arguments of `build_unet`, for train_config.json.
            resumed: the state that the run continues from, or None for a fresh start. Later states and samples are
                removed.
        Raises:
            ValueError: another process trains there, or nothing can be written.
        """
        self.scheduler, self.images, self.device = scheduler, images, accelerator.device
        settings = {
            "options": self.config.to_json(),
            "data": _about_data(images, self.config.class_conditional),
            "network": network,
            "machine": _about_machine(accelerator),
            "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
        }
        with self._may_not_be_written():
            self._claim()
            if state.folders(self.states) != self._found:
                raise ValueError(
                    f"another process has trained in {self.path} until now; the same command continues from there"
                )
            if resumed is None:
                (self.states / BEGUN).touch()
            self._clean(resumed.meta["step"] if resumed else 0)
            write_text(self.path / "train_config.json", json.dumps(settings, indent=1) + "\n")
            self.metrics = MetricsLog(self.path / "metrics.jsonl", *_kept_rows(resumed))
        if resumed:
            self.saved = Saved(state_step=resumed.meta["step"])

    def _claim(self) -> None:
        """Let no other process train there, as long as this one lives."""
        self._lock = self._lock or claim(self.path)

    def _clean(self, step: int) -> None:
        """Remove what a killed process left half-written, and states and pictures later than `step`."""
        state.remove_leftovers(self.states)
        state.forget_after(self.states, step)
        remove_abandoned(self.path)
        snapshots = self.states.glob(".push-*")  # of milestones, see ddpm/hub/background.py
        for leftover in (*self.path.glob(".tmp-*"), *self.path.glob("samples/.tmp-*"), *snapshots):
            shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink()
        for picture in (self.path / "samples").glob("step-*.png"):
            number = picture.stem.removeprefix("step-")
            if number.isdigit() and int(number) > step:
                picture.unlink()
        for plot in filter(Path.is_file, (self.path / name for name in ("training.png", "strip.png"))):
            if not step:
                plot.unlink()
                log.info("%s of an earlier run is removed", plot)
            elif not self.config.plots:
                log.info("%s shows the run until step %d or earlier, because of --no_plots", plot, step)

    def add(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        with self._saving("metrics.jsonl"):
            self.metrics.append(row)

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], weights: Weights) -> None:
        """Save the DDPMPipeline of `weights` and its card, and last of all the training state.

        Each is written whether or not the others could be.
        """
        with self._saving("metrics.jsonl"):
            self.metrics.flush()
        exported = self.save_model(step, weights)
        meta = {"options": self.config.to_json(), "fingerprint": self.images.fingerprint, "exported": exported} | meta
        with self._saving("the training state", step):
            state.save(self.states, State(tensors, meta), self.config.checkpoints_total_limit)
            self.saved = replace(self.saved, state_step=step)
        with contextlib.suppress(OSError):
            (self.states / BEGUN).unlink()
        with self._saving("metrics.jsonl"):  # once more: an older state may have made room
            self.metrics.flush()

    def save_model(self, step: int, weights: Weights) -> bool:
        """Save the DDPMPipeline of `weights` and its card; returns whether the pipeline could be saved."""
        with self._saving("the model", step):
            unet, classes = weights
            lowest = make_schedule(self.scheduler).lowest_log_variance
            write = functools.partial(checkpoint.save, self.path, unet, dict(self.scheduler.config), classes, lowest)
            state.write_or_make_room(self.states, write)
            self.saved = replace(self.saved, model_step=step)
        self.write_card()
        return self.saved.model_step == step

    def write_card(self) -> None:
        """Write README.md, the model card."""
        with self._saving("README.md"):
            if reason := card.write(self.path):
                raise OSError(reason)

    def complete(self, step: int, exported: bool, weights: Weights, scheduler: Any) -> bool:
        """Save the model of a run that had finished, unless it is there; returns whether something was saved.

        Args:
            exported: whether the model could be saved when the run finished.
        Raises:
            ValueError: another process trains there, or the folder cannot be written.
        """
        there = exported and has_model(self.path)
        self.saved = Saved(step if there else None, step)
        if there:
            return False
        self.scheduler = scheduler
        with self._may_not_be_written():
            self._claim()
        return self.save_model(step, weights)

    def lacks_samples(self, step: int) -> bool:
        """Whether samples/step-....png is missing."""
        return not self._samples(step).exists()

    def lacking_pictures(self, step: int) -> list[str]:
        """Which of its last pictures a run lacks that has finished with this step. None of a run that went further."""
        states = state.folders(self.states)
        if not states or state.step_of(states[-1]) != step or not has_model(self.path):
            return []
        wanted = [self._samples(step).relative_to(self.path).as_posix(), *(["strip.png"] if self.config.plots else [])]
        return [name for name in wanted if not (self.path / name).exists()]

    def reopen(self, accelerator: Accelerator, scheduler: Any, images: Images) -> None:
        """Prepare the folder of a run that has finished for pictures, and change nothing else there.

        Raises:
            ValueError: another process trains there, or the folder cannot be written.
        """
        self.scheduler, self.images, self.device = scheduler, images, accelerator.device
        with self._may_not_be_written():
            self._claim()
        self._rows = read_metrics(self.path / "metrics.jsonl")

    def _samples(self, step: int) -> Path:
        return self.path / f"samples/step-{step:06d}.png"

    def save_samples(self, step: int, grid: Image.Image | None) -> None:
        """Save samples/step-....png, and training.png with the rows so far.

        Args:
            grid: None if somebody asked the training to stop before the samples were finished.
        """
        path = self._samples(step)
        with self._saving(path.relative_to(self.path).as_posix()):
            if grid is None:
                raise InterruptedError(STOPPED)
            plots.save_image(grid, path)
        if self.config.plots:
            with self._saving("training.png"):
                rows = self.metrics.rows if self._rows is None else self._rows
                reference = self._reference_val_loss()
                plots.save_training_plot(rows, self.path / "training.png", self.path.name, reference)

    @contextlib.contextmanager
    def _may_not_be_written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(f"--output_dir {self.path} cannot be written to: {_reason(error)}") from None

    @contextlib.contextmanager
    def _saving(self, what: str, step: int | None = None) -> Iterator[None]:
        """If something cannot be written, because the disk is full for example, say so and let the run continue.

        Args:
            step: of what is saved again and again. Each failure of it is a warning; of other files, the first.
        """
        try:
            yield
        except OSError as error:
            reason = _reason(error)
            if step is not None or what not in self.saved.missing:
                of_step = "" if step is None else f" of step {step}"
                log.warning("%s%s could not be saved (%s)", _sentence(what), of_step, reason)
            self.saved = replace(self.saved, missing={**self.saved.missing, what: reason})
        else:
            if what in self.saved.missing:
                log.info("%s could be saved again", _sentence(what))
                self.saved = replace(self.saved, missing={k: v for k, v in self.saved.missing.items() if k != what})

    def _reference_val_loss(self) -> float | None:
        """The held-out loss that the preset reaches, if this run has its network, length and data; otherwise None."""
        usual, same = preset(self.config.preset), "block_out_channels layers_per_block attention_levels max_train_steps"
        if any(getattr(usual, name) != getattr(self.config, name) for name in same.split()):
            return None
        return reference_val_loss(self.config.preset, self.images.fingerprint)

    def save_strip(self, weights: Weights, trained: int, should_stop: Callable[[], bool]) -> None:
        """Save strip.png: two images, sampled by ancestral sampling in `plots.strip_steps` steps.

        Args:
            trained: optimizer steps so far.
            should_stop: once it returns true, the strip is given up.
        """
        if not self.config.plots:
            return
        shape = (2, self.images.channels, *self.images.size)
        eps_theta = Engine(weights.unet, self.scheduler, self.device)  # without label
        count = plots.strip_steps(self.scheduler.config["num_train_timesteps"], trained)
        options = {"num_inference_steps": count, "device": self.device, "cancelled": should_stop}
        steps = reverse_process(eps_theta, self.scheduler, shape, **options)
        steps = tqdm(steps, "drawing strip.png", count, leave=False, unit=" steps", dynamic_ncols=True)
        with self._saving("strip.png"):
            try:
                plots.save_strip(steps, self.path / "strip.png")
            except InterruptedError:
                raise InterruptedError(STOPPED) from None


def has_model(folder: Path) -> bool:
    """Whether a folder has the files of a model that a training saved."""
    return (folder / "model_index.json").is_file() and any(folder.glob("unet/*.safetensors"))


def _trace_of_model(folder: Path) -> str | None:
    """A file in a folder that shows that a model is there, in whatever format; None if there is none."""
    patterns = ("model_index.json", "unet/*.safetensors", "unet/*.bin", "*.safetensors", "*.bin")
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return next((path.relative_to(folder).as_posix() for path in found), None)


def _reason(error: OSError) -> str:
    """Why a file could not be written, without its path: that of a temporary file would only confuse."""
    return error.strerror or first_line(error)


def _sentence(words: str) -> str:
    """Words that begin a sentence; the names of files stay as they are."""
    return words[0].upper() + words[1:] if words.startswith("the ") else words


def _kept_rows(resumed: State | None) -> tuple[int, dict[str, int]]:
    """The last step of metrics.jsonl that a resumed run keeps, and the cadence of its rows by kind."""
    if resumed is None:
        return 0, {}
    options = resumed.meta["options"]
    return resumed.meta["step"], {"train": options["logging_steps"], "validation": options["validation_steps"]}


def _about_data(images: Images, with_classes: bool) -> dict[str, Any]:
    names = {"class_names": list(images.class_names)} if with_classes else {}
    return names | {
        "fingerprint": images.fingerprint,
        "num_train": len(images.train),
        "num_eval": len(images.eval),
        "resolution": size_name(images.size),
        "channels": images.channels,
        "source": images.source,
        "notes": images.notes,
    }


def _about_machine(accelerator: Accelerator) -> dict[str, Any]:
    on_gpu = accelerator.device.type == "cuda"
    return {
        "device": str(accelerator.device),
        "processor": torch.cuda.get_device_name() if on_gpu else _processor(),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
