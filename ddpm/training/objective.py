"""What training minimises: L_simple, the terms of the bound itself, or both (Nichol & Dhariwal 2021, section 3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm.config import TrainConfig
from ddpm.elbo import BIN
from ddpm.schedule import NoiseSchedule

LEAST_LOG_MASS = math.log(1e-12)  # as in `ddpm.elbo.discretized_gaussian_log_likelihood`
FAR = 50.0  # standard deviations; long before, a pixel has LEAST_LOG_MASS, and farther out float32 would overflow


class Objective:
    """The loss of every image.

        simple  w_t |eps - eps_hat|^2, where w_t is 1 for L_simple, or for "kl" the weight of Eq. 12 over its mean. If
                the network predicts the variance, vlb_weight times L_vlb is added, from which only the variance learns:
                L_hybrid.
        vlb     L_vlb alone, from which mean and variance learn, in nats per dimension, divided by T times the mean w_t.
                Under the log_snr schedule the gradient with respect to eps_hat is then that of L_simple.

    L_vlb is T times the term of the bound at the image's t, in bits per dimension, which estimates the sum over t. As
    in sampling and in `ddpm.evaluate`, x_0 is clipped to [-1, 1]; but not in the KL terms that the mean learns from,
    since at large t nearly every pixel is clipped, and such pixels would learn nothing.

    Args:
        schedule: of the training, with its variance.
        weights: (T,) float32 on the device of training, see `ddpm.training.recipe.loss_weights`.
    """

    def __init__(self, config: TrainConfig, schedule: NoiseSchedule, weights: Tensor) -> None:
        self.schedule, self.weights, device = schedule, weights, weights.device
        self.pure, self.vlb_weight = config.loss_weighting == "vlb", config.vlb_weight if schedule.learned else 0.0
        self._scale = math.log(2) / float(schedule.kl_weight[1:].mean())  # L_0 is no KL term
        T, alpha_bar, small = schedule.num_steps, schedule.alpha_bar, schedule.posterior_log_variance
        # Everything is relative to log beta-tilde, since in float32 the difference of two logarithms has few digits.
        # Where the variance is fixed, `low` is its logarithm and `span` is 0.
        ends = schedule.log_variance_range if schedule.learned else (schedule.model_log_variance,) * 2
        tables = {
            "ratio": ((1 - alpha_bar) / alpha_bar).sqrt(),  # x0_hat - x_0 = ratio (eps - eps_hat), by Eq. 15
            "low": ends[0] - small,
            "span": ends[1] - ends[0],
            "small": small,
            # The squared difference of the means is that of x0_hat and x_0 times this, by Eq. 7, over beta-tilde.
            "mean": schedule.beta**2 * schedule.alpha_bar_prev / (1 - alpha_bar) ** 2 / small.exp(),
        }
        self._tables = {name: table.float().to(device) for name, table in tables.items()}
        self._T = T

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """eps_hat (B, C, H, W), and v of the same shape where the network predicts the variance, from its output."""
        eps_hat, *v = output.chunk(2, 1) if self.schedule.learned else (output,)
        return eps_hat, v[0] if v else None

    def __call__(self, error: Tensor, eps_hat: Tensor, v: Tensor | None, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """(B,) the loss.

        Args:
            error: (B,) |target - prediction|^2, averaged over dimensions.
            eps_hat, v: as `split` returns them, float32.
            x0, eps: (B, C, H, W) float32.
            t: (B,) int64, 0-based.
        """
        if self.pure:
            return self._scale * self.bits(eps_hat, v, x0, eps, t, clip=False)
        loss = self.weights[t] * error
        if v is not None and self.vlb_weight:
            loss = loss + self.vlb_weight * self._T * self.bits(eps_hat.detach(), v, x0, eps, t)
        return loss

    def bits(self, eps_hat: Tensor, v: Tensor | None, x0: Tensor, eps: Tensor, t: Tensor, clip: bool = True) -> Tensor:
        """(B,) the term of the bound at each image's t in bits per dimension; what `ddpm.elbo.terms_at` computes in
        float64, but for one network output and with a gradient that is finite whatever v is.

        Args:
            clip: clip x0_hat in the KL terms; in L_0 it always is.
        """
        at = {name: table[t][:, None, None, None] for name, table in self._tables.items()}
        first = (t == 0)[:, None, None, None]
        x0_hat = x0 + at["ratio"] * (eps - eps_hat)
        clipped = x0_hat.clamp(-1, 1)
        over_small = at["low"] if v is None else at["low"] + at["span"] * (v + 1) / 2  # log sigma_t^2 / beta-tilde_t
        # The branch that is not taken gets harmless numbers, or its infinite gradient times 0 would be NaN.
        less = -torch.where(first, 0.0, over_small)
        offset = torch.where(first, 0.0, (clipped if clip else x0_hat) - x0)
        kl = 0.5 * (torch.expm1(less) - less + at["mean"] * offset.square() * less.exp())
        log_variance = torch.where(first, at["small"] + over_small, 0.0)
        decoder = -log_likelihood(x0, clipped, log_variance)  # at index 0 the mean of Eq. 7 is x0_hat itself
        return torch.where(first, decoder, kl).mean(dim=(1, 2, 3)) / math.log(2)


def log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """`ddpm.elbo.discretized_gaussian_log_likelihood` for float32 and gradients.

    The authors' approximation of the normal distribution is Phi(z) = sigmoid(g(z)), g(z) = sqrt(8 / pi) (z + 0.044715
    z^3). So the mass between two edges is sigmoid(a) sigmoid(-b) (1 - exp(b - a)), whose logarithm loses no digits in
    the tails. Where the mass is less than 1e-12, the result is constant, as there.
    """
    scale = (-0.5 * log_variance.clamp(min=-80)).exp()
    upper, lower = (
        math.sqrt(8 / math.pi) * (z + 0.044715 * z**3)
        for z in (((x0 - mean + sign * BIN) * scale).clamp(-FAR, FAR) for sign in (1, -1))
    )
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
    inside = below + above + torch.log(-torch.expm1(-(upper - lower).clamp(min=1e-6)))
    mass = torch.where(x0 < -0.999, below, torch.where(x0 > 0.999, above, inside))
    return mass.clamp(min=LEAST_LOG_MASS)
