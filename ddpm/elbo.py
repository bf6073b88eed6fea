"""The variational bound L = L_T + sum of L_{t-1} + L_0 (Eq. 5), term by term, in bits per dimension.

Every term is a KL divergence between two Gaussians, which has a closed form (Eq. 8), except L_0: that is the likelihood
of the 256 pixel values under a discretised Gaussian (section 3.3). The values agree with the authors' code and with
openai/improved-diffusion. Timesteps are 0-based: index 0 is the paper's t = 1, whose term is L_0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddpm.schedule import EpsTheta, LabelledEpsTheta, NoiseSchedule, answer

BIN = 1 / 255  # half the distance between two neighbouring pixel values in [-1, 1]
THIRD_OF_A_BIN = 2 * math.log(2 * BIN / 3)
"""log sigma^2 of a decoder whose standard deviation is a third of the distance between two pixel values."""


@dataclass(frozen=True, eq=False)
class ElboTerms:
    """The terms of the bound of B images, float64 on the CPU. All but `eps_mse` are in bits per dimension.

    `prior`, `kl` and `reconstruction` add up to an upper bound on the bits per pixel value (a dimension) with which the
    model encodes the image.

    Attributes:
        prior: (B,) L_T.
        kl: (B, T - 1) L_{t-1} of 0-based t = 1 ... T - 1.
        reconstruction: (B,) L_0.
        eps_mse: (B, T) |eps - eps_theta|^2, averaged over dimensions: what L_simple averages (Eq. 14). It is computed
            from the network's output, before x_0 is clipped.
    """

    prior: Tensor
    kl: Tensor
    reconstruction: Tensor
    eps_mse: Tensor

    @property
    def total(self) -> Tensor:
        """(B,) the bound L (Eq. 5): the sum of `prior`, `kl` and `reconstruction`."""
        return self.prior + self.kl.sum(1) + self.reconstruction


def gaussian_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL(N(mean1, var1) || N(mean2, var2)) in nats, elementwise."""
    return 0.5 * (log_var2 - log_var1 - 1 + (log_var1 - log_var2).exp() + (mean1 - mean2).square() * (-log_var2).exp())


def _normal_cdf(z: Tensor) -> Tensor:
    """The authors' approximation, within 2e-4 of the exact function, so that our figures match published ones."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def discretized_gaussian_log_likelihood(x0: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """The log of the probability that N(mean, exp(log_var)) gives to the bin of each pixel value, in nats (Eq. 13).

    Args:
        x0: exactly pixel / 127.5 - 1. The bins of -1 and 1 reach to infinity.
        mean, log_var: of the shape of x0, or of one that broadcasts to it.
    """
    scale = (-0.5 * log_var).exp()
    upper = _normal_cdf((x0 - mean + BIN) * scale)
    lower = _normal_cdf((x0 - mean - BIN) * scale)
    mass = torch.where(x0 < -0.999, upper, torch.where(x0 > 0.999, 1 - lower, upper - lower))
    return mass.clamp(min=1e-12).log()


def prior_bits(schedule: NoiseSchedule, x0: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x_0) || N(0, I)), (B,) float64 in bits per dimension. It has no learned parameter."""
    x0 = x0.double()
    alpha_bar = schedule.alpha_bar[-1].to(x0.device)
    zero = torch.zeros((), dtype=torch.float64, device=x0.device)
    kl = gaussian_kl(alpha_bar.sqrt() * x0, torch.log1p(-alpha_bar), zero, zero)
    return kl.flatten(1).mean(1) / math.log(2)


