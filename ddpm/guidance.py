"""Sampling with labels, and classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598).

    eps_hat = eps_0 + s (eps_c - eps_0)

eps_0 is the network's answer without label and eps_c its answer with label c. The guidance scale s is 0 without label
and 1 for the plain class-conditional model; larger values exaggerate what the label changes. Ho & Salimans write w for
s - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm.names import MAX_SCALE
from ddpm.schedule import answer


class Guided:
    """eps_theta(x_t, t) of a class-conditional network for given labels, with guidance.

    Images with a scale of 0 or 1, or without a label, need one answer of the network, all others two; whatever the
    images need is one batch. Everything that decides an image's eps_hat is its own, so the images of a batch can have
    different labels and scales.

    Args:
        eps_theta: called as eps_theta(xt, t, labels), see `Engine`.
        labels: (B,) int64, the numbers of classes; -1 is "no label".
        scale: s, for all images or one for each; 0 to MAX_SCALE.
        interval: (t_low, t_high), both 0-based and included; at other timesteps s is 1 wherever it is more
            (Kynkäänniemi et al. 2024). None: all timesteps.
    Raises:
        ValueError: a scale or the interval is out of range, or there are not as many scales as images.
    """

    def __init__(
        self,
        eps_theta: Any,
        labels: Tensor,
        scale: float | Sequence[float] = 1.0,
        interval: tuple[int, int] | None = None,
    ) -> None:
        self.eps_theta, self.labels, self.interval = eps_theta, torch.as_tensor(labels).cpu(), interval
        given, count = torch.as_tensor(scale, dtype=torch.float32).cpu(), len(self.labels)
        if given.shape not in ((), (count,)):
            raise ValueError(f"guidance_scale has shape {tuple(given.shape)}: one number or {count} numbers are needed")
        check_scale(given.reshape(-1).tolist())
        self.scale = given.expand(count).clone()
        if bool((self.labels < -1).any()):
            raise ValueError(f"labels from {int(self.labels.min())}: 0 and more is possible, and -1 for no label")
        if interval is not None and not (all(int(t) == t for t in interval) and 0 <= interval[0] <= interval[1]):
            raise ValueError(f"guidance_interval {interval}: two timesteps, the lower one first, are needed")
        self.scale[self.labels < 0] = 0
        if hasattr(eps_theta, "device"):
            self.device = eps_theta.device

    def parts(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """eps_0 and eps_c, (B, C, H, W) each, and s (B,). A half that s does not need is a copy of the other."""
        return self._parts(xt, t, learned=False)[:3]

    def _parts(self, xt: Tensor, t: Tensor, learned: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """`parts`, and v of the class-conditional half (see `with_variance`), which is None unless it is `learned`."""
        scale = self.scale
        if self.interval is not None:
            inside = (t >= self.interval[0]) & (t <= self.interval[1])
            scale = torch.where(inside.to(scale.device), scale, scale.clamp(max=1))
        given, bare = torch.nonzero(scale != 0)[:, 0], torch.nonzero(scale != 1)[:, 0]
        which = torch.cat([given, bare])
        labels = torch.cat([self.labels[given], torch.full((len(bare),), -1)])
        at = which.to(xt.device)
        both, variances = answer(self.eps_theta, xt[at], t[at.to(t.device)], labels, learned=learned)
        given, bare = given.to(both.device), bare.to(both.device)
        eps_c, eps_0 = (torch.empty((len(xt), *both.shape[1:]), device=both.device) for _ in range(2))
        eps_c[bare], eps_0[given] = both[len(given) :], both[: len(given)]  # copies, unless they are replaced now
        eps_c[given], eps_0[bare] = both[: len(given)], both[len(given) :]
        v = None
        if variances is not None:
            v = torch.empty_like(eps_c)
            v[bare] = variances[len(given) :]
            v[given] = variances[: len(given)]
        return eps_0, eps_c, scale, v

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        """eps_hat, (B, C, H, W)."""
        return guided(*self.parts(xt, t))

    def with_variance(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """eps_hat and v, (B, C, H, W) each, of a network that predicts the variance.

        v is that of the answer with label, except where s is 0. Guidance exaggerates where the mean of a step goes, and
        not how uncertain the step is: an exaggerated log variance could leave the range between beta-tilde and beta,
        and make the noise too strong or too weak for the schedule.
        """
        *parts, v = self._parts(xt, t, learned=True)
        return guided(*parts), v


def guided(eps_0: Tensor, eps_c: Tensor, scale: Tensor) -> Tensor:
    """eps_hat (B, C, H, W) of the two answers of the network, (B, C, H, W) each, and s (B,)."""
    s = scale.to(eps_0.device).reshape(-1, 1, 1, 1)
    # Not lerp: at 0 and 1 this is the network's own answer, to the bit.
    return torch.where(s == 1, eps_c, eps_0 + s * (eps_c - eps_0))


def check_scale(scales: Sequence[float]) -> None:
    """Reject guidance scales that are not finite or out of range.

    Raises:
        ValueError: names the value and what is accepted.
    """
    for scale in scales:
        if not (math.isfinite(scale) and 0 <= scale <= MAX_SCALE):
            raise ValueError(f"guidance_scale {scale:g}: 0 (no label) to {MAX_SCALE:g} is possible; 1 is no guidance")


def labelled(
    eps_theta: Any,
    labels: Tensor | None,
    scale: float | Sequence[float],
    interval: tuple[int, int] | None,
    num_timesteps: int,
) -> Any:
    """`eps_theta` with labels and guidance; unchanged if there are no labels.

    Raises:
        ValueError: as `Guided`; a scale or an interval is given without labels; or the interval ends after the last
            timestep.
    """
    if interval is not None and interval[1] >= num_timesteps:
        raise ValueError(f"guidance_interval {interval}: 0 to {num_timesteps - 1} is possible")
    if labels is None:
        if interval is not None or not bool((torch.as_tensor(scale) == 1).all()):
            raise ValueError("guidance_scale and guidance_interval need labels")
        return eps_theta
    return Guided(eps_theta, labels, scale, interval)
