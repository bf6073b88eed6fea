"""The forward process q(x_t | x_0) and every quantity of it that has a closed form.

Names and equation numbers are those of Ho et al. 2020 (arXiv 2006.11239). Timesteps are 0-based in code: index 0 is
the paper's t = 1, and index T - 1 is its t = T. `alpha_bar_prev[0]` is 1, the paper's alpha-bar at t = 0 (clean data).

All tables are float64: 1 - alpha_bar is 1e-4 at the first step, where float32 has a relative error of 2e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddpm.names import LEARNED_VARIANCES, OPTIMAL, VARIANCE_TYPES

EpsTheta = Callable[[Tensor, Tensor], Tensor]
"""eps_theta(x_t, t): takes (B, C, H, W) float x_t and (B,) int64 t, 0-based; returns the predicted noise, (B, C, H, W).
"""

LabelledEpsTheta = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps_theta(x_t, t, label): the same for a class-conditional network; (B,) int64 labels, -1 is "no label"."""


def answer(
    eps_theta: Callable[..., Tensor], xt: Tensor, t: Tensor, *labels: Tensor, learned: bool
) -> tuple[Tensor, Tensor | None]:
    """eps_hat, and v of a network that predicts the variance (see `NoiseSchedule.learned_log_variance`).

    Args:
        eps_theta: as `EpsTheta` or `LabelledEpsTheta`. For v it needs a method `with_variance`, as an `Engine` has.
        learned: whether v is needed. Otherwise it is None.
    Raises:
        ValueError: v is needed, and `eps_theta` has none.
    """
    if not learned:
        return eps_theta(xt, t, *labels), None
    both = getattr(eps_theta, "with_variance", None)
    eps_hat, v = both(xt, t, *labels) if both else (None, None)
    if eps_hat is None or v is None:
        raise ValueError("the variance is learned, and eps_theta does not predict one: an Engine does")
    return eps_hat, v


