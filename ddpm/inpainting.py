"""Inpainting with a network that was trained without masks: RePaint (Lugmayr et al. 2022, arXiv 2201.09865).

A part of a picture is known, and the reverse process fills in the rest. After each step the known pixels are put back,
noised to the level of that step by the closed form (their Eq. 8). The rest then comes from a step that saw other noise
in the known pixels, so it fits them badly. Therefore the sampler jumps back to more noise and takes the same steps
again. Each time, what is filled in comes closer to what the known pixels leave open (their Algorithm 1).

The paper's names: r is how often each stretch of steps is taken, which is `jumps` + 1 here, so that `jumps` counts the
jumps back and 0 is none; j is the number of steps of a jump, here `jump_length`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.names import FILLING_SAMPLERS

JUMP_LENGTH = 10  # the j of the paper


def visits(num_steps: int, jumps: int, jump_length: int) -> list[int]:
    """The order in which the steps of a sampler are taken: the schedule of the paper's Algorithm 1 and its appendix.

    The sampler jumps back from every `jump_length`-th level of noise, counted from the last one before the clean
    picture, `jumps` times from each.

    Args:
        num_steps: of the sampler without jumps; step 0 is the noisiest.
        jump_length: 1 to num_steps - 1.
    Returns:
        Numbers of steps. Wherever one is not larger than the number before it, a jump lies between them.
    """
    left = dict.fromkeys(range(0, num_steps - jump_length, jump_length), jumps)
    order, level = [], num_steps - 1  # the level that a step starts from; level -1 is the clean picture
    while level >= 0:
        order.append(num_steps - 1 - level)
        level -= 1
        if left.get(level):
            left[level] -= 1
            level += jump_length
    return order


def fitting_length(jump_length: int | None, num_steps: int) -> int:
    """The steps of a jump: as asked for, or JUMP_LENGTH, or fewer where the sampler takes too few for that.

    Raises:
        ValueError: the sampler takes too few steps for it; the message says how many are possible.
    """
    if num_steps < 2:
        raise ValueError("jumps: at least 2 sampling steps are needed to jump back")
    if jump_length is None:
        return min(JUMP_LENGTH, num_steps - 1)
    if not 1 <= jump_length < num_steps:
        raise ValueError(f"jump_length {jump_length}: 1 to {num_steps - 1} is possible with {num_steps} sampling steps")
    return jump_length


def order_of(num_steps: int, jumps: int, jump_length: int | None) -> list[int]:
    """`visits` of checked arguments, or each step once if there are no jumps.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """
    if jumps < 0:
        raise ValueError(f"jumps {jumps}: 0 (none) or more is needed")
    if jumps == 0:
        return list(range(num_steps))
    return visits(num_steps, jumps, fitting_length(jump_length, num_steps))


class Known:
    """The known part of pictures, and the noise that it gets.

    Args:
        known: (C, H, W) or (B, C, H, W) float, x_0; its pixels under the mask are not used.
        mask: (H, W), the same for all pictures, or (B, 1, H, W) or (B, C, H, W); True or 1 where a pixel is to be
            filled in, False or 0 where it is known. The paper's m is 1 - mask.
        shape: (B, C, H, W) of the pictures.
        levels: alpha-bar before each step, from the noisiest on, and 1 for the clean picture behind them.
        draw: noise from N(0, I), (B, C, H, W), new at each call.
        device: where the pictures are.
    Raises:
        ValueError: one of both is missing or does not fit; the message says what is needed.
    """

    def __init__(
        self,
        known: Tensor | None,
        mask: Tensor | None,
        shape: tuple[int, ...],
        levels: list[float],
        draw: Callable[[], Tensor],
        device: torch.device | str,
    ) -> None:
        if known is None or mask is None:
            missing = "known" if known is None else "mask"
            raise ValueError(f"{missing} is missing: known, mask and jumps belong together")
        self._known = _fitted("known", known, shape).to(device=device, dtype=torch.float32)
        mask = torch.as_tensor(mask)
        if mask.ndim == 3 and len(mask) > 1:  # channels or pictures? They fit alike where there are as many
            raise ValueError(f"mask has shape {tuple(mask.shape)}: (H, W), (B, 1, H, W) or (B, C, H, W) is needed")
        mask = _fitted("mask", mask, shape)
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("mask: 0 (known) or 1 (to be filled in) is needed at each pixel")
        if not bool(torch.isfinite(self._known).all()):
            raise ValueError("known: finite numbers are needed")
        self._mask, self._levels, self._draw = mask.bool().to(device), levels, draw

    def put_back(self, x: Tensor, level: int) -> Tensor:
        """x with the known pixels put back, noised to a level: sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps (Eq. 8).

        At the last level, which is the clean picture, they are those of `known` to the bit.
        """
        alpha_bar, known = self._levels[level], self._known
        if alpha_bar < 1:
            known = alpha_bar**0.5 * known + (1 - alpha_bar) ** 0.5 * self._draw().to(x.device)
        return torch.where(self._mask, x, known)

    def jump(self, x: Tensor, level: int, back_to: int) -> Tensor:
        """A draw from q(x_t | x_s) for the noisier level t = `back_to`: all forward steps between the two at once."""
        ratio = self._levels[back_to] / self._levels[level]
        return ratio**0.5 * x + (1 - ratio) ** 0.5 * self._draw().to(x.device)


def _fitted(name: str, images: Tensor, shape: tuple[int, ...]) -> Tensor:
    images = torch.as_tensor(images)
    try:
        return images.expand(shape)
    except RuntimeError:
        raise ValueError(f"{name} has shape {tuple(images.shape)}, which does not fit {tuple(shape)}") from None


def check_sampler(sampler: str) -> None:
    """Reject a sampler that cannot fill in.

    Raises:
        ValueError: names the sampler and those that can.
    """
    if sampler not in FILLING_SAMPLERS:
        raise ValueError(
            f"sampler {sampler!r} cannot fill in, since it extrapolates from the step before, and known pixels change "
            f"between steps: one of {', '.join(FILLING_SAMPLERS)} is needed"
        )
