"""`--init_from`: a training that starts from the weights, the network and the schedule of a model.

A checkpoint is a network without labels, and of a class-conditional model also a vector for each class, see
`ddpm.classes`. So a network with a table of vectors starts from any model: "no label" is the network as it is, with a
vector of zeros, and each class starts from the model's vector for that name, or from "no label".
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddpm.checkpoint import Checkpoint
from ddpm.class_names import shortened
from ddpm.classes import Classes
from ddpm.config import NETWORK, SCHEDULE, TrainConfig, TrainedVariance
from ddpm.hub.pull import pull
from ddpm.names import counted, size_name
from ddpm.processes import on_main
from ddpm.training import state
from ddpm.training.recipe import make_scheduler
from ddpm.unet import build_unet

log = logging.getLogger(__name__)

Build = Callable[..., nn.Module]


@dataclass(frozen=True, eq=False)
class Initial:
    """What a training starts from.

    Attributes:
        name: of the model, as `init_from` gives it.
        weights: of its network without labels.
        shape: (height, width, channels) of its images.
        classes: those that it knows; None if it has no labels.
    """

    name: str
    weights: dict[str, Tensor]
    shape: tuple[int, int, int]
    classes: Classes | None

    def loaded(self, build: Build, class_names: Sequence[str], speaks: bool) -> Build:
        """`build`, which also loads the weights.

        Args:
            class_names: of the classes that will be learned, if the network has some.
            speaks: whether this process logs what becomes of the labels.
        """

        def built(**network: Any) -> nn.Module:
            *size, channels = self.shape
            side = network["resolution"]
            found = [*([side, side] if isinstance(side, int) else side), network["channels"]]
            if found != [*size, channels]:
                wanted, have = ("x".join(map(str, shape)) for shape in (self.shape, found))
                raise ValueError(
                    f"--init_from {self.name} is for images of {wanted}, and these are {have}: pass --resolution "
                    f"{size_name((size[0], size[1]))} --channels {channels}"
                )
            unet = build(**network)
            weights = self._with_outputs(network["channels"] * (2 if network.get("learned_variance") else 1))
            learned = class_names if network.get("num_classes") else ()
            if learned:
                width = len(weights["time_embedding.linear_2.bias"])
                weights["class_embedding.weight"] = self._table(learned, width)
            unet.load_state_dict(weights)
            if speaks and (line := self._about_labels(learned)):
                log.info("%s", line)
            return unet

        return built

    def _with_outputs(self, channels: int) -> dict[str, Tensor]:
        """The weights for so many output channels: a variance that was not learned yet starts in the middle of its
        range, where v is 0, and one that is no longer learned is left out."""
        weights = dict(self.weights)
        for name in ("conv_out.weight", "conv_out.bias"):
            grown = weights[name].new_zeros(channels, *weights[name].shape[1:])
            shared = min(channels, len(weights[name]))
            grown[:shared] = weights[name][:shared]
            weights[name] = grown
        return weights

    def _table(self, names: Sequence[str], width: int) -> Tensor:
        """(K + 1, width): the vectors of the classes, and that of "no label"."""
        table = torch.zeros(len(names) + 1, width)
        for row, name in enumerate(names):
            if self.classes and name in self.classes.names:
                table[row] = self.classes.vectors[self.classes.names.index(name)]
        return table

    def _about_labels(self, names: Sequence[str]) -> str:
        """What becomes of the model's labels, in one sentence; empty if it has none and none are learned."""
        known = self.classes.names if self.classes else ()
        if not names and not known:
            return ""
        if not known:
            return f"{self.name} has no labels: all {counted(len(names), 'class')} start from its network as it is"
        always = self.classes.unlabelled if self.classes else None
        bare = "its network without label" if always is None else f"its network for label {always}"
        if not names:
            gone = f"{counted(len(known), 'class')} of {self.name}"
            return f"Without --class_conditional, the {gone} are given up, and {bare} is trained on"
        new = [shortened(name) for name in names if name not in known]
        line = f"{len(names) - len(new)} of {counted(len(names), 'class')} start from their vectors in {self.name}"
        if new:
            line += f"; these are new and start from {bare}: {', '.join(new[:8])}{' ...' if len(new) > 8 else ''}"
        return line


def start_from(config: TrainConfig, accelerator: Accelerator) -> tuple[TrainConfig, Initial | None]:
    """The options of a training with `init_from`, and what it starts from; without it, the options that were given.

    A run that is continued takes the options from its own folder, so that it needs neither the model nor the Hub.

    Returns:
        The config with the model's network and schedule; and the model's weights, None if the run is continued.
    Raises:
        ValueError: there is no such model, or this program cannot train it; one line.
    """
    if config.init_from is None:
        if config.new_schedule:
            raise ValueError("--new_schedule: pass --init_from MODEL, too; otherwise every schedule is new")
        return config, None
    adopted, initial = on_main(accelerator, lambda: _read(config))
    config = dataclasses.replace(config, **adopted)
    config.validate()
    return config, initial