class Joined:
    """eps_theta with a method `with_variance`, of a function that returns eps_hat and v as one tensor.

    Args:
        both: called as eps_theta; returns (B, 2 C, H, W), or (B, C, H, W) if the network predicts no variance.
        scale: (B,) the guidance scales that are in its eps_hat, see `ddpm.guidance.Guided`. None: there is no guidance.
    """

    def __init__(self, both: Callable[..., Tensor], scale: Tensor | None = None) -> None:
        self.both, self.scale = both, scale

    def __call__(self, xt: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        return self.with_variance(xt, t, *labels)[0]

    def with_variance(self, xt: Tensor, t: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """eps_hat and v, (B, C, H, W) each, or eps_hat and None."""
        both, channels = self.both(xt, t, *labels), xt.shape[1]
        return (both[:, :channels], both[:, channels:]) if both.shape[1] == 2 * channels else (both, None)


@dataclass(frozen=True, eq=False)
class Errors:
    """How far a network's x_0 is from the true one at each timestep. The optimal variance follows from it.

    Attributes:
        x0_mse: (T,) float64, E|x_0 - x0_hat|^2, averaged over dimensions; x0_hat is clipped as in sampling.
        decoder_log_variance: (T,) float64, the log sigma^2 with which N(x0_hat, sigma^2) encodes x_0 in the fewest bits
            (Eq. 13).
    """

    x0_mse: Tensor
    decoder_log_variance: Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The tables of a diffusion with variances beta_1 ... beta_T.

    Args:
        beta: (T,) float64, T at least 2, each in (0, 1).
        variance_type: the variance sigma_t^2 of the reverse process (section 3.2): "fixed_small" is beta-tilde_t,
            "fixed_large" is beta_t. "learned_range" and "learned": what a network predicts decides it, see
            `learned_log_variance`. "optimal": see `optimal_log_variance`.
        lowest_log_variance: for "learned_range", the lower end of log sigma_1^2; None: that of improved-diffusion.
        errors: of the network; "optimal" needs them.
    Raises:
        ValueError: `beta` or `variance_type` is not as described.
    """

    beta: Tensor
    variance_type: str = "fixed_small"
    lowest_log_variance: float | None = None
    errors: Errors | None = None

    def __post_init__(self) -> None:
        beta = torch.as_tensor(self.beta, dtype=torch.float64, device="cpu")
        if beta.ndim != 1 or len(beta) < 2:
            raise ValueError(f"beta has shape {tuple(beta.shape)}: a vector of at least 2 variances is needed")
        if not bool(((beta > 0) & (beta < 1)).all()):
            raise ValueError(f"beta ranges from {beta.min():g} to {beta.max():g}: each must lie in (0, 1)")
        known = (*VARIANCE_TYPES, OPTIMAL, *LEARNED_VARIANCES)
        if self.variance_type not in known:
            raise ValueError(f"variance_type {self.variance_type!r}: one of {', '.join(known)} is needed")
        if self.variance_type == OPTIMAL and self.errors is None:
            raise ValueError(f"variance_type {OPTIMAL!r}: the errors of the network are needed")
        for table in (self.errors.x0_mse, self.errors.decoder_log_variance) if self.errors else ():
            if table.shape != beta.shape:
                raise ValueError(f"errors have shape {tuple(table.shape)}: {tuple(beta.shape)} is needed, as beta has")
        object.__setattr__(self, "beta", beta)

    @classmethod
    def from_scheduler(
        cls, scheduler, lowest_log_variance: float | None = None, errors: Errors | None = None
    ) -> NoiseSchedule:
        """The tables of a diffusers scheduler, computed from its betas and its `variance_type`.

        A scheduler that has no `variance_type`, such as a DDIMScheduler, gets "fixed_small". The scheduler's own
        variance methods are not used: they clamp to 1e-20 at t = 0, and after `set_timesteps` they follow the strided
        grid.

        Raises:
            ValueError: a beta lies outside (0, 1), or the scheduler's variance is none that `NoiseSchedule` knows.
        """
        variance_type = scheduler.config.get("variance_type") or "fixed_small"
        return cls(scheduler.betas.double().cpu(), variance_type, lowest_log_variance, errors)

    @classmethod
    def from_log_snr(
        cls, num_steps: int, log_snr_max: float, log_snr_min: float, variance_type: str = "fixed_small"
    ) -> NoiseSchedule:
        """The schedule whose log signal-to-noise ratio, log(alpha_bar_t / (1 - alpha_bar_t)), falls linearly in t.

        With the small variance, w_t of Eq. 12 is (SNR(t - 1) / SNR(t) - 1) / 2 (Kingma et al. 2021, Eq. 14). Here that
        is the same at every t, so L_simple is the sum of the KL terms up to a constant factor.

        Args:
            num_steps: T.
            log_snr_max, log_snr_min: the natural logarithm at t = 1 and at t = T.
        Raises:
            ValueError: as for the class.
        """
        log_snr = torch.linspace(log_snr_max, log_snr_min, num_steps, dtype=torch.float64)
        log_alpha_bar = torch.nn.functional.logsigmoid(log_snr)
        before = torch.cat([torch.zeros(1, dtype=torch.float64), log_alpha_bar[:-1]])
        return cls(-torch.expm1(log_alpha_bar - before), variance_type)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.beta)

    @cached_property
    def alpha(self) -> Tensor:
        """(T,) alpha_t = 1 - beta_t."""
        return 1 - self.beta

    @cached_property
    def alpha_bar(self) -> Tensor:
        """(T,) the product alpha_1 ... alpha_t: the share of x_t's variance that comes from x_0 (Eq. 4)."""
        return torch.cumprod(self.alpha, 0)

    @cached_property
    def alpha_bar_prev(self) -> Tensor:
        """(T,) alpha_bar one step earlier; 1 at index 0."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def posterior_variance(self) -> Tensor:
        """(T,) beta-tilde_t, the variance of q(x_{t-1} | x_t, x_0) (Eq. 7); 0 at index 0."""
        return self.beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> Tensor:
        """(T,) log beta-tilde_t. Index 0 would be log 0 and holds the value of index 1, as in the authors' code."""
        return torch.log(torch.cat([self.posterior_variance[1:2], self.posterior_variance[1:]]))

    @property
    def learned(self) -> bool:
        """Whether the network predicts the variance of the reverse process."""
        return self.variance_type in LEARNED_VARIANCES

    @cached_property
    def model_log_variance(self) -> Tensor:
        """(T,) log sigma_t^2 of p(x_{t-1} | x_t), given by `variance_type`; index 0 as in `posterior_log_variance`.

        Raises:
            ValueError: the network predicts it.
        """
        if self.learned:
            raise ValueError(f"variance_type {self.variance_type!r}: the network predicts the variance of each pixel")
        if self.variance_type == "fixed_small":
            return self.posterior_log_variance
        if self.variance_type == OPTIMAL:
            return self.optimal_log_variance
        return torch.log(torch.cat([self.posterior_variance[1:2], self.beta[1:]]))

    @cached_property
    def optimal_log_variance(self) -> Tensor:
        """(T,) log sigma_t^2 with which the bound of a given network is smallest, one variance for all pixels.

        p(x_{t-1} | x_t) has a mean that differs from that of q(x_{t-1} | x_t, x_0) by c (x0_hat - x_0), c being the
        factor of x_0 in Eq. 7. So the KL terms are smallest, on average over the data, for the variance beta-tilde_t +
        c^2 E|x_0 - x0_hat|^2. For a perfect network, E|x_0 - x0_hat|^2 is (1 - E|eps_theta|^2) (1 - alpha_bar_t) /
        alpha_bar_t, which makes this Eq. 8 of Bao et al. 2022 (arXiv 2201.06503); for others, that would be too small,
        or too large where x0_hat is clipped. At index 0, where no KL term stands, it is the best width of the decoder.

        Raises:
            ValueError: the errors of the network are not known.
        """
        if self.errors is None:
            raise ValueError("the optimal variance follows from the errors of the network, which are not known")
        factor = self.beta * self.alpha_bar_prev.sqrt() / (1 - self.alpha_bar)
        log_variance = torch.log(self.posterior_variance + factor**2 * self.errors.x0_mse)
        return torch.cat([self.errors.decoder_log_variance[:1], log_variance[1:]])

    def respaced(self, timesteps: Sequence[int]) -> NoiseSchedule:
        """The process with only some of the timesteps, whose alpha-bar it keeps.

        Args:
            timesteps: ascending, 0-based, at least 2. Index i of the new schedule is `timesteps[i]` of this one.
        """
        at = torch.tensor(timesteps)
        alpha_bar = self.alpha_bar[at]
        before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        errors = self.errors and Errors(self.errors.x0_mse[at], self.errors.decoder_log_variance[at])
        # The network has learned the range of the decoder's width for t = 1 alone.
        lowest = self.lowest_log_variance if timesteps[0] == 0 else None
        return NoiseSchedule(1 - alpha_bar / before, self.variance_type, lowest, errors)

    @cached_property
    def log_variance_range(self) -> tuple[Tensor, Tensor]:
        """The two ends of log sigma_t^2 for "learned_range", (T,) each: log beta-tilde_t and log beta_t.

        At index 0, beta-tilde is 0. There the lower end is `lowest_log_variance`, or without one log beta-tilde of
        index 1, as in improved-diffusion.
        """
        low = self.posterior_log_variance.clone()
        if self.lowest_log_variance is not None:
            low[0] = self.lowest_log_variance
        return low, torch.log(self.beta)

    def learned_log_variance(self, v: Tensor, t: Tensor) -> Tensor:
        """log sigma_t^2 of each pixel, (B, C, H, W), from what the network predicts beside the noise.

        "learned_range": f log beta_t + (1 - f) log beta-tilde_t with f = (v + 1) / 2 (Nichol & Dhariwal 2021, Eq. 15).
        As in their code, f may lie outside [0, 1]. "learned": v itself.

        Args:
            v: (B, C, H, W) float.
            t: (B,) int64, 0-based.
        Raises:
            ValueError: t is not int64 or lies outside [0, T).
        """
        if self.variance_type == "learned":
            return v
        low, high = (self.at(table, t, v) for table in self.log_variance_range)
        share = (v + 1) / 2
        return share * high + (1 - share) * low

    @cached_property
    def kl_weight(self) -> Tensor:
        """(T,) w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), in nats.

        L_{t-1} is w_t |eps - eps_theta|^2 up to a constant (Eq. 12); L_simple drops w_t (Eq. 14). At index 0 stands
        the weight that L_0 would have if it were a KL term. For a learned variance, sigma_t^2 is beta-tilde_t here.
        """
        log_variance = self.posterior_log_variance if self.learned else self.model_log_variance
        return self.beta**2 / (2 * log_variance.exp() * self.alpha * (1 - self.alpha_bar))

    def at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """`table[t]` as (B, 1, 1, 1), in the dtype and on the device of `like`. Errors as in `q_sample`."""
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
            ValueError: t is not int64 or lies outside [0, T).
        """
        return self.at(self.alpha_bar.sqrt(), t, x0) * x0 + self.at((1 - self.alpha_bar).sqrt(), t, x0) * eps

    def predict_x0(self, xt: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_0 from x_t and its noise: Eq. 4 solved for x_0 (Eq. 15), not clipped.

        Shapes and errors as in `q_sample`.
        """
        return (xt - self.at((1 - self.alpha_bar).sqrt(), t, xt) * eps) / self.at(self.alpha_bar.sqrt(), t, xt)

    def predict_eps(self, xt: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The noise that takes x_0 to x_t: Eq. 4 solved for eps. Shapes and errors as in `q_sample`."""
        return (xt - self.at(self.alpha_bar.sqrt(), t, xt) * x0) / self.at((1 - self.alpha_bar).sqrt(), t, xt)

    def posterior_mean(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0) (Eq. 7).

        Args:
            x0, xt: (B, C, H, W) float, x0 in [-1, 1].
            t: (B,) int64, 0-based.
        Raises:
            ValueError: t is not int64 or lies outside [0, T).
        """
        c0 = self.beta * self.alpha_bar_prev.sqrt() / (1 - self.alpha_bar)
        ct = (1 - self.alpha_bar_prev) * self.alpha.sqrt() / (1 - self.alpha_bar)
        return self.at(c0, t, x0) * x0 + self.at(ct, t, x0) * xt
