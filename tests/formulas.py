"""Formulas that tests compare with, and that the package itself does not need."""

import numpy as np
import torch

from ddpm.schedule import NoiseSchedule


def linear_schedule(num_steps=1000, start=1e-4, end=0.02, variance_type="fixed_small"):
    """The paper's schedule: beta linear from 1e-4 to 0.02 (section 4)."""
    return NoiseSchedule(torch.linspace(start, end, num_steps, dtype=torch.float64), variance_type)


def snr(schedule):
    """(T,) the signal-to-noise ratio of x_t for data of unit variance."""
    return schedule.alpha_bar / (1 - schedule.alpha_bar)


def velocity(schedule, x0, eps, t):
    """v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans & Ho 2022)."""
    signal, noise = (schedule.at(table.sqrt(), t, x0) for table in (schedule.alpha_bar, 1 - schedule.alpha_bar))
    return signal * eps - noise * x0


def improved_diffusion_terms(beta, kind, x0, xt, eps_hat, v, t, clip):
    """The terms of the bound as openai/improved-diffusion computes them for a variance that is learned, in float64.

    Written down from its `q_posterior_mean_variance`, `p_mean_variance` and `_vb_terms_bpd`, with its names.

    Args:
        beta: (T,). kind: "learned_range" or "learned".
        x0, xt, eps_hat, v: (B, C, H, W). t: (B,) int, 0-based.
    Returns:
        (B,) bits per dimension.
    """
    betas, x_start, x_t, eps, var_values = (np.asarray(a, dtype=np.float64) for a in (beta, x0, xt, eps_hat, v))
    alphas_cumprod = np.cumprod(1.0 - betas)
    alphas_cumprod_prev = np.append(1.0, alphas_cumprod[:-1])
    posterior_variance = betas * (1.0 - alphas_cumprod_prev) / (1.0 - alphas_cumprod)
    posterior_log_variance_clipped = np.log(np.append(posterior_variance[1], posterior_variance[1:]))

    def extract(table):
        return table[np.asarray(t)][:, None, None, None]

    def posterior_mean(x_start):
        coef1 = betas * np.sqrt(alphas_cumprod_prev) / (1.0 - alphas_cumprod)
        coef2 = (1.0 - alphas_cumprod_prev) * np.sqrt(1.0 - betas) / (1.0 - alphas_cumprod)
        return extract(coef1) * x_start + extract(coef2) * x_t

    def cdf(x):
        return 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * np.power(x, 3))))

    log_variance = var_values
    if kind == "learned_range":
        min_log, max_log = extract(posterior_log_variance_clipped), extract(np.log(betas))
        frac = (var_values + 1) / 2
        log_variance = frac * max_log + (1 - frac) * min_log
    pred_xstart = extract(np.sqrt(1.0 / alphas_cumprod)) * x_t - extract(np.sqrt(1.0 / alphas_cumprod - 1)) * eps
    pred_xstart = np.clip(pred_xstart, -1, 1) if clip else pred_xstart
    mean1, mean2, logvar1 = (
        posterior_mean(x_start),
        posterior_mean(pred_xstart),
        extract(posterior_log_variance_clipped),
    )
    kl = 0.5 * (
        -1.0 + log_variance - logvar1 + np.exp(logvar1 - log_variance) + (mean1 - mean2) ** 2 * np.exp(-log_variance)
    )
    centered_x, inv_stdv = x_start - mean2, np.exp(-0.5 * log_variance)
    cdf_plus, cdf_min = cdf(inv_stdv * (centered_x + 1.0 / 255.0)), cdf(inv_stdv * (centered_x - 1.0 / 255.0))
    inside = np.log(np.maximum(cdf_plus - cdf_min, 1e-12))
    edges = np.where(x_start > 0.999, np.log(np.maximum(1.0 - cdf_min, 1e-12)), inside)
    log_probs = np.where(x_start < -0.999, np.log(np.maximum(cdf_plus, 1e-12)), edges)
    nats = np.where(np.asarray(t)[:, None, None, None] == 0, -log_probs, kl)
    return nats.reshape(len(nats), -1).mean(1) / np.log(2.0)
