"""Draws are functions of (seed, step, slot, purpose), and have the distributions that Algorithm 1 asks for."""

import numpy as np
import pytest
import torch

from ddpm import draws
from ddpm.draws import Purpose


def test_draws_do_not_depend_on_what_was_drawn_before():
    first = draws.noise(5, 17, 2, (4, 3)), draws.timesteps(5, 17, 8, 1000), draws.flips(5, 17, 2, 6)
    draws.noise(9, 0, 0, (100,))
    torch.manual_seed(1)
    np.random.seed(1)
    again = draws.noise(5, 17, 2, (4, 3)), draws.timesteps(5, 17, 8, 1000), draws.flips(5, 17, 2, 6)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)


def test_every_argument_matters():
    streams = [
        draws.generator(*key).standard_normal(8).tobytes()
        for seed in (0, 1)
        for purpose in Purpose
        for key in ((seed, purpose, 0, 0), (seed, purpose, 1, 0), (seed, purpose, 0, 1), (seed, purpose, 2**40, 3))
    ]
    assert len(set(streams)) == len(streams)


def test_an_epoch_meets_every_image_once_and_batches_cross_its_end():
    n, batch = 103, 10
    sequence = np.concatenate([draws.image_indices(3, n, start, batch) for start in range(0, 2 * n, batch)])
    assert sorted(sequence[:n]) == sorted(sequence[n : 2 * n]) == list(range(n))
    assert not np.array_equal(sequence[:n], sequence[n : 2 * n])
    assert np.array_equal(sequence[95:110], draws.image_indices(3, n, 95, 15))


def test_a_batch_may_be_larger_than_several_epochs():
    assert np.bincount(draws.image_indices(0, 4, 4, 12)).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("global_batch", [8, 64])
def test_timesteps_are_stratified_and_uniform(global_batch):
    T = 1000
    steps = np.stack([draws.timesteps(0, step, global_batch, T) for step in range(2000)])
    assert steps.min() >= 0
    assert steps.max() < T
    assert steps.dtype == np.int64
    for row in steps[:50]:  # one from each of global_batch equal parts
        edges = np.arange(global_batch + 1) * T / global_batch
        assert (np.floor(edges[:-1]) <= np.sort(row)).all()
        assert (np.sort(row) < np.ceil(edges[1:])).all()
    # Uniform on 0 ... T - 1, at every position of the batch: chi-square over tenths, 9 degrees of freedom.
    for counts in (np.bincount(steps.ravel() * 10 // T), np.bincount(steps[:, 0] * 10 // T)):
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 28  # p = 0.001
    # The point of it: the mean over a batch varies less than that of independent draws.
    assert steps.mean(1).std() < 0.5 * T / np.sqrt(12 * global_batch)


def test_slots_of_a_step_have_noise_of_their_own():
    assert not torch.equal(draws.noise(0, 3, 0, (8, 4)), draws.noise(0, 3, 1, (8, 4)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_by_seed_step_and_slot_in_the_share_that_is_asked_for(share):
    drawn = np.stack([[draws.dropped_labels(3, step, slot, 32, share) for slot in range(2)] for step in range(500)])
    again = draws.dropped_labels(3, 499, 1, 32, share)
    assert np.array_equal(drawn[-1, 1], again)
    assert drawn.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / drawn.size))
    if 0 < share < 1:
        assert not np.array_equal(drawn[:, 0], drawn[:, 1])
        assert not np.array_equal(drawn[0], drawn[1])
        other = [draws.dropped_labels(4, step, 0, 32, share) for step in range(500)]
        assert not np.array_equal(drawn[:, 0], other)
        flips = np.stack([draws.flips(3, step, 0, 32) for step in range(500)])
        with_flip, without = drawn[:, 0][flips].mean(), drawn[:, 0][~flips].mean()
        assert with_flip == pytest.approx(without, abs=8 * np.sqrt(share * (1 - share) / 16_000)), "draws of their own"


def test_noise_is_standard_normal():
    eps = draws.noise(0, 0, 0, (200_000,))
    assert eps.dtype == torch.float32
    assert abs(eps.mean()) < 0.01
    assert abs(eps.var() - 1) < 0.02
    assert abs((eps**4).mean() - 3) < 0.1
