"""From options to a diffusers UNet2DModel in the shape of the paper's network (appendix B)."""

from __future__ import annotations

from diffusers import UNet2DModel
from torch import nn

from ddpm.config import check_network


def build_unet(
    resolution: int,
    channels: int,
    block_out_channels: tuple[int, ...],
    layers_per_block: int = 1,
    attention_levels: tuple[int, ...] = (),
    norm_num_groups: int = 8,
    dropout: float = 0.0,
) -> UNet2DModel:
    """A UNet2DModel with the paper's details where diffusers' defaults differ.

    Args:
        resolution: height and width in pixels, divisible by 2 ** (levels - 1).
        channels: of the image, 1 or 3.
        block_out_channels: width of each level, from full resolution down.
        attention_levels: levels with self-attention, 0 = full resolution; the middle block always has it.
    Raises:
        ValueError: a combination that the network cannot compute.
    """
    check_network(resolution, block_out_channels, attention_levels, norm_num_groups)
    attends = [level in attention_levels for level in range(len(block_out_channels))]
    unet = UNet2DModel(
        sample_size=resolution,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        norm_num_groups=norm_num_groups,
        dropout=dropout,
        # The paper's, where UNet2DModel's defaults are others; as in google/ddpm-cifar10-32.
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        downsample_padding=0,
    )
    # eps_hat = 0 at first, as in the authors' code: the loss starts at E|eps|^2 = 1, a free check of the whole path.
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet
