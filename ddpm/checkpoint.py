"""A model directory: a DDPMPipeline with its weights in safetensors, and the records of its training.

Only safetensors and JSON are read. So a checkpoint from a stranger can be wrong, but it cannot run code of its own.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors import SafetensorError

from ddpm import classes, variance
from ddpm.class_names import FILES, NO_LABEL, shortened
from ddpm.classes import Classes, accepting_vectors
from ddpm.compiled import Compiled
from ddpm.cuda_graphs import Graphs
from ddpm.engine import Engine
from ddpm.errors import first_line
from ddpm.metrics import read_metrics
from ddpm.model_files import Layout, check_files, check_weights, is_inside, read_configs
from ddpm.names import Precision, Size
from ddpm.openvino_backend import OpenVINO, computes_in_bfloat16
from ddpm.schedule import Errors, NoiseSchedule
from ddpm.settings import read_json
from ddpm.unet import keep_input_precision

log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parent / "assets" / "mnist"
LOADING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model.

    Args:
        name: what messages and the page call it.
        unet: the network, to compute with. It has no weights (it is on the meta device) if `load` left them for
            `with_weights`. It takes no labels; for `classes`, see `ddpm.classes`.
        scheduler: the scheduler that it was trained with.
        directory: the folder of its files.
        revision: the commit on the Hub; None for a directory.
        offline: True if this is the cached copy of a model whose Hub could not be reached.
        config: train_config.json; empty if there is none.
        metrics: the rows of metrics.jsonl.
        classes: the classes that a class-conditional model knows; None for any other.
        lowest_log_variance, errors: what variance.json says, see `NoiseSchedule`; None where it says nothing.
    """

    name: str
    unet: UNet2DModel
    scheduler: DDPMScheduler
    directory: Path
    revision: str | None = None
    offline: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    classes: Classes | None = None
    lowest_log_variance: float | None = None
    errors: Errors | None = None
    _networks: dict[Precision, Compiled] = field(default_factory=dict, init=False, repr=False)

    @property
    def size(self) -> Size:
        """Height and width of a picture, in pixels."""
        side = self.unet.config["sample_size"]
        return (side, side) if isinstance(side, int) else (side[0], side[1])

    @property
    def resolution(self) -> int:
        """Pixels along the longer side of a picture; where it is square, along both."""
        return max(self.size)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.unet.config["in_channels"]

    @property
    def knows_no_label(self) -> bool:
        """Whether the model takes labels and has also learned what to draw without one, so that it can be guided."""
        options = self.config.get("options") or {}
        always_told = options.get("class_conditional") and options.get("label_dropout") == 0
        return self.classes is not None and self.classes.unlabelled is None and not always_told

    @property
    def num_parameters(self) -> int:
        """The number of weights of the network."""
        return sum(p.numel() for p in self.unet.parameters())

    @property
    def schedule(self) -> NoiseSchedule:
        """The tables of the process that the model was trained with, and the variance of its reverse."""
        return NoiseSchedule.from_scheduler(self.scheduler, self.lowest_log_variance, self.errors)

    def with_weights(self) -> Checkpoint:
        """The same model with its weights loaded.

        Raises:
            ValueError: the weights are damaged or not finite; one line.
        """
        if self.unet.device.type != "meta":
            return self
        return load(self.directory, self.name if self.revision else None, self.revision)

    def engine(self, device: torch.device | str = "cpu", precision: Precision = "float32") -> Engine:
        """eps_theta(x_t, t, label) of this model: compiled on the CPU, as CUDA graphs on a GPU, and computed by PyTorch
        on other devices.

        Args:
            precision: of the layers, on a CPU.
        Raises:
            ValueError: see `check_precision`.
        """
        kind = torch.device(device).type
        check_precision(precision, kind)
        if kind == "cpu":
            return Engine(self.unet, self.scheduler, device, self._compiled(precision), self.classes)
        unet: Any = copy.deepcopy(self.unet)
        # ZeroGPU lends a GPU for single calls, each in a process of its own.
        if kind != "cuda" or "SPACES_ZERO_GPU" in os.environ:
            return Engine(unet.to(device), self.scheduler, device, classes=self.classes)
        called = accepting_vectors(unet) if self.classes else unet
        return Engine(called, self.scheduler, device, on_a_gpu(called, device), self.classes)

    def label(self, name: str | int | None) -> int:
        """The number of a class by its name; -1 for None, for "none" and for the empty name.

        Raises:
            ValueError: there is no such class, or the model has no labels.
        """
        if name is None or (self.classes is None and str(name).strip().lower() in ("", "none")):
            return NO_LABEL
        if self.classes is None:
            raise ValueError(f"label {shortened(str(name))!r}: {self.name} has no labels to ask for")
        return self.classes.number(name)

    def _compiled(self, precision: Precision) -> Compiled:
        """The network as the engines of this model share it."""
        if precision not in self._networks:
            unet = accepting_vectors(self.unet) if self.classes else self.unet
            backend = OpenVINO(unet, precision=precision)
            self._networks[precision] = Compiled(unet, backend, alone=precision != "float32")
        return self._networks[precision]


