"""Pictures between bytes and tensors.

The browser has a picture as (H, W, C) uint8. The network sees pixel / 127.5 - 1, as (C, H, W) float32.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm.names import Size


def to_tensor(numbers: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Numbers in the order of `shape`, (H, W, C), as one image (1, C, H, W) float32."""
    return torch.from_numpy(numbers.reshape(shape)).permute(2, 0, 1)[None].float()


def pixels_to_tensor(pixels: bytes, shape: tuple[int, int, int]) -> Tensor:
    """An (H, W, C) uint8 picture as the network sees it, (1, C, H, W) float32: exactly pixel / 127.5 - 1."""
    return to_tensor(np.frombuffer(pixels, np.uint8).astype(np.float64) / 127.5 - 1, shape)


def to_bytes(images: Tensor, low: float, high: float) -> bytes:
    """(B, C, H, W) as (B, H, W, C) uint8, with [low, high] spread over 0 to 255 and everything beyond clipped."""
    scaled = ((images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes()


def thinned_size(size: Size, factor: int) -> Size:
    """The size of a picture of which `thinned` keeps one pixel out of `factor` along each side."""
    return -(-size[0] // factor), -(-size[1] // factor)


def thinned(images: Tensor, factor: int, smooth: bool) -> Tensor:
    """(B, C, H, W) pictures with 1 / factor of the pixels along each side, rounded up.

    Args:
        smooth: take the mean of the pixels that become one. Otherwise take every `factor`-th pixel, since the mean of
            noise would show less noise than there is.
    """
    if factor == 1:
        return images
    return F.avg_pool2d(images, factor, ceil_mode=True) if smooth else images[..., ::factor, ::factor]
