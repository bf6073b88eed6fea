"""A model directory: a DDPMPipeline of EMA weights in safetensors, and what was measured about it.

Reading takes safetensors and JSON only: a stranger's checkpoint can be wrong, but runs no code of its own.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors import SafetensorError

from ddpm.compiled import Compiled
from ddpm.engine import PREDICTION_TYPES, Engine
from ddpm.errors import first_line
from ddpm.metrics import read_metrics
from ddpm.schedule import VARIANCE_TYPES, NoiseSchedule

log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent / "assets" / "mnist"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PIPELINES = ("DDPMPipeline", "DDIMPipeline")  # of pixels; a UNet2DModel of LDMPipeline draws latents
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack")
UNET_SETTINGS = set(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}
SPACINGS = ("linspace", "leading", "trailing")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model.

    Args:
        name: what people know it by.
        directory: where its files lie.
        revision: commit on the Hub; None for a directory.
        offline: it is the copy in the cache, since the Hub could not be asked for it.

    `unet` has no weights (it is on the meta device) where `load` was told to leave them for `with_weights`.
    """

    name: str
    unet: UNet2DModel
    scheduler: DDPMScheduler
    directory: Path
    revision: str | None = None
    offline: bool = False
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

    def with_weights(self) -> Checkpoint:
        """The same with its weights read.

        Raises:
            ValueError: they are damaged, in one line.
        """
        if self.unet.device.type != "meta":
            return self
        return load(self.directory, self.name if self.revision else None, self.revision)

    def engine(self, device: str = "cpu") -> Engine:
        """eps_theta(x_t, t) of this model: compiled where `device` is the CPU, by PyTorch elsewhere."""
        if torch.device(device).type == "cpu":
            return Engine(self.unet, self.scheduler, device, self._compiled)
        return Engine(copy.deepcopy(self.unet).to(device), self.scheduler, device)

    @cached_property
    def _compiled(self) -> Compiled:
        return Compiled(self.unet)


@dataclass(frozen=True)
class Layout:
    """Where the parts of a model lie, relative to its directory."""

    index: str | None  # model_index.json; the flat layout may have none
    unet_config: str
    weights: str
    scheduler_config: str | None  # the flat layout may have none

    @classmethod
    def of(cls, names: Collection[str]) -> Layout:
        """The layout of a model with these files: a DDPMPipeline, or all parts beside each other (older ones).

        Raises:
            ValueError: what is missing, or that there is none but pickled weights.
        """
        folder = "" if "config.json" in names and not any(name.startswith("unet/") for name in names) else "unet/"
        index = None if not folder and "model_index.json" not in names else "model_index.json"
        schedulers = [f"{f}scheduler_config.json" for f in (("", "scheduler/") if not folder else ("scheduler/",))]
        scheduler = next((name for name in schedulers if name in names), schedulers[0] if folder else None)
        layout = cls(index, f"{folder}config.json", f"{folder}{WEIGHTS}", scheduler)
        for part in (layout.index, layout.unet_config, layout.scheduler_config):
            if part is not None and part not in names:
                raise ValueError(f"no {part}; a DDPMPipeline directory as train.py writes it is needed")
        if layout.weights not in names:
            pickles = sorted(name for name in names if name.startswith(folder) and name.endswith(PICKLES))
            if pickles:
                raise ValueError(
                    f"no {layout.weights}, only {', '.join(pickles[:3])}: pickled weights can run code, so they are "
                    "not read; they need converting to safetensors by somebody who trusts them"
                )
            raise ValueError(f"no {layout.weights}; other formats are not read")
        return layout