def check_precision(precision: Precision, kind: str) -> None:
    """Check that devices of this kind can compute networks in a precision.

    Raises:
        ValueError: bfloat16, and this is no CPU with instructions for it, or OpenVINO is not installed.
    """
    if precision == "bfloat16" and (kind != "cpu" or not computes_in_bfloat16()):
        raise ValueError(
            "--precision bfloat16: a CPU with instructions for it (AVX-512 BF16 or AMX) and OpenVINO are needed"
            + ("" if kind == "cpu" else f", and {kind} would compute")
            + "; float32 is possible"
        )


def on_a_gpu(unet: Any, device: torch.device | str) -> Graphs:
    """How a GPU computes a network whose weights no longer change. The network itself is moved there, and its layout
    changes."""
    unet.to(device, memory_format=torch.channels_last)
    keep_input_precision(unet)
    return Graphs(lambda *inputs: unet(*inputs).sample)


def load(
    directory: str | os.PathLike, name: str | None = None, revision: str | None = None, weights: bool = True
) -> Checkpoint:
    """Load and check a model directory.

    Args:
        directory: a DDPMPipeline as diffusers saves it, or the flat layout, see `Layout`.
        name: what messages and the page call it; default: the name of the directory.
        revision: the commit on the Hub that the directory was pulled from.
        weights: load the weights, too. Otherwise only everything else is checked, and `Checkpoint.with_weights` loads
            them later.
    Raises:
        ValueError: something is missing, damaged or of another kind; one line.
    """
    directory = Path(directory)
    where = name or str(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such model directory")
    if (directory / "train_config.json").is_file() and not (directory / "model_index.json").is_file():
        raise ValueError(f"{directory}: this run has not saved a model yet")
    files = (path for pattern in ("*", "unet/*", "scheduler/*") for path in directory.glob(pattern) if path.is_file())
    try:
        layout = Layout.of({path.relative_to(directory).as_posix() for path in files}, where)
        check_files(directory, layout)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if layout.unread:
        log.warning("%s: not read: %s", where, ", ".join(layout.unread[:6]))
    unet_config, scheduler, lowest = read_configs(directory, layout, where)
    size = sum((directory / name).stat().st_size for name in layout.weights)
    unet = check_weights(unet_config, size, layout, where)
    if weights:
        unet = _read_weights((directory / layout.unet_config).parent, layout.variant, where)
        unet.register_to_config(sample_size=unet_config["sample_size"])
    unet, known = _read_classes(directory, layout, unet, where)
    return Checkpoint(
        name=name or directory.resolve().name,
        unet=unet,
        scheduler=scheduler,
        directory=directory,
        revision=revision,
        config=_optional(where, "its settings", lambda: _settings(directory)) or {},
        metrics=_optional(where, "what was measured", lambda: _metrics(directory)) or [],
        classes=known,
        lowest_log_variance=lowest,
        errors=_read_errors(directory, layout, unet, scheduler, where),
    )


def _read_classes(directory: Path, layout: Layout, unet: UNet2DModel, where: str) -> tuple[UNet2DModel, Classes | None]:
    """The network without a table of class vectors, and its classes; None if it has none.

    A network with a table of class vectors inside, which diffusers makes and this program does not save, was trained
    with labels only: its first class takes the place of "no label".

    Raises:
        ValueError: the files of the classes are damaged, or belong to other weights; one line.
    """
    if inside := unet.config.get("num_class_embeds"):
        found = classes.names_in(directory)
        names = found if found and len(found) == inside else tuple(map(str, range(inside)))
        if unet.device.type == "meta":
            return unet, Classes(names, torch.zeros(inside, classes.width_of(unet)), names[0])
        folded, others = classes.fold(unet, base=0)
        numbered = f" and has no name for them. They are called by their numbers, 0 to {inside - 1}"
        log.warning(
            "%s: the network was trained with labels%s; where no label is asked for, it gets label %s",
            where,
            "" if names == found else numbered,
            names[0],
        )
        vectors = torch.cat([torch.zeros(1, others.shape[1]), others])
        return folded, Classes(names, vectors, names[0])
    try:
        found = classes.read(directory, unet, layout.variant is None)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return unet, found


def _read_errors(
    directory: Path, layout: Layout, unet: UNet2DModel, scheduler: DDPMScheduler, where: str
) -> Errors | None:
    """The errors of the network, if somebody has measured them. Raises ValueError, in one line."""
    try:
        return variance.read_errors(directory, len(scheduler.betas), unet, layout.variant is None)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@contextlib.contextmanager
def _silent_diffusers() -> Iterator[None]:
    """What diffusers would log in several lines is said in one. Its verbosity belongs to the process, so two threads
    that load models take turns."""
    with LOADING:
        spoken = diffusers.utils.logging.get_verbosity()
        diffusers.utils.logging.set_verbosity(logging.CRITICAL)
        try:
            yield
        finally:
            diffusers.utils.logging.set_verbosity(spoken)


def _read_weights(folder: Path, variant: str | None, where: str) -> UNet2DModel:
    """The network in a folder with config.json and weights, in float32 and eval mode.

    Args:
        variant: see `Layout`.
    Raises:
        ValueError: the weights are damaged, not finite, or belong to another network.
    """
    try:
        with _silent_diffusers():
            unet, info = UNet2DModel.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues] - a pair, as asked for
                folder,
                variant=variant,
                use_safetensors=True,
                local_files_only=True,
                torch_dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # whatever diffusers and safetensors raise for damaged files
        reason = first_line(error)
        if reason.startswith("Unable to load weights"):  # which repeats the path, and says no more
            reason = "the weights are damaged or cut off, or no safetensors file"
        raise ValueError(f"{where}: cannot be loaded ({reason})") from error
    if info["missing_keys"]:
        raise ValueError(f"{where}: the weights lack {', '.join(sorted(info['missing_keys'])[:3])}")
    if unused := sorted(info["unexpected_keys"]):
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        log.warning(
            "%s: the network does not use these weights: %s%s; its config.json may be that of another network",
            where,
            ", ".join(unused[:3]),
            more,
        )
    if found := not_finite(unet.state_dict()):
        raise ValueError(f"{where}: the weights are not finite: {found}")
    return unet.eval().requires_grad_(False)


