"""Every option of training, its unit, its default, and the command line made of them.

Imports nothing heavy: `train.py --help` and wrong usage answer before torch is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints


def option(default: Any, group: str, help: str, *, resume: bool = False) -> Any:
    """A field of TrainConfig. `resume=True`: it does not alter the result, so it may change when a run is continued."""
    return field(default=default, metadata={"group": group, "help": help, "resume": resume})


def need_option(options: Any, ok: bool, name: str, accepted: str) -> None:
    """Refuse an option's value.

    Raises:
        ValueError: not `ok`; names the flag, the value, and what is accepted.
    """
    if not ok:
        raise ValueError(f"--{name} {getattr(options, name)!s}: {accepted} is needed")


def check_common(options: Any) -> None:
    """The options that training and evaluation share. Raises as `need_option`."""
    need = functools.partial(need_option, options)
    for name in ("seed", "num_cpu_threads"):
        need(getattr(options, name) >= 0, name, "0 or more")
    need(options.seed < 2**63, "seed", "less than 2**63")
    need(options.channels in (None, 1, 3), "channels", "1 or 3")
    need(options.resolution is None or 1 <= options.resolution <= 1024, "resolution", "1 to 1024 pixels")


def check_network(
    resolution: int | None, block_out_channels: tuple[int, ...], attention_levels: tuple[int, ...], groups: int
) -> None:
    """Refuse what UNet2DModel would only refuse deep inside a forward pass.

    Args:
        resolution: pixels; None where it is not known yet.
    Raises:
        ValueError: naming the value and what is accepted.
    """
    levels = len(block_out_channels)
    if not levels:
        raise ValueError("--block_out_channels: at least one width is needed")
    factor = 2 ** (levels - 1)
    if resolution is not None and resolution % factor:
        below, above = resolution // factor * factor, (resolution // factor + 1) * factor
        fits = next(n for n in range(levels, 0, -1) if resolution % 2 ** (n - 1) == 0)
        raise ValueError(
            f"resolution {resolution} cannot be halved {levels - 1} times: take --resolution "
            f"{f'{below} or ' if below else ''}{above}, or at most {fits} entries in --block_out_channels"
        )
    if bad := [c for c in block_out_channels if c <= 0 or c % groups]:
        raise ValueError(f"block_out_channels {bad}: not divisible by norm_num_groups {groups}")
    if bad := [level for level in attention_levels if not 0 <= level < levels]:
        raise ValueError(f"attention_levels {bad}: levels are 0 (full resolution) to {levels - 1}")


@dataclass(frozen=True)
class TrainConfig:
    """Train a denoising diffusion model (Ho et al. 2020). Flags accept _ and -."""

    preset: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = option(
        "digits", "run", "sets every option below; any of them can still be given"
    )
    output_dir: Path | None = option(None, "run", "where everything is written; default runs/<preset>", resume=True)
    seed: int = option(0, "run", "of weights, batches, timesteps, noise, flips and dropout")
    max_train_steps: int = option(4000, "run", "optimizer steps", resume=True)
    max_train_minutes: float = option(0.0, "run", "wall-clock limit in minutes, 0: none", resume=True)
    resume_from_checkpoint: str = option(
        "latest", "run", "latest, none (start afresh), or a folder of checkpoints/", resume=True
    )

    dataset_name: str = option("digits", "data", "digits, a Hub id, a folder that datasets reads, a folder of images")
    dataset_config_name: str | None = option(None, "data", "configuration of a Hub dataset")
    revision: str | None = option(None, "data", "branch, tag or commit of a Hub dataset")
    image_column: str | None = option(None, "data", "default: the column that holds images")
    train_split: str | None = option(None, "data", "default: train, or the only split")
    eval_split: str | None = option(None, "data", "default: test or validation, or 5 % held out of the training split")
    resolution: int | None = option(None, "data", "pixels; default: the data's own. Resizes the short side, crops")
    channels: int | None = option(None, "data", "1 or 3; default: the data's own")
    random_flip: bool = option(False, "data", "mirror half of the images left to right")

    block_out_channels: tuple[int, ...] = option((32, 64), "network", "width of each level, full resolution first")
    layers_per_block: int = option(1, "network", "residual blocks a level")
    attention_levels: tuple[int, ...] = option(
        (), "network", "levels with attention beside the middle block's, 0 first"
    )
    norm_num_groups: int = option(8, "network", "groups of group normalisation; divides every width")
    dropout: float = option(0.0, "network", "probability, in the residual blocks")

    num_train_timesteps: int = option(1000, "diffusion", "T; linear betas are scaled by 1000 / T")
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = option(
        "linear", "diffusion", "linear: 1e-4 to 0.02 as in the paper; squaredcos_cap_v2: the cosine schedule"
    )
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = option(
        "epsilon", "diffusion", "what the network predicts: the noise, x_0, or v"
    )
    loss_weighting: Literal["simple", "kl"] = option(
        "simple", "diffusion", "simple: every t alike (Eq. 14); kl: the weights of the bound (Eq. 12), for comparison"
    )
    variance_type: Literal["fixed_small", "fixed_large"] = option(
        "fixed_small", "diffusion", "sampling variance: beta-tilde (fixed_small) or beta (fixed_large)"
    )

    train_batch_size: int = option(64, "optimization", "images per process and micro-batch")
    gradient_accumulation_steps: int = option(1, "optimization", "micro-batches per optimizer step")
    learning_rate: float = option(2e-3, "optimization", "peak, of AdamW")
    lr_warmup_steps: int = option(100, "optimization", "optimizer steps of linear warm-up")
    lr_schedule: Literal["constant", "cosine"] = option("cosine", "optimization", "after warm-up; cosine ends at 0")
    adam_beta2: float = option(0.99, "optimization", "decay of AdamW's second moment; its first is 0.9")
    weight_decay: float = option(0.0, "optimization", "of AdamW, per step and unit of learning rate")
    max_grad_norm: float = option(1.0, "optimization", "gradients are scaled down to this norm")
    ema_half_life_images: int = option(20_000, "optimization", "of the averaged weights, in images; 0: no averaging")
    ema_ramp_up: float = option(0.05, "optimization", "half-life at most this share of the images seen; 0: no ramp")

    mixed_precision: Literal["no", "fp16", "bf16"] = option(
        "no", "machine", "of the network; noising, loss and averaged weights stay float32"
    )
    compile: bool = option(False, "machine", "torch.compile the network")
    num_cpu_threads: int = option(
        0, "machine", "per process on the CPU; 0: physical cores / local processes", resume=True
    )

    logging_steps: int = option(25, "output", "optimizer steps between rows of metrics.jsonl", resume=True)
    validation_steps: int = option(500, "output", "optimizer steps between validations and sample grids", resume=True)
    num_validation_images: int = option(
        1024, "output", "held-out (image, timestep, noise) triples of val_loss", resume=True
    )
    num_samples: int = option(36, "output", "images in a sample grid", resume=True)
    sample_steps: int = option(250, "output", "ancestral steps of the sample grids while training", resume=True)
    checkpointing_steps: int = option(500, "output", "optimizer steps between saved training states", resume=True)
    checkpoints_total_limit: int = option(2, "output", "training states kept, the newest ones", resume=True)
    plots: bool = option(True, "output", "draw training.png and strip.png", resume=True)
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = option(
        "none", "output", "tracker, besides metrics.jsonl and the plots", resume=True
    )

    push_to_hub: bool = option(
        False, "hub", "push now and then, and the result; the token is HF_TOKEN or the stored login", resume=True
    )
    hub_model_id: str | None = option(None, "hub", "<user>/<name>; default: the name of output_dir", resume=True)
    hub_private_repo: bool = option(False, "hub", "create the repository private", resume=True)

    def validate(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: names the flag, the value, and what is accepted.
        """

        need = functools.partial(need_option, self)
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
        for name in ["learning_rate", "max_grad_norm"]:
            need(0 < getattr(self, name) < math.inf, name, "more than 0")
        need(self.weight_decay < 1, "weight_decay", "0 or more and less than 1")
        need(0 <= self.dropout < 1, "dropout", "0 or more and less than 1")
        need(0 < self.adam_beta2 < 1, "adam_beta2", "between 0 and 1")
        need(0 <= self.ema_ramp_up <= 1, "ema_ramp_up", "0 to 1")
        check_network(self.resolution, self.block_out_channels, self.attention_levels, self.norm_num_groups)
        need(
            self.loss_weighting == "simple" or self.prediction_type == "epsilon",
            "loss_weighting",
            "simple, or --prediction_type epsilon,",
        )
        need(24 <= self.num_train_timesteps <= 10_000, "num_train_timesteps", "24 to 10000")
        need(self.sample_steps <= self.num_train_timesteps, "sample_steps", f"at most {self.num_train_timesteps}")

    @property
    def directory(self) -> Path:
        """Where everything is written."""
        return self.output_dir or Path("runs") / self.preset

    def to_json(self) -> dict[str, Any]:
        """Every option, as JSON holds it."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, options: dict[str, Any]) -> TrainConfig:
        """The reverse of `to_json`.

        Raises:
            ValueError: an option that does not exist.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(f"unknown options {', '.join(unknown)}")
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        if options.get("output_dir"):
            options["output_dir"] = Path(options["output_dir"])
        return cls(**options)