def load(
    directory: str | os.PathLike, name: str | None = None, revision: str | None = None, weights: bool = True
) -> Checkpoint:
    """Load and check a model directory.

    Args:
        directory: a DDPMPipeline as diffusers saves it, or the flat layout (config.json beside the weights).
        name: what to call it, also in messages; default: the directory's name.
        weights: read them, too. Without, all else is checked, and `Checkpoint.with_weights` reads them later.
    Raises:
        ValueError: what is missing, damaged or of another kind, in one line.
    """
    directory = Path(directory)
    where = name or str(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such model directory")
    if (directory / "train_config.json").is_file() and not (directory / "model_index.json").is_file():
        raise ValueError(f"{directory}: this run has not saved a model yet")
    files = (path for pattern in ("*", "unet/*", "scheduler/*") for path in directory.glob(pattern) if path.is_file())
    try:
        layout = Layout.of({path.relative_to(directory).as_posix() for path in files})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    unet_config, scheduler = read_configs(directory, layout, where)
    unet = check_weights(unet_config, (directory / layout.weights).stat().st_size, layout, where)
    if weights:
        unet = _read_weights((directory / layout.weights).parent, where)
    return Checkpoint(
        name=name or directory.resolve().name,
        unet=unet,
        scheduler=scheduler,
        directory=directory,
        revision=revision,
        config=_optional(where, "its settings", lambda: _settings(directory)) or {},
        metrics=_optional(where, "what was measured", lambda: read_metrics(directory / "metrics.jsonl")) or [],
    )


def _read_weights(folder: Path, where: str) -> UNet2DModel:
    """The network of a folder with config.json and weights, to compute with.

    Raises:
        ValueError: they are damaged, or of another network.
    """
    try:
        unet, info = UNet2DModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # whatever diffusers and safetensors raise for damaged files
        raise ValueError(f"{where}: cannot be loaded ({first_line(error)})") from error
    if info["missing_keys"]:
        raise ValueError(f"{where}: the weights lack {', '.join(sorted(info['missing_keys'])[:3])}")
    return unet.eval().requires_grad_(False)


def _optional(where: str, what: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; None, with a warning, where a file cannot be read that a model can do without."""
    try:
        return read()
    except (OSError, ValueError) as error:
        log.warning("%s: without %s: %s", where, what, first_line(error))
        return None


def _settings(directory: Path) -> dict[str, Any]:
    """train_config.json, or nothing where it is not what train.py writes."""
    if not (directory / "train_config.json").is_file():
        return {}
    settings = _read_json(directory, "train_config.json")
    known = all(isinstance(settings.get(k), dict) for k in ("options", "data"))
    return settings if known else {}


def read_configs(directory: Path, layout: Layout, where: str) -> tuple[dict[str, Any], DDPMScheduler]:
    """The network's configuration and the scheduler, checked: all that must be known before weights are fetched.

    Args:
        where: what messages call the model.
    Raises:
        ValueError: this project cannot compute with them.
    """
    try:
        index, unet, scheduler = (
            _read_json(directory, part) if part else None
            for part in (layout.index, layout.unet_config, layout.scheduler_config)
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if index is not None:
        _check_index(index, where)
    if scheduler is None:
        log.warning("%s: no scheduler_config.json; the paper's betas are assumed, 1e-4 to 0.02 in 1000 steps", where)
        scheduler = dict(DDPMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02).config)
        scheduler["_class_name"] = "DDPMScheduler"
    _check(where, unet, scheduler)
    try:
        made = DDPMScheduler.from_config(scheduler)
        NoiseSchedule.from_scheduler(made)
    except Exception as error:  # whatever diffusers raises
        raise ValueError(f"{where}: its scheduler cannot be made ({first_line(error)})") from None
    return unet, made


def check_weights(unet_config: dict[str, Any], size: int, layout: Layout, where: str) -> UNet2DModel:
    """Refuse a network that cannot be made or computed, and weights that cannot be its own, without making any.

    Args:
        unet_config: as `read_configs` returns it.
        size: of the file of weights, in bytes.
    Returns:
        The network on the meta device: its shapes, and no weights.
    Raises:
        ValueError: why.
    """
    pixels = (1, unet_config["in_channels"], *[unet_config["sample_size"]] * 2)
    try:
        with torch.device("meta"), torch.no_grad():
            unet = UNet2DModel.from_config(unet_config)
            expected = sum(p.numel() for p in unet.parameters())
            fits = 2 * expected <= size <= 8 * expected + 2**20  # 16 to 64 bits each, and a header
            shape = tuple(unet(torch.empty(pixels), torch.zeros(1, dtype=torch.int64)).sample.shape) if fits else pixels
        if shape != pixels:
            raise ValueError(f"it turns {pixels[2]}x{pixels[3]} pixels into {shape[2]}x{shape[3]}")
    except Exception as error:  # whatever diffusers raises for a configuration that makes no network
        raise ValueError(f"{where}: {layout.unet_config} makes no network ({first_line(error)[:200]})") from None
    if not fits:
        raise ValueError(
            f"{where}: {layout.weights} has {size:,} bytes, and the network {expected:,} parameters; they do not "
            "belong together"
        )
    return unet


def _read_json(directory: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not readable as JSON ({first_line(error)[:200]})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name}: a JSON object is needed")
    return content


def _shown(value: object) -> str:
    """Anybody's value in one line."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:100])


def _check_index(index: dict[str, Any], where: str) -> None:
    """Refuse pipelines of other kinds, and those that bring code of their own."""
    kind = index.get("_class_name")
    if kind not in PIPELINES:
        own = ", with code of its own, which is never run" if isinstance(kind, list) else ""
        raise ValueError(f"{where}: the pipeline is a {_shown(kind)}{own}; a DDPMPipeline is needed")
    parts = {name: part for name, part in index.items() if not name.startswith("_")}
    for name, part in parts.items():
        library = part[0] if isinstance(part, list) and len(part) == 2 else None
        if name not in ("unet", "scheduler") or library != "diffusers":
            raise ValueError(
                f"{where}: the pipeline's {_shown(name)} is {_shown(part)}; only a unet and a scheduler of diffusers "
                "are read"
            )


def _check(where: str, unet: dict[str, Any], scheduler: dict[str, Any]) -> None:
    """Refuse what this project cannot compute with, before weights are read."""

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise ValueError(f"{where}: {''.join(c if c.isprintable() else '?' for c in what[:300])}")

    def whole(value: object, low: int, high: int) -> bool:
        return type(value) is int and low <= value <= high

    kind = unet.get("_class_name")
    need(kind == "UNet2DModel", f"the network is a {kind}; a UNet2DModel is needed")
    size = unet.get("sample_size")
    need(whole(size, 1, 1024), f"sample_size {size}: a square of 1 to 1024 pixels is needed")
    channels = (unet.get("in_channels"), unet.get("out_channels"))
    need(channels in ((1, 1), (3, 3)), f"in and out channels {channels}: 1 or 3, both the same, are needed")
    labels = unet.get("num_class_embeds") or unet.get("class_embed_type")
    need(not labels, "the network needs class labels; an unconditional one is needed")
    unknown = sorted(key for key in unet if not key.startswith("_") and key not in UNET_SETTINGS)
    need(not unknown, f"the network's configuration has {', '.join(unknown[:3])}, which a UNet2DModel does not know")
    padding = unet.get("downsample_padding", 1)
    need(whole(padding, 0, 1), f"downsample_padding {padding}: 0 or 1 is needed")
    # Bounds that no real network meets: building one to count its parameters must not take the machine down.
    widths = unet.get("block_out_channels", [])
    need(
        isinstance(widths, list) and len(widths) <= 12 and all(whole(w, 1, 8192) for w in widths),
        f"block_out_channels {widths}: at most 12 widths of at most 8192 are read",
    )
    layers = unet.get("layers_per_block", 2)
    need(whole(layers, 1, 32), f"layers_per_block {layers}: 1 to 32 is needed")
    kind = scheduler.get("_class_name")
    need(kind == "DDPMScheduler", f"the scheduler is a {kind}; a DDPMScheduler is needed")
    steps = scheduler.get("num_train_timesteps", 1000)
    need(whole(steps, 2, 10_000), f"num_train_timesteps {steps}: 2 to 10000 is needed")
    prediction = scheduler.get("prediction_type", "epsilon")
    need(
        prediction in PREDICTION_TYPES,
        f"prediction_type {prediction!r}: one of {', '.join(PREDICTION_TYPES)} is needed",
    )
    variance = scheduler.get("variance_type", "fixed_small")
    need(variance in VARIANCE_TYPES, f"variance_type {variance!r}: one of {', '.join(VARIANCE_TYPES)} is needed")
    spacing = scheduler.get("timestep_spacing", "leading")
    need(spacing in SPACINGS, f"timestep_spacing {spacing!r}: one of {', '.join(SPACINGS)} is needed")
    betas = scheduler.get("trained_betas")
    need(
        betas is None or (isinstance(betas, list) and len(betas) == steps),
        f"trained_betas: as many as num_train_timesteps, {steps}, are needed",
    )
    need(not scheduler.get("thresholding"), "the scheduler thresholds x_0, which is not computed here")
    if unet.get("time_embedding_type") == "learned":
        known = unet.get("num_train_timesteps")
        need(whole(known, steps, 10_000), f"num_train_timesteps {known} of the network: {steps} to 10000 is needed")


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
