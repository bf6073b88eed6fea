"""`--init_from`: a training that starts from the weights, the network and the schedule of a model."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddpm.checkpoint import Checkpoint
from ddpm.config import TrainConfig
from ddpm.hub.pull import pull
from ddpm.processes import on_main
from ddpm.training import state
from ddpm.training.recipe import make_scheduler
from ddpm.unet import build_unet

log = logging.getLogger(__name__)

Build = Callable[..., nn.Module]

ADOPTED = (
    "block_out_channels",
    "layers_per_block",
    "attention_levels",
    "norm_num_groups",
    "num_train_timesteps",
    "beta_schedule",
    "log_snr_max",
    "log_snr_min",
    "variance_type",
    "sample_steps",
)
"""The options that come from the model. What it predicts must match the flag; the data's shape must match the model."""


def start_from(config: TrainConfig, build: Build, accelerator: Accelerator) -> tuple[TrainConfig, Build]:
    """The options and the network of a training with `init_from`; without it, what was given.

    A run that is continued takes both from its own folder, so that it needs neither the model nor the Hub.

    Returns:
        The config with the model's network and schedule; and `build`, which also loads the model's weights.
    Raises:
        ValueError: there is no such model, or this program cannot train it; one line.
    """
    if config.init_from is None:
        return config, build
    adopted, weights, shape = on_main(accelerator, lambda: _read(config))
    config = dataclasses.replace(config, **adopted)
    config.validate()
    if weights is None:
        return config, build

    def built(**network: Any) -> nn.Module:
        found = (network["resolution"], network["channels"])
        if found != shape:
            raise ValueError(
                f"--init_from {config.init_from} is for images of {shape[0]}x{shape[0]}x{shape[1]}, and these are "
                f"{found[0]}x{found[0]}x{found[1]}: pass --resolution {shape[0]} --channels {shape[1]}"
            )
        unet = build(**network)
        unet.load_state_dict(weights)
        return unet

    return config, built


def _read(config: TrainConfig) -> tuple[dict[str, Any], dict[str, Tensor] | None, tuple[int, int]]:
    """The options that come from the model, its weights (None if the run is continued), and (resolution, channels)."""
    states = state.folders(config.directory / "checkpoints")
    if states and config.resume_from_checkpoint != "none":
        try:
            options = json.loads((states[-1] / state.META).read_text(encoding="utf-8"))["options"]
            before = TrainConfig.from_json(options)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # damaged: whatever is found out about the state later names it
        else:
            return {name: getattr(before, name) for name in ADOPTED}, None, (0, 0)
    model = pull(config.init_from or "")
    log.info("Starting from the weights, the network and the noise schedule of %s", model.name)
    adopted = _network_of(model) | _schedule_of(model, config)
    return adopted, model.unet.state_dict(), (model.resolution, model.channels)


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
        ours = build_unet(model.resolution, model.channels, **options).config
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
        ValueError: no options do, or the model predicts something else than `config` says.
    """
    found = model.scheduler.config
    predicts = found["prediction_type"]
    if predicts != config.prediction_type:
        raise ValueError(
            f"--prediction_type {config.prediction_type}: the model of --init_from predicts {predicts}; "
            f"pass --prediction_type {predicts}"
        )
    schedule = model.schedule
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
        "squaredcos_cap_v2 and log_snr, with which this program trains"
    )