def _read(config: TrainConfig) -> tuple[dict[str, Any], Initial | None]:
    """The options that come from the model, and the model; None if the run is continued."""
    states = state.folders(config.directory / "checkpoints")
    if states and config.resume_from_checkpoint != "none":
        try:
            options = json.loads((states[-1] / state.META).read_text(encoding="utf-8"))["options"]
            before = TrainConfig.from_json(options)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # damaged: whatever is found out about the state later names it
        else:
            names = NETWORK if config.new_schedule else (*NETWORK, *SCHEDULE, "sample_steps")
            return {name: getattr(before, name) for name in names}, None
    model = pull(config.init_from or "")
    adopted = _network_of(model)
    _check_prediction(model, config)
    if config.new_schedule:
        log.info(
            "Starting from the weights and the network of %s, with the noise schedule of these options", model.name
        )
    else:
        schedule = _schedule_of(model, config)
        _check_schedule(schedule, config, model.name)
        log.info(
            "Starting from the weights, the network and the noise schedule (%s, variance %s) of %s",
            schedule["beta_schedule"],
            schedule["variance_type"],
            model.name,
        )
        adopted |= schedule
    shape = (*model.size, model.channels)
    return adopted, Initial(str(config.init_from), model.unet.state_dict(), shape, model.classes)


def _network_of(model: Checkpoint) -> dict[str, Any]:
    """The options that make the model's network.

    Raises:
        ValueError: no options do.
    """
    made = model.unet.config
    options = {
        "block_out_channels": tuple(made["block_out_channels"]),
        "layers_per_block": made["layers_per_block"],
        "attention_levels": tuple(i for i, kind in enumerate(made["down_block_types"]) if kind.startswith("Attn")),
        "norm_num_groups": made["norm_num_groups"],
    }
    with torch.device("meta"):
        ours = build_unet(model.size, model.channels, **options, learned_variance=model.schedule.learned).config
    ignored = {"dropout", "sample_size", "num_train_timesteps"}  # they change no weight
    for key in sorted(set(ours) - ignored):
        mine, theirs = (list(v) if isinstance(v, tuple) else v for v in (ours[key], made.get(key)))
        if not key.startswith("_") and mine != theirs:
            raise ValueError(
                f"--init_from {model.name}: its network has {key} {theirs}; this program trains networks with {mine}"
            )
    return options


def _schedule_of(model: Checkpoint, config: TrainConfig) -> dict[str, Any]:
    """The options that make the model's noise schedule.

    Raises:
        ValueError: no options do.
    """
    schedule = model.schedule
    if schedule.variance_type == "learned":
        raise ValueError(
            f"--init_from {model.name}: its variance_type is learned, which this program does not train; one of "
            f"{', '.join(get_args(TrainedVariance))} is needed"
        )
    log_snr = torch.log(schedule.alpha_bar / (1 - schedule.alpha_bar))[[0, -1]].tolist()
    shared = {"num_train_timesteps": schedule.num_steps, "variance_type": schedule.variance_type}
    shared["sample_steps"] = min(config.sample_steps, schedule.num_steps)
    for name in ("linear", "scaled_linear", "squaredcos_cap_v2", "log_snr"):
        options = shared | {"beta_schedule": name}
        if name == "log_snr":
            options |= {"log_snr_max": round(log_snr[0], 3), "log_snr_min": round(log_snr[1], 3)}
        beta = make_scheduler(dataclasses.replace(config, **options)).betas.double()
        if torch.allclose(beta, schedule.beta, rtol=1e-4, atol=0):
            return options
    raise ValueError(
        f"--init_from {model.name}: its betas belong to none of the schedules linear (1e-4 to 0.02), scaled_linear, "
        "squaredcos_cap_v2 and log_snr, with which this program trains; --new_schedule trains with another one"
    )


def _check_prediction(model: Checkpoint, config: TrainConfig) -> None:
    """Raise a ValueError if the model predicts something else than `config` says."""
    predicts = model.scheduler.config["prediction_type"]
    if predicts != config.prediction_type:
        raise ValueError(
            f"--prediction_type {config.prediction_type}: the model of --init_from predicts {predicts}; "
            f"pass --prediction_type {predicts}"
        )


def _check_schedule(found: dict[str, Any], config: TrainConfig, name: str) -> None:
    """Raise a ValueError if `config`, a preset for example, asks for another schedule than the model's."""
    plain = TrainConfig()
    for option in SCHEDULE:
        wanted = getattr(config, option)
        if option in found and wanted not in (getattr(plain, option), found[option]):
            raise ValueError(
                f"--{option} {wanted}: {name} has {found[option]}; pass --new_schedule to train it with another noise "
                "schedule or variance"
            )
