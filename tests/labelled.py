"""Class-conditional networks and models that have learnt nothing, in which every label makes a difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from ddpm.checkpoint import save
from ddpm.classes import separated
from ddpm.unet import build_unet

NAMES = ("ant", "bee", "cat")
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "clip_sample": True,
    "timestep_spacing": "trailing",
}


def vivid(unet: UNet2DModel) -> UNet2DModel:
    """The same network with weights drawn where training starts from zeros: the last layer, and the class vectors."""
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    if unet.class_embedding is not None:
        torch.nn.init.normal_(unet.class_embedding.weight)
    return unet


def network(num_classes: int = len(NAMES), seed: int = 0, **options: Any) -> UNet2DModel:
    """A network as it trains, with a table of class vectors, of which the last is "no label"."""
    torch.manual_seed(seed)
    shape = {"resolution": 8, "channels": 1, "block_out_channels": (8, 16), "norm_num_groups": 4} | options
    return vivid(build_unet(**shape, num_classes=num_classes)).eval().requires_grad_(False)


def make_labelled(directory: Path, names: Sequence[str] = NAMES, seed: int = 0, **options: Any) -> Path:
    """A model directory of such a network."""
    unet, classes = separated(network(len(names), seed, **options), names)
    save(directory, unet, SCHEDULER, classes)
    return directory
