"""A model directory: a DDPMPipeline of EMA weights in safetensors, and what was measured about it.

Reading takes safetensors and JSON only: a stranger's checkpoint can be wrong, but runs no code of its own.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors import SafetensorError

from .engine import PREDICTION_TYPES, Engine
from .schedule import VARIANCE_TYPES, NoiseSchedule

EMBEDDED = Path(__file__).parent / "assets" / "mnist"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model. `directory` is where its files lie; `name` is what people know it by."""

    name: str
    unet: UNet2DModel
    scheduler: DDPMScheduler
    directory: Path
    revision: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.unet.config.sample_size

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.unet.config.in_channels

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.unet.parameters())

    @property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_scheduler(self.scheduler)

    def engine(self, device: str = "cpu") -> Engine:
        """eps_theta(x_t, t) of this model."""
        return Engine(self.unet.to(device), self.scheduler, device)


def load(directory: str | os.PathLike, name: str | None = None, revision: str | None = None) -> Checkpoint:
    """Load and check a model directory.

    Args:
        directory: holds model_index.json, unet/ and scheduler/, as DDPMPipeline saves it.
    Raises:
        ValueError: what is missing, damaged or of another kind, in one line.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such model directory")
    if (directory / "train_config.json").is_file() and not (directory / "model_index.json").is_file():
        raise ValueError(f"{directory}: this run has not saved a model yet")
    for part in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        if not (directory / part).is_file():
            raise ValueError(f"{directory}: no {part}; a DDPMPipeline directory as train.py writes it is needed")
    if not (directory / "unet/diffusion_pytorch_model.safetensors").is_file():
        raise ValueError(f"{directory}: no unet/diffusion_pytorch_model.safetensors; other formats are not read")
    unet_config = _read_json(directory / "unet/config.json")
    scheduler_config = _read_json(directory / "scheduler/scheduler_config.json")
    _check(directory, unet_config, scheduler_config)
    try:
        unet = UNet2DModel.from_pretrained(directory / "unet", use_safetensors=True, local_files_only=True).eval()
        scheduler = DDPMScheduler.from_config(scheduler_config)
    except Exception as error:  # whatever diffusers and safetensors raise for damaged files
        raise ValueError(f"{directory}: cannot be loaded ({str(error).splitlines()[0]})") from error
    unet.requires_grad_(False)
    config_file = directory / "train_config.json"
    return Checkpoint(
        name=name or directory.resolve().name,
        unet=unet,
        scheduler=scheduler,
        directory=directory,
        revision=revision,
        config=_read_json(config_file) if config_file.is_file() else {},
        metrics=read_metrics(directory / "metrics.jsonl"),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line that a crash cut off is left out. Empty where there is no file."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None


def _check(directory: Path, unet: dict[str, Any], scheduler: dict[str, Any]) -> None:
    """Refuse what this project cannot compute with, before weights are read."""

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise ValueError(f"{directory}: {what}")

    kind = unet.get("_class_name")
    need(kind == "UNet2DModel", f"the network is a {kind}; a UNet2DModel is needed")
    size = unet.get("sample_size")
    need(isinstance(size, int) and 1 <= size <= 1024, f"sample_size {size}: a square of 1 to 1024 pixels is needed")
    channels = (unet.get("in_channels"), unet.get("out_channels"))
    need(channels in ((1, 1), (3, 3)), f"in and out channels {channels}: 1 or 3, both the same, are needed")
    need(not unet.get("num_class_embeds"), "the network needs class labels; an unconditional one is needed")
    kind = scheduler.get("_class_name")
    need(kind == "DDPMScheduler", f"the scheduler is a {kind}; a DDPMScheduler is needed")
    prediction = scheduler.get("prediction_type", "epsilon")
    need(
        prediction in PREDICTION_TYPES,
        f"prediction_type {prediction!r}: one of {', '.join(PREDICTION_TYPES)} is needed",
    )
    variance = scheduler.get("variance_type", "fixed_small")
    need(variance in VARIANCE_TYPES, f"variance_type {variance!r}: one of {', '.join(VARIANCE_TYPES)} is needed")


def save(directory: Path, unet: UNet2DModel, scheduler_config: dict[str, Any]) -> None:
    """Write a DDPMPipeline directory, each file replaced as a whole: neither a reader nor a crash meets half of one.

    Raises:
        OSError: the disk is full or the folder not writable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(".tmp-pipeline-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = directory / f".tmp-pipeline-{os.getpid()}"
    try:
        # A fresh scheduler: one that has sampled carries its inference steps along.
        DDPMPipeline(unet, DDPMScheduler.from_config(scheduler_config)).save_pretrained(temporary)
        mode = (temporary / "model_index.json").stat().st_mode
        for part in sorted(temporary.rglob("*")):
            if part.is_file():
                target = directory / part.relative_to(temporary)
                target.parent.mkdir(exist_ok=True)
                part.chmod(mode)  # safetensors makes files private
                with open(part, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(part, target)
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