def not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Which of these tensors holds NaN or infinity first, in words; None if all are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            return f"{name} holds NaN or infinity in {bad:,} of {tensor.numel():,} places"
    return None


def _optional(where: str, what: str, read: Callable[[], Any]) -> Any:
    """What `read` returns. If an optional file cannot be read: None, and a warning."""
    try:
        return read()
    except (OSError, ValueError) as error:
        log.warning("%s: without %s: %s", where, what, first_line(error))
        return None


def _settings(directory: Path) -> dict[str, Any]:
    """train_config.json; an empty dict if there is none, or if train.py did not write it."""
    if not (directory / "train_config.json").is_file():
        return {}
    _refuse_link(directory / "train_config.json")
    settings = read_json(directory, "train_config.json")
    known = all(isinstance(settings.get(k), dict) for k in ("options", "data"))
    return settings if known else {}


def _metrics(directory: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; none if it is not there."""
    _refuse_link(directory / "metrics.jsonl")
    return read_metrics(directory / "metrics.jsonl")


def _refuse_link(path: Path) -> None:
    """Reject a file that is a link out of its folder, which is the model directory. Raises ValueError."""
    if not is_inside(path, path.parent):
        raise ValueError(f"{path.name} is a link out of the model's directory")


def save(
    directory: Path,
    unet: UNet2DModel,
    scheduler_config: dict[str, Any],
    known: Classes | None = None,
    lowest_log_variance: float | None = None,
) -> None:
    """Write a DDPMPipeline directory. Each file is replaced as a whole, so nobody ever sees half of one.

    Args:
        unet: a network that takes neither labels nor class vectors.
        known: the classes of a class-conditional model, for the files of `ddpm.classes`.
        lowest_log_variance: see `NoiseSchedule`, for the file of `ddpm.variance`; None for a variance that is fixed.
        scheduler_config: the configuration of the DDPMScheduler of training.
    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(".tmp-pipeline-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = directory / f".tmp-pipeline-{os.getpid()}"
    try:
        # A new scheduler, since one that has sampled would also save its inference steps.
        scheduler = DDPMScheduler.from_config(scheduler_config)
        assert isinstance(scheduler, DDPMScheduler)
        DDPMPipeline(unet, scheduler).save_pretrained(temporary)
        if known:
            classes.save(temporary, known, unet)
        if lowest_log_variance is not None:
            variance.save(temporary, lowest_log_variance)
        mode = (temporary / "model_index.json").stat().st_mode
        parts = sorted((p for p in temporary.rglob("*") if p.is_file()), key=lambda p: (p.suffix, p))
        for part in parts:
            (directory / part.relative_to(temporary)).parent.mkdir(exist_ok=True)
            part.chmod(mode)  # safetensors writes files that only their owner can read
            with open(part, "rb") as whole:
                os.fsync(whole.fileno())
        for part in parts:  # labels.safetensors, then the weights that it belongs to, with nothing slow between them
            os.replace(part, directory / part.relative_to(temporary))
        written = {part.name for part in parts}
        for name in (*FILES, variance.FILE):
            if name not in written:  # of an earlier model in the same folder
                (directory / name).unlink(missing_ok=True)
    except SafetensorError as error:  # this is how safetensors reports a full disk
        code = re.search(r"os error (\d+)", str(error))
        raise (OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