_MNIST = {
    "dataset_name": "ylecun/mnist",
    "block_out_channels": (24, 48, 96),
    "train_batch_size": 64,
    "max_train_steps": 14_000,
    "learning_rate": 2e-3,
    "lr_warmup_steps": 200,
    "ema_half_life_images": 50_000,
    "mixed_precision": "bf16",
    "validation_steps": 1000,
    "checkpointing_steps": 500,
}

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"dataset_name": "digits"},  # TrainConfig's own defaults
    "mnist": _MNIST,
    "fashion_mnist": {**_MNIST, "dataset_name": "zalando-datasets/fashion_mnist"},
    # The network and settings of section 4 and appendix B: 35.7 M parameters.
    "cifar10": {
        "dataset_name": "uoft-cs/cifar10",
        "random_flip": True,
        "block_out_channels": (128, 256, 256, 256),
        "layers_per_block": 2,
        "attention_levels": (1,),
        "norm_num_groups": 32,
        "dropout": 0.1,
        "variance_type": "fixed_large",
        "train_batch_size": 128,
        "max_train_steps": 800_000,
        "learning_rate": 2e-4,
        "lr_warmup_steps": 5000,
        "lr_schedule": "constant",
        "adam_beta2": 0.999,
        "ema_half_life_images": 887_000,  # a decay of 0.9999 a step of 128
        "mixed_precision": "bf16",
        "compile": False,
        "logging_steps": 100,
        "validation_steps": 10_000,
        "checkpointing_steps": 5000,
        "num_samples": 64,
    },
}


