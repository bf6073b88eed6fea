"""The draw of timesteps: whatever their density, the loss keeps its expectation, and a run goes on to the same bits."""

import signal

import numpy as np
import pytest
import torch
from launch import launch
from tiny import assert_same_run, command, in_process, weights

from ddpm import data, draws
from ddpm.config import preset
from ddpm.draws import Purpose, generator
from ddpm.elbo import elbo_terms
from ddpm.engine import Engine
from ddpm.metrics import read_metrics
from ddpm.training import state
from ddpm.training.recipe import make_schedule, make_scheduler
from ddpm.training.timesteps import HISTORY, Timesteps
from ddpm.unet import build_unet
from ddpm.validation import BoundValidation

T, BATCH = 50, 64
# So few timesteps that their density is that of the losses before the run ends.
SHORT = {
    "num_train_timesteps": 24,
    "train_batch_size": 64,
    "variance_type": "learned_range",
    "timestep_sampler": "loss_second_moment",
    "first_timestep_share": 0.0625,
}


def sampler(**options):
    return Timesteps(preset("digits", num_train_timesteps=T, sample_steps=10, **options), BATCH, lambda x: x, 1)


def loss_of(t):
    """A loss that differs by orders of magnitude from timestep to timestep, as that of the bound does."""
    return 3.0 / (1 + t) + 0.01


def learn(drawn, steps):
    for step in range(steps):
        t, _ = drawn.of(step)
        drawn.learn_from(t, [torch.from_numpy(loss_of(t[: BATCH // 2])), torch.from_numpy(loss_of(t[BATCH // 2 :]))])


@pytest.mark.parametrize(
    "options",
    [
        {"first_timestep_share": 0.0625},
        {"timestep_sampler": "loss_second_moment"},
        {"timestep_sampler": "loss_second_moment", "first_timestep_share": 0.25},
    ],
)
def test_the_weighted_loss_has_the_expectation_of_uniform_timesteps(options):
    drawn = sampler(**options)
    learn(drawn, 60)
    t, weight = (np.concatenate(parts) for parts in zip(*(drawn.of(step) for step in range(100, 1100)), strict=True))
    assert np.bincount(t, minlength=T) / len(t) == pytest.approx(drawn.density(), rel=0.3)
    assert np.mean(weight) == pytest.approx(1, rel=3e-3)
    assert np.mean(weight * loss_of(t)) == pytest.approx(np.mean(loss_of(np.arange(T))), rel=2e-3)
    by_t = np.bincount(t, weight, T) / len(t)
    assert by_t == pytest.approx(np.full(T, 1 / T), rel=0.3), "any loss, not only this one"


def test_without_options_the_draw_is_that_of_algorithm_1():
    t, weight = sampler().of(7)
    assert np.array_equal(t, draws.timesteps(0, 7, BATCH, T))
    assert np.array_equal(weight, np.ones(BATCH))


def test_a_share_of_each_batch_is_drawn_at_the_first_step():
    counts = [int((sampler(first_timestep_share=0.25).of(step)[0] == 0).sum()) for step in range(20)]
    expected = BATCH * (0.25 + 0.75 / T)
    assert all(abs(count - expected) < 1 for count in counts)


def test_the_density_is_the_root_mean_square_of_the_last_ten_losses():
    drawn = sampler(timestep_sampler="loss_second_moment")
    every = np.arange(T)
    for number in range(HISTORY + 3):
        full = number >= HISTORY
        assert full or np.array_equal(drawn.density(), np.full(T, 1 / T)), "uniform until each has ten"
        drawn.learn_from(every, [torch.from_numpy((number + 1.0) * (every + 1))])
    expected = 0.999 * (every + 1) / (every + 1).sum() + 0.001 / T
    assert drawn.density() == pytest.approx(expected, rel=1e-6)
    kept = torch.arange(4.0, 14.0).double()  # the losses of the last ten, over t + 1
    assert torch.equal(drawn.tensors()["losses"], torch.arange(1.0, T + 1)[:, None].double() * kept)
    drawn.learn_from(every, [torch.full((T,), float("nan"))])  # the window ends such a run
    assert np.isfinite(drawn.density()).all()


@pytest.mark.long
@pytest.mark.parametrize("cut", [5, 10])
def test_a_run_that_draws_by_its_losses_goes_on_to_the_same_bits(tmp_path, cut):
    in_process(tmp_path / "whole", **SHORT)
    in_process(tmp_path / "cut", should_stop=lambda step: step >= cut, **SHORT)
    in_process(tmp_path / "cut", **SHORT)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    history = state.load_latest(tmp_path / "whole/checkpoints").part("timesteps")
    assert int(history["counts"].min()) >= HISTORY, "the density has become that of the losses"


@pytest.mark.long
@pytest.mark.parametrize("moment", ["learn_from:10:3", "of:11:40"])
def test_such_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path, moment):
    words = command(tmp_path / "run", **SHORT)
    killed = launch("tests/training/killed.py", "SIGKILL", f"ddpm.training.timesteps:Timesteps.{moment}", *words)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for folder in ("run", "whole"):
        done = launch(*command(tmp_path / folder, **SHORT))
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.long
def test_two_processes_that_draw_by_their_losses_equal_two_micro_batches(tmp_path):
    options = SHORT | {"train_batch_size": 32}
    for folder, processes, more in (("two", 2, {}), ("one", 1, {"gradient_accumulation_steps": 2})):
        done = launch(*command(tmp_path / folder, **options, **more), processes=processes)
        assert done.returncode == 0, done.stderr
    one, two = (state.load_latest(tmp_path / folder / "checkpoints") for folder in ("one", "two"))
    assert torch.equal(one.part("window")["t"], two.part("window")["t"]), "the same timesteps, in the same order"
    torch.testing.assert_close(one.part("timesteps"), two.part("timesteps"), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=1e-3, atol=2e-5)
    rows = [[row for row in read_metrics(tmp_path / f / "metrics.jsonl") if "val_bits" in row] for f in ("one", "two")]
    assert rows[0][-1]["val_bits"] == pytest.approx(rows[1][-1]["val_bits"], rel=1e-3)


@pytest.mark.slow
def test_val_bits_estimates_the_bound():
    config = preset("digits", num_train_timesteps=40, sample_steps=4, variance_type="learned_range")
    torch.manual_seed(0)
    scheduler, unet = make_scheduler(config), build_unet(8, 1, (8, 16), learned_variance=True).eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    schedule, images = make_schedule(scheduler), generator(0, Purpose.HELD_OUT).integers(0, 256, (6, 1, 8, 8), np.uint8)
    parts = [BoundValidation(images, schedule, 480, rank=rank, world=2).bits(unet, scheduler) for rank in range(2)]
    whole = BoundValidation(images, schedule, 480).bits(unet, scheduler)
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)
    x0 = data.to_float(images).repeat(40, 1, 1, 1)  # with one noise each, the terms would vary by 3 %
    exact = elbo_terms(Engine(unet, scheduler), schedule, x0, generator=torch.Generator().manual_seed(0))
    assert float(whole) == pytest.approx(float(exact.total.mean()), rel=0.02)
    assert float(whole) == float(BoundValidation(images, schedule, 480).bits(unet, scheduler)), "frozen"
