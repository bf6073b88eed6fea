"""Builds the paper's network (appendix B) from options, as a UNet2DModel of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from ddpm.checks import check_network


def build_unet(
    resolution: int | Sequence[int],
    channels: int,
    block_out_channels: tuple[int, ...],
    layers_per_block: int = 1,
    attention_levels: tuple[int, ...] = (),
    norm_num_groups: int = 8,
    dropout: float = 0.0,
    num_classes: int = 0,
    learned_variance: bool = False,
) -> UNet2DModel:
    """A UNet2DModel with the paper's settings where the defaults of diffusers differ.

    At first it predicts eps_hat = 0, as in the authors' code. So the loss starts at E|eps|^2 = 1, which is a free check
    of everything between the data and the loss.

    Args:
        resolution: side of a square image in pixels, or height and width, divisible by 2 ** (levels - 1).
        channels: 1 or 3 colour channels.
        block_out_channels: width of each level, full resolution first; divisible by `norm_num_groups`.
        layers_per_block: residual blocks per level.
        attention_levels: levels with self-attention, 0 is full resolution; the middle block always has it.
        norm_num_groups: groups of each group normalisation.
        dropout: probability, in the residual blocks.
        num_classes: K, the classes of a class-conditional network, which takes numbers from 0 to K as `class_labels`;
            the last means "no label". 0: the network takes none. At first all classes have the same vector, zero.
        learned_variance: the output has twice as many channels: eps_hat, and v, which decides the variance of each
            pixel (see `NoiseSchedule.learned_log_variance`). At first v is 0.
    Raises:
        ValueError: the network cannot compute this combination.
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    check_network((height, width), block_out_channels, attention_levels, norm_num_groups)
    attends = [level in attention_levels for level in range(len(block_out_channels))]
    unet = UNet2DModel(
        sample_size=height if height == width else (height, width),
        in_channels=channels,
        out_channels=2 * channels if learned_variance else channels,
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        norm_num_groups=norm_num_groups,
        dropout=dropout,
        num_class_embeds=num_classes + 1 if num_classes else None,
        # The paper's settings, as in google/ddpm-cifar10-32; the defaults of UNet2DModel are others.
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        downsample_padding=0,
    )
    for parameter in unet.conv_out.parameters():
        nn.init.zeros_(parameter)
    if num_classes:
        nn.init.zeros_(unet.class_embedding.weight)  # pyright: ignore[reportArgumentType, reportOptionalMemberAccess]
    return unet


class InputConvolution(nn.Conv2d):
    """The first convolution, in float32 whatever autocast and a GPU's matrix units say.

    bfloat16 has 8 binary digits: near 1 it cannot tell neighbouring pixel values apart, nor x_t from x_0 where the
    noise is weaker than 0.004, as in the first steps of the log_snr schedule. TF32, with which a GPU computes
    convolutions of float32 by default, has 11.
    """

    def forward(self, xt: Tensor) -> Tensor:
        with torch.autocast(xt.device.type, enabled=False):
            return self._in_parts(xt.float()) if xt.device.type == "cuda" else super().forward(xt.float())

    def _in_parts(self, xt: Tensor) -> Tensor:
        """x w = x_high w_high + x_high w_low + x_low w_high, where the high parts have 11 binary digits and are exact
        in TF32. At most 2^-18 of a product is lost; sums are in float32 anyway."""
        (x_high, x_low), (w_high, w_low) = (_halves(values) for values in (xt, self.weight))
        x, weight = torch.cat([x_high, x_high, x_low], 1), torch.cat([w_high, w_low, w_high], 1)
        return self._conv_forward(x, weight, self.bias)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first 11 binary digits of float32 values, and what is left; their sum has the gradient of the values.

    The digits are cut off bit by bit, because torch.compile may leave out a rounding to another type and back.
    """
    given = values.detach()
    high = values + ((given.view(torch.int32) & -8192).view(torch.float32) - given)
    return high, values - high


def keep_input_precision(unet: nn.Module) -> None:
    """Let a network see x_t in float32 under autocast. Names, shapes and values of its weights stay as they are."""
    first: Any = getattr(unet, "conv_in", None)
    if type(first) is nn.Conv2d:
        first.__class__ = InputConvolution  # a wrapper around it would change the names of the weights
