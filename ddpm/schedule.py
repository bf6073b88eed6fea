"""The forward process q(x_t | x_0) and everything of it that has a closed form.

Names and equation numbers are those of Ho et al. 2020 (arXiv 2006.11239). Timesteps are 0-based in code: index 0 is
the paper's t = 1, index T - 1 its t = T. `alpha_bar_prev[0]` is 1, the paper's alpha-bar at t = 0 (clean data).

All tables are float64: 1 - alpha_bar is 1e-4 at the first step, and float32 leaves it a relative error of 2e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

VARIANCE_TYPES = ("fixed_small", "fixed_large")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Tables of a diffusion with variances beta_1 ... beta_T.

    Args:
        beta: (T,) float64, each in (0, 1).
        variance_type: Sigma of the reverse process, section 3.2: "fixed_small" is beta-tilde_t, "fixed_large" beta_t.
    """

    beta: Tensor
    variance_type: str = "fixed_small"

    def __post_init__(self) -> None:
        beta = torch.as_tensor(self.beta, dtype=torch.float64, device="cpu")
        if beta.ndim != 1 or len(beta) < 2:
            raise ValueError(f"beta has shape {tuple(beta.shape)}: a vector of at least 2 variances is needed")
        if not bool(((beta > 0) & (beta < 1)).all()):
            raise ValueError(f"beta reaches from {beta.min():g} to {beta.max():g}: each must lie in (0, 1)")
        if self.variance_type not in VARIANCE_TYPES:
            raise ValueError(f"variance_type {self.variance_type!r}: one of {', '.join(VARIANCE_TYPES)} is needed")
        object.__setattr__(self, "beta", beta)

    @classmethod
    def linear(cls, num_steps: int = 1000, start: float = 1e-4, end: float = 0.02, **kwargs) -> NoiseSchedule:
        """The paper's schedule: beta linear from 1e-4 to 0.02 (section 4)."""
        return cls(torch.linspace(start, end, num_steps, dtype=torch.float64), **kwargs)

    @classmethod
    def from_scheduler(cls, scheduler) -> NoiseSchedule:
        """Tables of a diffusers scheduler, from its betas alone.

        Its own variance methods are not used: they clamp to 1e-20 at t = 0 and follow the strided grid once
        `set_timesteps` was called. A learned variance is read as fixed_small, which has the same mean.
        """
        variance_type = scheduler.config.get("variance_type", "fixed_small")
        if variance_type not in VARIANCE_TYPES:
            raise ValueError(f"variance_type {variance_type!r}: one of {', '.join(VARIANCE_TYPES)} is needed")
        return cls(scheduler.betas.double().cpu(), variance_type)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.beta)

    @cached_property
    def alpha(self) -> Tensor:
        """(T,) 1 - beta_t."""
        return 1 - self.beta

    @cached_property
    def alpha_bar(self) -> Tensor:
        """(T,) product of alpha_1 ... alpha_t: the share of variance that is still x_0's (Eq. 4)."""
        return torch.cumprod(self.alpha, 0)

    @cached_property
    def alpha_bar_prev(self) -> Tensor:
        """(T,) alpha_bar one step earlier; 1 at index 0."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def snr(self) -> Tensor:
        """(T,) alpha_bar / (1 - alpha_bar), the signal-to-noise ratio of x_t for data of unit variance."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> Tensor:
        """(T,) beta-tilde_t, the variance of q(x_{t-1} | x_t, x_0) (Eq. 7); 0 at index 0."""
        return self.beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> Tensor:
        """(T,) log beta-tilde_t, with index 0 (log 0) replaced by index 1, as in the authors' code."""
        return torch.log(torch.cat([self.posterior_variance[1:2], self.posterior_variance[1:]]))

    @cached_property
    def model_log_variance(self) -> Tensor:
        """(T,) log sigma_t^2 of p(x_{t-1} | x_t), fixed by `variance_type`; index 0 as in `posterior_log_variance`."""
        if self.variance_type == "fixed_small":
            return self.posterior_log_variance
        return torch.log(torch.cat([self.posterior_variance[1:2], self.beta[1:]]))

    @cached_property
    def kl_weight(self) -> Tensor:
        """(T,) w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)) in nats: what L_{t-1} multiplies
        |eps - eps_theta|^2 by (Eq. 12) and L_simple (Eq. 14) drops. Index 0 is formal: L_0 is no such term."""
        return self.beta**2 / (2 * self.model_log_variance.exp() * self.alpha * (1 - self.alpha_bar))

    def at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """`table[t]`, (B, 1, 1, 1) in the dtype and on the device of `like`; errors as in `q_sample`."""
        t = t.detach().cpu()
        if t.dtype != torch.int64 or bool(((t < 0) | (t >= self.num_steps)).any()):
            raise ValueError(f"t must be int64 in [0, {self.num_steps - 1}], got {t.dtype} {t.flatten()[:8].tolist()}")
        return table[t].to(like.dtype).to(like.device).reshape(-1, *[1] * (like.ndim - 1))

    def q_sample(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Eq. 4).

        Args:
            x0, eps: (B, C, H, W) float, x0 in [-1, 1], eps from N(0, I).
            t: (B,) int64, 0-based.
        Raises:
            ValueError: t outside [0, T).
        """
        return self.at(self.alpha_bar.sqrt(), t, x0) * x0 + self.at((1 - self.alpha_bar).sqrt(), t, x0) * eps

    def predict_x0(self, xt: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_0 from x_t and its noise, not clipped: Eq. 4 solved for x_0 (Eq. 15). Shapes and errors: `q_sample`."""
        return (xt - self.at((1 - self.alpha_bar).sqrt(), t, xt) * eps) / self.at(self.alpha_bar.sqrt(), t, xt)

    def predict_eps(self, xt: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The noise that takes x_0 to x_t: Eq. 4 solved for eps. Shapes and errors as in `q_sample`."""
        return (xt - self.at(self.alpha_bar.sqrt(), t, xt) * x0) / self.at((1 - self.alpha_bar).sqrt(), t, xt)

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022). Shapes as in `q_sample`."""
        return self.at(self.alpha_bar.sqrt(), t, x0) * eps - self.at((1 - self.alpha_bar).sqrt(), t, x0) * x0

    def posterior_mean(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Mean of q(x_{t-1} | x_t, x_0) (Eq. 7).

        Args:
            x0, xt: (B, C, H, W) float, x0 in [-1, 1].
            t: (B,) int64, 0-based.
        Raises:
            ValueError: t outside [0, T).
        """
        c0 = self.beta * self.alpha_bar_prev.sqrt() / (1 - self.alpha_bar)
        ct = (1 - self.alpha_bar_prev) * self.alpha.sqrt() / (1 - self.alpha_bar)
        return self.at(c0, t, x0) * x0 + self.at(ct, t, x0) * xt