# Held-out loss (EMA) at the end of each preset's run as its README tells it, and the start of its data's fingerprint.
REFERENCE_VAL_LOSS: dict[str, tuple[str, float]] = {
    "digits": ("b41ca9fd33", 0.0754),
    "mnist": ("a413357c81", 0.0218),
}


def reference_val_loss(preset: str, fingerprint: str) -> float | None:
    """The preset's own held-out loss where `fingerprint` is of the preset's own data, otherwise None."""
    start, value = REFERENCE_VAL_LOSS.get(preset, (None, None))
    return value if start and fingerprint.startswith(start) else None


def preset(name: str, **overrides: Any) -> TrainConfig:
    """The options of a preset, some of them replaced."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}: one of {', '.join(PRESETS)} is needed")
    return TrainConfig(preset=name, **{**PRESETS[name], **overrides})


def _flag_value(argv: list[str], name: str) -> str | None:
    for i, word in enumerate(argv):
        if word == f"--{name}" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"--{name}="):
            return word.split("=", 1)[1]
    return None


def parse(argv: list[str]) -> TrainConfig:
    """Options of train.py: `--config FILE` or `--preset NAME` first, flags over it. Exits as `parse_flags` does."""
    with usage_errors("train.py"):
        text = "train_config.json of an earlier run, instead of a preset; flags are laid over it"
        config = parse_flags(argv, _base(argv), "train.py", {"config": ("run", Path | None, None, text)})
        config.validate()
    return config


@contextlib.contextmanager
def usage_errors(prog: str) -> Iterator[None]:
    """Exit with status 2 and one line on stderr for a ValueError."""
    try:
        yield
    except ValueError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _base(argv: list[str]) -> TrainConfig:
    """The defaults that the flags are laid over."""
    path = _flag_value(argv, "config")
    if path is None:
        return preset(_flag_value(argv, "preset") or "digits")
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        return TrainConfig.from_json(stored.get("options", stored))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"--config {path}: not a readable train_config.json ({error})") from None


def parse_flags(argv: list[str], base: Any, prog: str, extra: dict[str, tuple[str, Any, Any, str]] | None = None):
    """Flags laid over `base`, an instance of a dataclass of `option` fields, by group; exits with 0 after `--help`.

    Args:
        extra: flags that are no field, for `--help` only: (group, type, default, help) by name.
    Raises:
        ValueError: what is not understood, in one line.
    """
    import tyro

    # tyro groups by nesting, so the flat dataclass is dealt into one per group, and gathered again afterwards.
    kind = type(base)
    hints, groups = get_type_hints(kind, include_extras=True), {}
    flags = [
        (f.name, f.metadata["group"], hints[f.name], getattr(base, f.name), f.metadata["help"])
        for f in dataclasses.fields(kind)
    ]
    flags += [(name, *rest) for name, rest in (extra or {}).items()]
    for name, group, hint, default, help in flags:
        of_field = {} if default is dataclasses.MISSING else {"default": default}
        groups.setdefault(group, []).append((name, Annotated[hint, tyro.conf.arg(help=help)], field(**of_field)))
    _refuse_unknown(argv, [name for name, *_ in flags])
    parts = [(name, dataclasses.make_dataclass(name, specs)) for name, specs in groups.items()]
    nested = dataclasses.make_dataclass("Options", [(name, part) for name, part in parts])
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            options = tyro.cli(tyro.conf.OmitArgPrefixes[nested], args=argv, prog=prog, description=kind.__doc__)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_first_sentence(messages.getvalue())) from None
    values = {}
    for name, _ in parts:
        values |= vars(getattr(options, name))
    return kind(**{name: value for name, value in values.items() if name not in (extra or {})})


def _first_sentence(box: str) -> str:
    """What tyro's framed message says before its first rule, in one line."""
    lines = []
    for line in box.splitlines()[1:]:
        text = line.strip("│ ")
        if text.startswith(("─", "╰")):
            break
        lines.append(text)
    return " ".join(lines) or box.strip()


def _refuse_unknown(argv: list[str], names: list[str]) -> None:
    """One line for a misspelt flag, with the nearest one."""
    for word in argv:
        if word.startswith("--") and word != "--help":
            name = word[2:].split("=", 1)[0].replace("-", "_")
            if name not in names and name.removeprefix("no_") not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise ValueError(
                    f"unknown option {word}" + (f"; did you mean --{near[0]}?" if near else "; see --help")
                )
