"""Every option of training with its unit and default, and train.py's command line.

This module loads nothing heavy: `train.py --help` and wrong usage are answered before torch is loaded. The comment
above an option is its text in `--help`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from ddpm.checks import check_common, check_network
from ddpm.errors import first_line
from ddpm.flags import (
    at_home,
    check_type,
    flattened,
    grouped,
    need_folder,
    need_option,
    parse_flags,
    usage_errors,
)
from ddpm.launcher import launchers_precision
from ddpm.names import MAX_TIMESTEPS, PredictionType, size_of
from ddpm.presets import PRESETS

TrainedVariance = Literal["fixed_small", "fixed_large", "learned_range"]
LOG_SNR_RANGE = (-14.0, 14.0)  # beyond it the betas or alpha_bar_T of diffusers' float32 tables lose their digits

NETWORK = ("block_out_channels", "layers_per_block", "attention_levels", "norm_num_groups")
SCHEDULE = ("num_train_timesteps", "beta_schedule", "log_snr_max", "log_snr_min", "variance_type")
"""The options that come from the model of `init_from`; SCHEDULE only without `new_schedule`."""


def changeable(default: Any) -> Any:
    """An option that may change when a run is continued, because the trained weights do not depend on it."""
    return field(default=default, metadata={"resume": True})


@dataclass(frozen=True)
class RunOptions:
    """Which run this is, and when it ends."""

    # Sets every option below; each of them can still be given.
    preset: Literal["digits", "mnist", "mnist_labels", "mnist_bound", "fashion_mnist", "emoji", "cifar10"] = "digits"
    # Folder for everything that the run writes. Default: runs/<preset>.
    output_dir: Path | None = changeable(None)
    # Seed of weights, batches, timesteps, noise, flips, dropout and hidden labels.
    seed: int = 0
    # Number of optimizer steps.
    max_train_steps: int = changeable(2400)
    # Time limit in minutes. 0: no limit.
    max_train_minutes: float = changeable(0.0)
    # latest, none (start afresh), or a folder below checkpoints/.
    resume_from_checkpoint: str = changeable("latest")
    # Start from the weights, network and noise schedule of a model: a folder, or an id on the Hub.
    init_from: str | None = None
    # With --init_from: take the noise schedule and the variance from these options, not from the model.
    new_schedule: bool = False


@dataclass(frozen=True)
class DatasetOptions:
    """Where the images come from, and their format."""

    # digits, a Hub id, a folder that the datasets library reads, or a folder of images.
    dataset_name: str = "digits"
    # Configuration of a Hub dataset.
    dataset_config_name: str | None = None
    # Branch, tag or commit of a Hub dataset.
    revision: str | None = None
    # Column that holds the images. Default: the only one that does.
    image_column: str | None = None
    # Column that holds the labels. Default: the first one of class labels, or one that is called label.
    label_column: str | None = None
    # Split to train on. Default: train, or the only split.
    train_split: str | None = None
    # Held-out split. Default: test or validation, or 5 % held out of the training split.
    eval_split: str | None = None
    # Side of a square in pixels, or HEIGHTxWIDTH, such as 32x48: the images are resized until they fill it, and what
    # stands over is cut off. Default: the size of the images, of which the middle square is taken.
    resolution: int | str | None = None
    # 1 (grayscale) or 3 (RGB). Default: what the images have.
    channels: int | None = None
    # Pixel values that become black and white. Default: 0 and the largest value of the pixels' type.
    value_range: tuple[float, float] | None = None
    # What transparent pictures are laid on: white, black, or R,G,B from 0 to 255. Values mix as they are stored (in
    # gamma space), as image editors and browsers do it.
    background: str = "white"
    # Column that says which images belong together, such as one emoji in several skin tones: they are held out
    # together. Default: the emoji that the names of files spell, if they do.
    group_column: str | None = None
    # Mirror half of the training images left to right.
    random_flip: bool = False


@dataclass(frozen=True)
class NetworkOptions:
    """The architecture of the UNet."""

    # Number of channels at each level, full resolution first.
    block_out_channels: tuple[int, ...] = (32, 64)
    # Residual blocks per level.
    layers_per_block: int = 1
    # Levels with self-attention, 0 is full resolution. The middle block always has it.
    attention_levels: tuple[int, ...] = ()
    # Groups of the group normalisation. Must divide every entry of block_out_channels.
    norm_num_groups: int = 8
    # Dropout probability in the residual blocks.
    dropout: float = 0.0


@dataclass(frozen=True)
class LabelOptions:
    """Whether the network learns what the images show."""

    # Learn the labels of the images, so that samples of a class can be asked for: a column of labels, a folder for each
    # class, or a table beside the pictures. The model also draws without a label.
    class_conditional: bool = False
    # Share of the images that are trained without their label, as classifier-free guidance needs. Images that have no
    # label count among them; there may be no more of these.
    label_dropout: float = 0.1


@dataclass(frozen=True)
class DiffusionOptions:
    """The forward process, and what the network learns about it."""

    # T, the number of noise levels. Linear betas are scaled by 1000 / T.
    num_train_timesteps: int = 1000
    # linear: from 1e-4 to 0.02 as in the paper; squaredcos_cap_v2: the cosine schedule; log_snr: the log of the
    # signal-to-noise ratio falls linearly, so that the simple loss is the bound up to a constant.
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "log_snr"] = "linear"
    # Natural log of the signal-to-noise ratio at t = 1, for --beta_schedule log_snr.
    log_snr_max: float = 13.3
    # The same at t = T.
    log_snr_min: float = -6.0
    # What the network predicts: the noise epsilon, the image x_0 (sample), or v.
    prediction_type: PredictionType = "epsilon"
    # simple: every t counts the same (Eq. 14); kl: the weights of the bound (Eq. 12), for comparison; vlb: the terms of
    # the bound themselves, divided by the mean of these weights for t > 1.
    loss_weighting: Literal["simple", "kl", "vlb"] = "simple"
    # Variance of a sampling step: beta-tilde (fixed_small), beta (fixed_large), or between them as the network says for
    # each pixel (learned_range, Nichol & Dhariwal 2021).
    variance_type: TrainedVariance = "fixed_small"
    # With learned_range, this times the bound in bits per dimension is added to the loss (L_hybrid). Only the variance
    # learns from it. With log_snr, where w_t is the same for every t, ln(2) / (T w_t) makes the loss proportional to
    # the bound.
    vlb_weight: float = 0.001
    # uniform: every t is drawn as often (Algorithm 1); loss_second_moment: in proportion to the root mean square of its
    # last ten losses. The loss is divided by T times the probability of t, so that its expectation stays the same.
    timestep_sampler: Literal["uniform", "loss_second_moment"] = "uniform"
    # Share of a batch that is drawn at t = 1. These images count less in return, so that the expectation of the loss
    # stays the same.
    first_timestep_share: float = 0.0


@dataclass(frozen=True)
class OptimizationOptions:
    """Batches, learning rate and averaged weights."""

    # Images per process and micro-batch.
    train_batch_size: int = 64
    # Micro-batches per optimizer step.
    gradient_accumulation_steps: int = 1
    # Peak learning rate of AdamW.
    learning_rate: float = 2e-3
    # Optimizer steps of linear warm-up.
    lr_warmup_steps: int = 100
    # Learning rate after the warm-up. cosine ends at 0.
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    # Decay rate of AdamW's second moment. That of the first is 0.9.
    adam_beta2: float = 0.99
    # Weight decay of AdamW, per step and unit of learning rate.
    weight_decay: float = 0.0
    # Larger gradients are scaled down to this norm.
    max_grad_norm: float = 1.0
    # Half-life of the averaged weights (EMA), in images. 0: no averaging.
    ema_half_life_images: int = 20_000
    # The half-life is at most this share of the images seen so far. 0: no such limit.
    ema_ramp_up: float = 0.05


@dataclass(frozen=True)
class MachineOptions:
    """How the machine computes."""

    # Precision of the network. Noising, loss and averaged weights stay in float32. Default: what `accelerate launch`
    # asks for, then the preset's.
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    # Compile the network with torch.compile.
    compile: bool = False
    # On a single GPU, record forward and backward pass once as a CUDA graph, and launch all their kernels by one call.
    # The graph keeps the memory of its intermediate results.
    cuda_graphs: bool = changeable(True)
    # CPU threads per process. 0: the physical cores, or fewer where a container's limit is lower, divided by local
    # processes.
    num_cpu_threads: int = changeable(0)


@dataclass(frozen=True)
class OutputOptions:
    """What the run writes, and how often."""

    # Optimizer steps between two rows of metrics.jsonl.
    logging_steps: int = changeable(25)
    # Optimizer steps between two validations, each with a sample grid.
    validation_steps: int = changeable(500)
    # Number of held-out (image, timestep, noise) triples behind val_loss.
    num_validation_images: int = changeable(1024)
    # Images in a sample grid. With --class_conditional it has a column for each class, and a row without label above.
    num_samples: int = changeable(36)
    # More sample grids, each once the training has seen so many images: 1000 20000.
    sample_at_images: tuple[int, ...] = changeable(())
    # The same in epochs: 1 5 10. An epoch is as many images as there are to train on; 0.5 is half of one.
    sample_at_epochs: tuple[float, ...] = changeable(())
    # Ancestral steps of the sample grids, at most as many as the training has done. If left out, T where that is less.
    sample_steps: int = changeable(250)
    # Optimizer steps between two saved training states.
    checkpointing_steps: int = changeable(500)
    # Number of training states that are kept, the newest ones.
    checkpoints_total_limit: int = changeable(2)
    # Draw training.png and strip.png.
    plots: bool = changeable(True)
    # Experiment tracker, in addition to metrics.jsonl and the plots.
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = changeable("none")


@dataclass(frozen=True)
class HubOptions:
    """Whether and where the model is published."""

    # Push the model during and after training. The token is HF_TOKEN or the stored login.
    push_to_hub: bool = changeable(False)
    # <user>/<name>. Default: the name of output_dir.
    hub_model_id: str | None = changeable(None)
    # If the repository does not exist yet, create it private.
    hub_private_repo: bool = changeable(False)
    # Minutes that the end of the training waits for a Hub that is down.
    hub_wait_minutes: float = changeable(3.0)


# A dataclass takes the fields of its last base first.
@dataclass(frozen=True)
class TrainConfig(
    HubOptions,
    OutputOptions,
    MachineOptions,
    OptimizationOptions,
    DiffusionOptions,
    LabelOptions,
    NetworkOptions,
    DatasetOptions,
    RunOptions,
):
    """All options of a training run, flat."""

    def validate(self) -> None:
        """Reject impossible values.

        Raises:
            ValueError: the message names the flag, the value, and what is accepted.
        """
        need = functools.partial(need_option, self)
        if empty := next((name for name, value in vars(self).items() if value == ""), None):
            raise ValueError(f"--{empty}: the value is empty; give one, or leave it out")
        check_common(self)
        at_least_one = (
            "max_train_steps train_batch_size gradient_accumulation_steps layers_per_block norm_num_groups "
            "logging_steps validation_steps num_validation_images num_samples sample_steps checkpointing_steps "
            "checkpoints_total_limit"
        )
        for name in at_least_one.split():
            need(getattr(self, name) >= 1, name, "1 or more")
        not_negative = "max_train_minutes lr_warmup_steps weight_decay ema_half_life_images"
        for name in not_negative.split():
            need(getattr(self, name) >= 0, name, "0 or more")
        for name in ["learning_rate", "max_grad_norm", "hub_wait_minutes"]:
            need(getattr(self, name) < math.inf or math.isnan(getattr(self, name)), name, "a finite number")
            need(getattr(self, name) > 0, name, "more than 0")
        for name in ["sample_at_images", "sample_at_epochs"]:
            if bad := [moment for moment in getattr(self, name) if not 0 < moment < math.inf]:
                raise ValueError(f"--{name} {bad[0]}: {'a finite number' if bad[0] > 0 else 'more than 0'} is needed")
        need(self.weight_decay < 1, "weight_decay", "0 or more and less than 1")
        need(0 <= self.dropout < 1, "dropout", "0 or more and less than 1")
        need(0 <= self.label_dropout <= 1, "label_dropout", "0 to 1")
        need(0 < self.adam_beta2 < 1, "adam_beta2", "between 0 and 1")
        need(0 <= self.ema_ramp_up <= 1, "ema_ramp_up", "0 to 1")
        size = None if self.resolution is None else size_of(self.resolution)
        check_network(size, self.block_out_channels, self.attention_levels, self.norm_num_groups)
        need(
            self.loss_weighting == "simple" or self.prediction_type == "epsilon",
            "loss_weighting",
            "simple, or --prediction_type epsilon,",
        )
        need(
            self.variance_type != "learned_range" or self.prediction_type == "epsilon",
            "variance_type",
            "fixed_small, fixed_large, or --prediction_type epsilon,",
        )
        need(0 <= self.vlb_weight < math.inf, "vlb_weight", "0 or more")
        need(0 <= self.first_timestep_share < 1, "first_timestep_share", "0 or more and less than 1")
        low, high = LOG_SNR_RANGE
        for name in ("log_snr_max", "log_snr_min"):
            need(low <= getattr(self, name) <= high, name, f"{low:g} to {high:g}")
        need(self.log_snr_min < self.log_snr_max, "log_snr_min", f"less than --log_snr_max {self.log_snr_max:g}")
        need(24 <= self.num_train_timesteps <= MAX_TIMESTEPS, "num_train_timesteps", f"24 to {MAX_TIMESTEPS}")
        need(self.sample_steps <= self.num_train_timesteps, "sample_steps", f"at most {self.num_train_timesteps}")

    @property
    def directory(self) -> Path:
        """Folder for everything that the run writes."""
        return self.output_dir or Path("runs") / self.preset

    def to_json(self) -> dict[str, Any]:
        """Every option as a JSON value."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, options: dict[str, Any]) -> TrainConfig:
        """The reverse of `to_json`.

        Raises:
            ValueError: an option does not exist, or its value has another type or is none of its choices.
        """
        hints = get_type_hints(cls)
        if unknown := sorted(set(options) - set(hints)):
            few = ", ".join(name if name.isidentifier() else json.dumps(name)[:60] for name in unknown[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            raise ValueError(f"unknown option{'s' * (len(unknown) > 1)} {few}{more}")
        checked = {}
        for name, value in options.items():
            try:
                checked[name] = check_type(hints[name], value)
            except ValueError as error:
                raise ValueError(f"{name} is {json.dumps(value)[:100]}, and {error}") from None
        return cls(**checked)


def preset(name: str, **overrides: Any) -> TrainConfig:
    """The options of a preset, with some of them replaced.

    Raises:
        ValueError: there is no preset of this name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}: one of {', '.join(PRESETS)} is needed")
    options = {"preset": name, **PRESETS[name], **overrides}
    return TrainConfig(**options) if "sample_steps" in options else _capped(TrainConfig(**options))


def _capped(config: TrainConfig) -> TrainConfig:
    """The same options, with `sample_steps` at most T."""
    return dataclasses.replace(config, sample_steps=min(config.sample_steps, config.num_train_timesteps))


@dataclass(frozen=True)
class RunFlags(RunOptions):
    """Which run this is, and when it ends."""

    # train_config.json of an earlier run, whose options replace the preset's.
    config: Path | None = None


@dataclass(frozen=True)
class TrainFlags:
    """Train a denoising diffusion model (Ho et al. 2020). Flags accept _ and -."""

    run: RunFlags
    data: DatasetOptions
    network: NetworkOptions
    labels: LabelOptions
    diffusion: DiffusionOptions
    optimization: OptimizationOptions
    machine: MachineOptions
    output: OutputOptions
    hub: HubOptions


def parse(argv: list[str]) -> TrainConfig:
    """Options of train.py: those of `--config FILE` or `--preset NAME`, with all other flags laid over them.

    After `--help` it exits with status 0, after wrong usage with status 2 and one line on stderr.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--config", "--preset"):
        first.add_argument(flag, nargs="?")  # whether a value is missing is for parse_flags to say
    first.add_argument("--mixed_precision", "--mixed-precision", nargs="?")
    given, _ = first.parse_known_args(argv)
    with usage_errors("train.py"):
        base = preset(given.preset or "digits") if given.config is None else read_config(Path(given.config))
        options = flattened(parse_flags(argv, grouped(TrainFlags, base), "train.py"))
        options.pop("config")
        config = TrainConfig(**options)
        if not _flag("sample_steps", argv):
            config = _capped(config)
        try:
            config.validate()
        except ValueError as error:
            raise ValueError(f"{_blame(given.config, base, error)}{error}") from None
        if not config.class_conditional and (flag := _flag("label_dropout", argv)):
            raise ValueError(f"{flag}: pass --class_conditional, too; otherwise no label is learned")
        if config.variance_type != "learned_range" and (flag := _flag("vlb_weight", argv)):
            raise ValueError(f"{flag}: pass --variance_type learned_range, too; otherwise no variance is learned")
        if config.init_from is not None:
            _leave_to_model(config, argv)
        need_folder(config, "output_dir", config.directory)
        source = "--mixed_precision" if given.mixed_precision else "--config" if given.config else None
        decided = source and f"{source} says {config.mixed_precision}"  # a preset's value is only a default
        precision: Any = launchers_precision(config.mixed_precision, "train.py", decided)
    return dataclasses.replace(config, mixed_precision=precision)


def _leave_to_model(config: TrainConfig, argv: list[str]) -> None:
    """Raise a ValueError if a flag asks for what the model of `init_from` decides, since it would have no effect."""
    of_network = next(filter(None, (_flag(name, argv) for name in NETWORK)), None)
    if of_network:
        raise ValueError(f"{of_network}: the network is that of --init_from {config.init_from}; leave this flag out")
    # A variance type is compared with the model's once that is read, since --vlb_weight needs it.
    names = [name for name in SCHEDULE if name != "variance_type"]
    of_schedule = next(filter(None, (_flag(name, argv) for name in names)), None)
    if of_schedule and not config.new_schedule:
        raise ValueError(
            f"{of_schedule}: the noise schedule is that of --init_from {config.init_from}; leave this flag out, or "
            "pass --new_schedule to train with another one"
        )


def _flag(name: str, argv: list[str]) -> str | None:
    """The word that gives an option on the command line, without its value; None if it is not given."""
    words = (word.split("=", 1)[0] for word in argv)
    return next((word for word in words if word.replace("-", "_") == f"__{name}"), None)


def _blame(path: str | None, base: TrainConfig, error: ValueError) -> str:
    """Words before a message that name the file which an impossible value stands in; none if it is that of a flag."""
    try:
        base.validate()
    except ValueError as of_file:
        if path is not None and str(of_file) == str(error):
            return f"--config {path}: "
    return ""


def read_config(path: Path) -> TrainConfig:
    """The options in a train_config.json.

    Raises:
        ValueError: the file cannot be read, or is no train_config.json.
    """
    path = Path(at_home(str(path)))
    try:
        content = path.read_bytes()
        encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"  # as Windows writes
        stored = json.loads(content.decode(encoding))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ValueError(f"--config {path}: not a readable train_config.json ({reason})") from None
    options = stored.get("options", stored) if isinstance(stored, dict) else stored
    if not isinstance(options, dict):
        raise ValueError(f"--config {path}: not a train_config.json, which holds the options by name")
    try:
        return TrainConfig.from_json(options)
    except ValueError as error:
        raise ValueError(f"--config {path}: {error}") from None
