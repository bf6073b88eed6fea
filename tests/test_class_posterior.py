"""The bound as a classifier, against a closed form and against the terms of the bound summed by hand."""

import math

import numpy as np
import pytest
import torch
from formulas import linear_schedule

from ddpm.elbo import class_posterior, class_posterior_steps, terms_at

LN2 = math.log(2)


class Gaussians:
    """The best network for classes that are Gaussians N(m_y, s^2 I); without label it believes in a Gaussian about 0.

    Attributes:
        calls: x_t, t and labels of every call.
    """

    def __init__(self, schedule, means, sd=0.25):
        self.schedule, self.sd, self.calls = schedule, sd, []
        self.means = torch.cat([means, torch.zeros_like(means[:1])])  # the last is found by the label -1

    def __call__(self, xt, t, labels):
        self.calls.append((xt, t, labels))
        alpha_bar = self.schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
        residual = xt.double() - alpha_bar.sqrt() * self.means[labels]
        return (1 - alpha_bar).sqrt() * residual / (alpha_bar * self.sd**2 + 1 - alpha_bar)  # E[eps | x_t, y]

    def log_odds(self, x0):
        """(K,) log p(x_0 | y) - log p(x_0 | no label)."""
        squared = (x0 - self.means).square().flatten(1).sum(1)
        return (squared[-1] - squared[:-1]) / (2 * self.sd**2)


@pytest.fixture
def case():
    """Four classes, of which two could be it, one hardly and one not at all."""
    draw = torch.Generator().manual_seed(1)
    means = 0.07 * torch.randn(4, 1, 4, 4, generator=draw, dtype=torch.float64)
    means[3] += 0.45
    x0 = (means[0] + means[1]) / 2 + 0.05 * torch.randn(1, 4, 4, generator=draw, dtype=torch.float64)
    x0 = ((x0.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    schedule = linear_schedule(500, 2e-4, 0.04)
    return Gaussians(schedule, means), schedule, x0.float()


def log_odds_of(found, dimensions):
    return (found.bits_without_label - found.bits) * dimensions * LN2


@pytest.mark.long
@pytest.mark.parametrize("count", [6, 24, 500])
def test_the_estimate_of_the_log_odds_has_no_bias(case, count):
    """For the best network, -log p(x_0) is the mean of the bound up to a constant, at each x_0 by itself (Kong et al.
    2023, arXiv 2302.03792). So the log odds have a closed form, whichever timesteps are drawn."""
    network, schedule, x0 = case
    found = torch.stack(
        [
            log_odds_of(
                class_posterior(
                    network, schedule, x0, 4, count=count, draw=np.random.default_rng(seed), clip_denoised=False
                ),
                16,
            )[:3]
            for seed in range({6: 600, 24: 300, 500: 30}[count])
        ]
    )
    error = found.std(0) / len(found) ** 0.5
    expected = network.log_odds(x0)[:3]
    assert bool((error < 0.2).all()), "precise enough to show a bias"
    # T = 500 steps are not yet the integral: 1 %
    assert bool(((found.mean(0) - expected).abs() < 4 * error + 0.01 * expected.abs()).all()), (found.mean(0), expected)


def test_probabilities_are_those_of_the_closed_form(case):
    network, schedule, x0 = case
    rounds = [
        class_posterior(network, schedule, x0, 4, count=500, draw=np.random.default_rng(s), clip_denoised=False)
        for s in range(30)
    ]
    log_odds = torch.stack([log_odds_of(found, 16) for found in rounds]).mean(0)
    expected = torch.softmax(network.log_odds(x0), 0)
    assert torch.softmax(log_odds, 0).numpy() == pytest.approx(expected.numpy(), abs=0.05)
    assert expected[:3].min() > 0.01, "a case in which the first labels compete"
    assert expected[3] < 1e-6
    for found in rounds[:3]:
        assert found.probabilities.sum().item() == pytest.approx(1)
        assert found.probabilities[3] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 256])
def test_every_timestep_gives_the_sum_of_all_terms(case, batch_size):
    """With the noise that the network was shown."""
    network, schedule, x0 = case
    K, T = 3, schedule.num_steps
    found = class_posterior(network, schedule, x0, K, count=T + 9, draw=np.random.default_rng(0), batch_size=batch_size)
    assert max(len(xt) for xt, _, _ in network.calls) <= batch_size
    xt, t, labels = (torch.cat(parts) for parts in zip(*network.calls, strict=True))
    assert (found.timesteps, found.evaluations) == (T, len(t))
    for label in (*range(K), -1):
        assert sorted(t[labels == label].tolist()) == list(range(T)), "every timestep once for each label"
    without = torch.argsort(t[labels == -1])
    noisy = xt[labels == -1][without]
    for label in range(K):
        assert torch.equal(xt[labels == label][torch.argsort(t[labels == label])], noisy), "the same noise"
    eps = schedule.predict_eps(noisy.double(), x0.expand(T, 1, 4, 4).double(), torch.arange(T))
    sums = [
        terms_at(
            lambda xt, t, label=label: network(xt, t, torch.full((len(t),), label)),
            schedule,
            x0.expand(T, 1, 4, 4),
            eps,
            torch.arange(T),
        )[0].sum()
        for label in (*range(K), -1)
    ]
    # eps is recovered from x_t in float32, which has an error of 1e-5 where there is little noise
    assert found.bits.tolist() == pytest.approx([float(bits) for bits in sums[:-1]], rel=1e-4)
    assert found.bits_without_label == pytest.approx(float(sums[-1]), rel=1e-4)
    nats = -torch.stack(sums[:-1]) * 16 * LN2
    assert found.probabilities.numpy() == pytest.approx(torch.softmax(nats, 0).numpy(), abs=2e-3)


def test_it_sharpens_in_about_eight_steps_and_stops_measuring_hopeless_labels(case):
    network, schedule, x0 = case
    means = torch.cat([network.means[:2], 0.9 * torch.ones(98, 1, 4, 4, dtype=torch.float64)])
    network = Gaussians(schedule, means)
    states = list(class_posterior_steps(network, schedule, x0, 100, count=24, draw=np.random.default_rng(0)))
    assert 6 <= len(states) <= 12
    assert [state.timesteps for state in states] == sorted({state.timesteps for state in states})
    assert states[-1].timesteps == 24
    last = states[-1]
    assert last.evaluations == sum(len(xt) for xt, _, _ in network.calls)
    assert last.evaluations < 0.5 * 24 * 101, "98 of 100 labels are hopeless"
    assert {0, 1, -1} <= set(network.calls[-1][2].tolist()), "the others are measured to the end"
    assert last.probabilities[:2].sum() == pytest.approx(1, abs=1e-4)
    assert bool(torch.isfinite(last.bits).all())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x0": torch.zeros(1, 1, 4, 4)}, r"x0 is torch.float32 of shape \(1, 1, 4, 4\): float \(C, H, W\)"),
        ({"x0": torch.full((1, 4, 4), math.nan)}, r"in \[-1, 1\]"),
        ({"x0": torch.zeros(1, 4, 4, dtype=torch.uint8)}, "x0 is torch.uint8"),
        ({"num_classes": 0}, "num_classes 0"),
        ({"count": 0}, "count 0"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_what_cannot_be_classified_is_refused(case, changed, message):
    network, schedule, x0 = case
    options = {"x0": x0, "num_classes": 4, "draw": np.random.default_rng(0)} | changed
    with pytest.raises(ValueError, match=message):
        class_posterior(network, schedule, **options)