def terms_at(
    eps_theta: EpsTheta | LabelledEpsTheta,
    schedule: NoiseSchedule,
    x0: Tensor,
    eps: Tensor,
    t: Tensor,
    clip_denoised: bool = True,
    *labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """One term of the bound for each pair of image and timestep, by one call of the network.

    Args:
        eps_theta: the predicted noise; where the schedule's variance is learned, an `Engine` or another object that has
            its method `with_variance`.
        x0, eps: (B, C, H, W) float, x0 exactly pixel / 127.5 - 1, eps from N(0, I).
        t: (B,) int64, 0-based; 0 gives L_0, other t L_{t-1}.
        clip_denoised: clip the network's x_0 to [-1, 1], as sampling does.
        labels: what `eps_theta` takes as its third argument, if it takes one.
    Returns:
        The term in bits per dimension and eps_mse (see `ElboTerms`), both (B,) float64.
    Raises:
        ValueError: t is not int64 or lies outside [0, T).
    """
    bits, mse = terms_by_variance(eps_theta, {"": schedule}, x0, eps, t, clip_denoised, *labels)
    return bits[""], mse


def terms_by_variance(
    eps_theta: EpsTheta | LabelledEpsTheta,
    schedules: Mapping[str, NoiseSchedule],
    x0: Tensor,
    eps: Tensor,
    t: Tensor,
    clip_denoised: bool = True,
    *labels: Tensor,
) -> tuple[dict[str, Tensor], Tensor]:
    """`terms_at` for several variances of the reverse process, by the same call of the network.

    Args:
        schedules: by name, with the same betas; otherwise as in `terms_at`.
    Returns:
        The term under each of them, and eps_mse, (B,) float64.
    Raises:
        ValueError: as `terms_at`.
    """
    schedule = next(iter(schedules.values()))
    xt = schedule.q_sample(x0.float(), eps.float(), t)
    eps_hat, v = answer(eps_theta, xt, t, *labels, learned=any(each.learned for each in schedules.values()))
    eps_hat = eps_hat.to(xt.device).double()
    x0, xt, eps = x0.double(), xt.double(), eps.double()
    x0_hat = schedule.predict_x0(xt, eps_hat, t)
    x0_hat = x0_hat.clamp(-1, 1) if clip_denoised else x0_hat
    mean, true_mean = schedule.posterior_mean(x0_hat, xt, t), schedule.posterior_mean(x0, xt, t)
    true_log_var = schedule.at(schedule.posterior_log_variance, t, x0)
    first = (t == 0).to(x0.device)
    bits = {}
    for name, each in schedules.items():
        if each.learned and v is not None:
            log_var = each.learned_log_variance(v.to(x0.device).double(), t)
        else:
            log_var = each.at(each.model_log_variance, t, x0)
        kl = gaussian_kl(true_mean, true_log_var, mean, log_var)
        if bool(first.any()):
            kl[first] = -discretized_gaussian_log_likelihood(x0[first], mean[first], log_var[first])
        bits[name] = kl.flatten(1).mean(1) / math.log(2)
    return bits, (eps - eps_hat).square().flatten(1).mean(1)


def decoder_floor(schedule: NoiseSchedule, x0: Tensor) -> Tensor:
    """The part of L_0 that comes from the width of the decoder, (B,) float64 in bits per dimension.

    It is L_0 of a network whose x_0 is exact (Eq. 13): no training brings L_0 below it. A network that predicts the
    variance chooses the width; the floor is that of the narrowest one.

    Args:
        x0: (B, C, H, W) float, exactly pixel / 127.5 - 1.
    """
    if schedule.variance_type == "learned":
        return torch.zeros(len(x0), dtype=torch.float64)  # any width can be chosen
    widths = schedule.log_variance_range[0] if schedule.learned else schedule.model_log_variance
    log_var = widths[0].to(x0.device)
    nats = -discretized_gaussian_log_likelihood(x0.double(), x0.double(), log_var)
    return nats.flatten(1).mean(1).cpu() / math.log(2)


def _device(eps_theta: EpsTheta | LabelledEpsTheta, x0: Tensor) -> torch.device:
    """Where the terms are computed: on the network's device, or on the CPU for an Apple GPU, which lacks float64."""
    device = torch.device(getattr(eps_theta, "device", x0.device))
    return torch.device("cpu") if device.type == "mps" else device


@torch.no_grad()
def elbo_terms(
    eps_theta: EpsTheta,
    schedule: NoiseSchedule,
    x0: Tensor,
    noise: Tensor | None = None,
    clip_denoised: bool = True,
    *,
    generator: torch.Generator | None = None,
    batch_size: int = 256,
    on_batch: Callable[[int], object] = lambda count: None,
) -> ElboTerms:
    """All terms of the bound (Eq. 5) for every image. The network sees each image at all T timesteps, in batches.

    Args:
        eps_theta: the predicted noise, see `EpsTheta`.
        schedule: the betas, and the variance of the reverse process.
        x0: (B, C, H, W) float in [-1, 1], exactly pixel / 127.5 - 1.
        noise: (T, B, C, H, W), the eps at each t, given to reproduce a result; None: it is drawn here.
        clip_denoised: clip the network's x_0 to [-1, 1], as sampling does.
        generator: draws the noise if `noise` is None; on the CPU.
        batch_size: the largest number of images in one call of the network. Beside what the call needs, memory holds
            the results and the noise of `batch_size` images or of one timestep of all images, whichever is more.
        on_batch: is called after each call of the network with the number of its images.
    Raises:
        ValueError: `x0` or `noise` has a wrong shape, type or range.
    """
    T = schedule.num_steps
    if x0.ndim != 4 or not len(x0) or not x0.is_floating_point():
        raise ValueError(f"x0 is {x0.dtype} of shape {tuple(x0.shape)}: float of shape (B, C, H, W) is needed")
    if not bool((x0.abs() <= 1).all()):
        raise ValueError(f"x0 ranges from {x0.min():g} to {x0.max():g}: [-1, 1] is needed")
    if noise is not None and tuple(noise.shape) != (T, *x0.shape):
        raise ValueError(f"noise has shape {tuple(noise.shape)}: {(T, *x0.shape)} is needed")
    device = _device(eps_theta, x0)
    images = len(x0)
    bits, mse = (torch.empty(images, T, dtype=torch.float64) for _ in range(2))
    at_once = max(1, batch_size // images)
    for first in range(0, T, at_once):
        steps = range(first, min(first + at_once, T))
        eps = torch.stack(
            [torch.randn(x0.shape, generator=generator) if noise is None else noise[t].float().cpu() for t in steps]
        ).flatten(0, 1)
        t = torch.tensor(steps).repeat_interleave(images)
        i = torch.arange(images).repeat(len(steps))
        for part in torch.arange(len(t)).split(batch_size):
            b, m = terms_at(
                eps_theta, schedule, x0[i[part]].to(device), eps[part].to(device), t[part].to(device), clip_denoised
            )
            bits[i[part], t[part]], mse[i[part], t[part]] = b.cpu(), m.cpu()
            on_batch(len(part))
    return ElboTerms(prior_bits(schedule, x0.cpu()), bits[:, 1:], bits[:, 0], mse)


def estimate_density(T: int) -> np.ndarray:
    """(T - 1,) the probability with which `elbo_estimate` draws the KL term of t = 1 ... T - 1.

    One half is uniform. The other half is proportional to 1 / t, which is about how the terms of a trained network
    decrease. The estimate is unbiased for any density; this one keeps its variance small.
    """
    t = np.arange(1, T)
    return 0.5 / (T - 1) + 0.5 / t / np.sum(1 / t)


def estimate_timesteps(density: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """(count,) int64 timesteps from 1 on, in order: one from each of `count` strata of equal probability.

    Args:
        density: (T - 1,) as `estimate_density` returns it.
    """
    edges = np.cumsum(density)
    u = (np.arange(count) + draw.random(count)) / count
    return 1 + np.searchsorted(edges, u * edges[-1], side="right").clip(max=len(density) - 1)


class ElboEstimate(NamedTuple):
    """What `elbo_estimate` knows about one image. The estimates are unbiased, (1,) float64.

    Attributes:
        terms: with B = 1, where `kl` and `eps_mse` (and so `total`) are NaN at timesteps that were not drawn.
        kl_sum: of the sum of all KL terms, in bits per dimension.
        eps_mse_mean: of L_simple (Eq. 14) per dimension, the mean of `eps_mse` over all timesteps.
    """

    terms: ElboTerms
    kl_sum: Tensor
    eps_mse_mean: Tensor


@torch.no_grad()
def elbo_estimate(
    eps_theta: EpsTheta,
    schedule: NoiseSchedule,
    x0: Tensor,
    count: int,
    draw: np.random.Generator,
    clip_denoised: bool = True,
    batch_size: int = 256,
) -> ElboEstimate:
    """An estimate of the bound of one image from L_T, L_0 and only `count` of its KL terms.

    The timesteps of the KL terms are drawn with `estimate_density`, one from each of `count` strata of equal
    probability, and each term is divided by its probability. The network is evaluated at count + 1 timesteps.

    Args:
        x0: (C, H, W), otherwise as in `elbo_terms`.
        clip_denoised, batch_size: as in `elbo_terms`.
        draw: the generator of the timesteps and the noise.
    """
    T = schedule.num_steps
    density = estimate_density(T)
    t = estimate_timesteps(density, count, draw)
    eps = torch.from_numpy(draw.standard_normal((count + 1, *x0.shape), dtype=np.float32))
    device = _device(eps_theta, x0)
    at = torch.from_numpy(np.concatenate([[0], t]))
    bits, mse = [], []
    for part in torch.arange(count + 1).split(batch_size):
        x = x0.expand(len(part), *x0.shape).to(device)
        b, m = terms_at(eps_theta, schedule, x, eps[part].to(device), at[part].to(device), clip_denoised)
        bits.append(b.cpu())
        mse.append(m.cpu())
    bits, mse = torch.cat(bits), torch.cat(mse)
    kl, errors = (torch.full((1, n), math.nan, dtype=torch.float64) for n in (T - 1, T))
    for step in at.unique().tolist():  # a timestep that was drawn more than once has the mean of its terms
        errors[0, step] = mse[at == step].mean()
        if step:  # the term of t = 0 is L_0
            kl[0, step - 1] = bits[at == step].mean()
    weight = 1 / torch.from_numpy(density[t - 1])
    eps_mse_mean = (mse[:1] + (mse[1:] * weight).mean()) / T
    terms = ElboTerms(prior_bits(schedule, x0[None].cpu()), kl, bits[:1], errors)
    return ElboEstimate(terms, (bits[1:] * weight).mean()[None], eps_mse_mean)


# ------------------------------------------------------------------------------------------- a classifier of the bound

POSTERIOR_TIMESTEPS = 24  # with them, 88 of 90 held-out 8x8 digits are recognised; with 48 there were no fewer
LABELS_AT, LABELS_WIDTH = 4.5, 1.3  # where labels differ most along log(SNR x dimensions), and how far around it
SURE = 8  # timesteps before a label can be left out
HOPELESS = 12.0  # nats


@dataclass(frozen=True, eq=False)
class ClassPosterior:
    """What the bound says about the class of one image, after some timesteps. Tensors are float64 on the CPU.

    Attributes:
        probabilities: (K,) p(y | x_0), the softmax over the labels y of minus the bound in nats. Before the image is
            seen, all labels are equally likely.
        bits: (K,) for each label, an estimate in bits/dim of the sum of all L_{t-1} and L_0, the part of the bound that
            depends on the label. The labels are measured at the same timesteps with the same noise, so the differences
            between them are far more precise than the values themselves.
        bits_without_label: the same without label.
        timesteps: how many timesteps the estimate is made of.
        evaluations: how often the network was evaluated for that, each time for one image.
    """

    probabilities: Tensor
    bits: Tensor
    bits_without_label: float
    timesteps: int
    evaluations: int


def posterior_density(schedule: NoiseSchedule, dimensions: int) -> np.ndarray:
    """(T,) the probability with which `class_posterior` draws each timestep.

    The sum of the terms over t is an integral over log SNR. Labels differ in a range of it: with less noise, x_t itself
    shows what it is, and with more noise it shows nothing. So the density is a bump along log SNR, which suits any
    schedule. A small part of it is the same along all of log SNR, since the estimate must not rely on this.
    """
    log_snr = torch.logit(schedule.alpha_bar).numpy()
    width = -np.diff(log_snr, prepend=2 * log_snr[0] - log_snr[1])
    bump = width / np.cosh((log_snr + math.log(dimensions) - LABELS_AT) / (2 * LABELS_WIDTH)) ** 2
    return 0.9 * bump / bump.sum() + 0.1 * width / width.sum()


def class_posterior_steps(
    eps_theta: LabelledEpsTheta,
    schedule: NoiseSchedule,
    x0: Tensor,
    num_classes: int,
    *,
    count: int = POSTERIOR_TIMESTEPS,
    draw: np.random.Generator,
    batch_size: int = 256,
    clip_denoised: bool = True,
) -> Iterator[ClassPosterior]:
    """The bound as a classifier: p(y | x_0) over the labels y, which sharpens from step to step (Li et al. 2023, arXiv
    2303.16203).

    A label that has become hopeless is measured no more: its distance from the bound without label stays as it is.

    Args:
        eps_theta: the predicted noise for given labels, such as an `Engine` with classes.
        x0: (C, H, W), otherwise as in `elbo_terms`.
        num_classes: K; the labels are 0 ... K - 1.
        count: timesteps. They are drawn with `posterior_density`, one from each of `count` strata of equal probability,
            and each term is divided by its probability. With `count` of T or more, every timestep is taken once.
        draw: the generator of the timesteps and the noise.
        batch_size: the largest number of images in one call of the network.
        clip_denoised: clip the network's x_0 to [-1, 1], as sampling does.
    Yields:
        The estimate after every few timesteps, about 8 times in all.
    Raises:
        ValueError: an argument is out of range; the message names it.
    """
    if x0.ndim != 3 or not x0.is_floating_point() or not bool((x0.abs() <= 1).all()):
        raise ValueError(f"x0 is {x0.dtype} of shape {tuple(x0.shape)}: float (C, H, W) in [-1, 1] is needed")
    if min(num_classes, count, batch_size) < 1:
        raise ValueError(f"num_classes {num_classes}, count {count}, batch_size {batch_size}: 1 or more is needed")
    at, weight = _posterior_timesteps(schedule, x0.numel(), count, draw)
    eps = torch.from_numpy(draw.standard_normal((len(at), *x0.shape), dtype=np.float32))
    device, bits_to_nats = _device(eps_theta, x0), x0.numel() * math.log(2)
    values = torch.full((len(at), num_classes + 1), math.nan, dtype=torch.float64)  # the last column is without label
    kept = torch.arange(num_classes + 1)
    at_once, evaluations = max(1, min(batch_size // len(kept), len(at) // 8)), 0
    for first in range(0, len(at), at_once):
        done = min(first + at_once, len(at))
        step, column = torch.cartesian_prod(torch.arange(first, done), kept).T
        for part in torch.arange(len(step)).split(batch_size):
            i, labels = step[part], torch.where(column[part] < num_classes, column[part], -1)
            x = x0.expand(len(part), *x0.shape).to(device)
            with torch.no_grad():
                bits, _ = terms_at(eps_theta, schedule, x, eps[i].to(device), at[i].to(device), clip_denoised, labels)
            values[i, column[part]] = bits.cpu() * weight[i]
        evaluations += len(step)
        without = float(values[:done, -1].mean())
        bits = without + (values[:done, :-1] - values[:done, -1:]).nanmean(0)
        yield ClassPosterior(torch.softmax(-bits * bits_to_nats, 0), bits, without, done, evaluations)
        kept = _hopeful(values[:done] * bits_to_nats, kept)


def class_posterior(
    eps_theta: LabelledEpsTheta, schedule: NoiseSchedule, x0: Tensor, num_classes: int, **options
) -> ClassPosterior:
    """p(y | x_0) from the bound: the last estimate of `class_posterior_steps`, which takes the same arguments."""
    *_, last = class_posterior_steps(eps_theta, schedule, x0, num_classes, **options)
    return last


def _posterior_timesteps(
    schedule: NoiseSchedule, dimensions: int, count: int, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The timesteps of `class_posterior`, (n,) int64, in the order in which they are used; and their weights (n,): the
    weighted terms have the sum over all t as their mean."""
    T = schedule.num_steps
    if count >= T:
        t, probability = np.arange(T), np.full(T, 1 / T)
    else:
        edges = np.cumsum(posterior_density(schedule, dimensions))
        u = (np.arange(count) + draw.random(count)) / count
        t = np.searchsorted(edges, u * edges[-1], side="right").clip(max=T - 1)
        probability = np.diff(edges, prepend=0)[t] / edges[-1]
    # The multiples of the golden ratio are spread evenly, however few of them are taken. With the random shift, the
    # first timestep is drawn from all strata, so that the estimate has no bias after any number of timesteps.
    golden = np.arange(len(t)) * (math.sqrt(5) - 1) / 2 % 1
    order = (golden.argsort().argsort() + draw.integers(len(t))) % len(t)
    return torch.from_numpy(t[order]), torch.from_numpy(1 / probability[order])


def _hopeful(nats: Tensor, kept: Tensor) -> Tensor:
    """The columns of `kept` that are measured on.

    Args:
        nats: (n, K + 1) the weighted terms so far, NaN where a label was left out.
    """
    if len(nats) < SURE:
        return kept
    labels = kept[:-1].tolist()
    best = labels[int(nats[:, labels].mean(0).argmin())]
    worse = nats[:, labels] - nats[:, [best]]
    gap, error = worse.mean(0), worse.std(0) / len(nats) ** 0.5
    return torch.cat([kept[:-1][(gap <= HOPELESS) | (gap <= 3 * error)], kept[-1:]])
