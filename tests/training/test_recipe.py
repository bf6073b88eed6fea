"""What a training computes: objective, precision, averaged weights, learning rate."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import DDPMPipeline
from launch import launch
from tiny import TINY, command, in_process, weights

import train as trainer
from ddpm import checkpoint, data, draws
from ddpm.config import preset
from ddpm.metrics import read_metrics
from ddpm.schedule import NoiseSchedule
from ddpm.training import state
from ddpm.training.recipe import Noising, learning_rate, make_scheduler
from ddpm.training.window import NonFiniteError
from ddpm.unet import build_unet, keep_input_precision


def test_without_ema_the_raw_weights_are_used(tmp_path):
    in_process(tmp_path / "run", ema_half_life_images=0, max_train_steps=6)
    raw = state.load_latest(tmp_path / "run/checkpoints").part("unet")
    for name, tensor in weights(tmp_path / "run").items():
        assert torch.equal(tensor, raw[name])
    row = read_metrics(tmp_path / "run/metrics.jsonl")[-1]
    assert row["val_loss"] == row["val_loss_ema"]


def test_ema_forgets_half_within_its_half_life():
    from ddpm.training.ema import make_ema

    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    ema = make_ema(net, half_life_images=100, ramp_up=0, global_batch=10, device="cpu")
    ema.update_parameters(net)
    torch.nn.init.ones_(net.weight)
    for _ in range(10):
        ema.update_parameters(net)
    assert ema.module.weight.item() == pytest.approx(0.5, abs=1e-5)

    ramped = make_ema(net, half_life_images=10**9, ramp_up=0.1, global_batch=10, device="cpu")
    for i in range(200):
        torch.nn.init.constant_(net.weight, float(i >= 100))
        ramped.update_parameters(net)
    # After n steps half is forgotten within n / 10: (100/200)^(ln 2 / 0.1) of the old value is left.
    assert ramped.module.weight.item() == pytest.approx(1 - 0.5**6.93, abs=0.002)


@pytest.mark.long
def test_compiled_weights_keep_their_names(tmp_path, monkeypatch):
    """torch.compile wraps the network; what is saved must not show it. (Without a C++ compiler: the eager backend.)"""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend="eager"))
    in_process(tmp_path / "run", compile=True, max_train_steps=3)
    assert not [name for name in weights(tmp_path / "run") if "_orig_mod" in name]
    assert DDPMPipeline.from_pretrained(tmp_path / "run").unet.config.sample_size == 8


@pytest.mark.slow
def test_a_network_in_a_gpus_memory_format_resumes_to_the_bit(tmp_path, monkeypatch):
    """What a GPU trains with: channels last, and images that are tensors of the device already."""

    def build(*args, **options):
        return build_unet(*args, **options).to(memory_format=torch.channels_last)

    monkeypatch.setattr(data, "resident", lambda pixels, device: torch.from_numpy(np.array(pixels)))
    options = {"max_train_steps": 6, "checkpointing_steps": 3, "lr_schedule": "constant"}
    in_process(tmp_path / "whole", build=build, **options)
    in_process(tmp_path / "parts", build=build, **options | {"max_train_steps": 3})
    in_process(tmp_path / "parts", build=build, **options)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    monkeypatch.undo()
    in_process(tmp_path / "plain", **options)
    for name, tensor in weights(tmp_path / "plain").items():
        assert torch.allclose(tensor, whole[name], atol=1e-4), name


@pytest.mark.long
@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_other_predictions_train_through_the_same_loop(tmp_path, prediction_type):
    in_process(
        tmp_path / "run",
        prediction_type=prediction_type,
        max_train_steps=40,
        learning_rate=4e-3,
        lr_schedule="constant",
    )
    losses = [row["loss"] for row in read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    assert checkpoint.load(tmp_path / "run").scheduler.config.prediction_type == prediction_type


def test_the_weights_of_the_bound_weigh_the_loss(tmp_path):
    """The first objective is known: the network predicts 0, so image i has the loss w_t |eps|^2, w_t 1 on average."""
    objectives = []

    def spied(accelerator):
        backward = accelerator.backward
        accelerator.backward = lambda loss: (objectives.append(loss.item()), backward(loss))

    in_process(tmp_path / "kl", prepare=spied, loss_weighting="kl", max_train_steps=3)
    in_process(tmp_path / "simple", prepare=spied, max_train_steps=3)
    beta = torch.linspace(1e-4, 0.02, 40, dtype=torch.float64) * 25
    ab = torch.cumprod(1 - beta, 0)
    ab_prev = torch.cat([torch.ones(1), ab[:-1]])
    variance = beta * (1 - ab_prev) / (1 - ab)
    variance[0] = variance[1]
    weight = beta**2 / (2 * variance * (1 - beta) * (1 - ab))
    t = draws.timesteps(0, 0, 16, 40)
    squares = draws.noise(0, 0, 0, (16, 1, 8, 8)).square().mean(dim=(1, 2, 3))
    assert objectives[0] == pytest.approx(((weight / weight.mean())[t] * squares).mean().item(), rel=1e-4)
    assert objectives[3] == pytest.approx(squares.mean().item(), rel=1e-5)
    rows = [read_metrics(tmp_path / f / "metrics.jsonl")[0] for f in ("kl", "simple")]
    assert rows[0]["loss"] != rows[1]["loss"]
    assert rows[0]["loss"] == pytest.approx(1, abs=0.2), "what is reported is the epsilon-MSE, not what is weighted"


@pytest.mark.slow
def test_another_architecture_trains_through_the_same_loop(tmp_path):
    from tests.benchmarks.why_noise import TwoConvolutions

    AcceleratorState._reset_state(reset_partial_state=True)
    config = preset("digits", output_dir=tmp_path / "run", **(TINY | {"max_train_steps": 60, "learning_rate": 1e-2}))
    for _ in trainer.train(config, build=lambda resolution, channels, **_: TwoConvolutions(resolution, channels)):
        pass
    network = TwoConvolutions.from_pretrained(tmp_path / "run/unet")
    assert sum(p.numel() for p in network.parameters()) == 1217
    rows = [row for row in read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    with pytest.raises(ValueError, match="only a unet and a scheduler of diffusers are read"):
        checkpoint.load(tmp_path / "run")


def test_bf16_noises_in_float32(tmp_path, monkeypatch):
    """In bf16, alpha_bar rounds to 1 at small t: x_t would equal x_0 there. The network must see float32 x_t instead."""
    seen = []
    real = Noising.__call__

    def spy(self, x0, eps, t):
        xt = real(self, x0, eps, t)
        assert x0.dtype == eps.dtype == xt.dtype == torch.float32
        assert (xt != x0).flatten(1).any(1).all()
        seen.extend(t.tolist())
        return xt

    monkeypatch.setattr(Noising, "__call__", spy)
    in_process(tmp_path / "run", mixed_precision="bf16", num_train_timesteps=1000, num_validation_images=200)
    assert min(seen) < 10, "the timesteps that bf16 would spoil were met"
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "run").values())


def test_the_first_convolution_computes_in_float32_under_autocast():
    """Two x_t that differ by less than bfloat16 can tell apart."""
    unet = build_unet(8, 1, (8, 8))
    names = list(unet.state_dict())
    keep_input_precision(unet)
    assert list(unet.state_dict()) == names
    xt = torch.full((1, 1, 8, 8), -1.0)
    with torch.autocast("cpu", torch.bfloat16):
        first, second = unet.conv_in(xt), unet.conv_in(xt + 1e-3)
        assert first.dtype == torch.float32
        assert not torch.equal(first, second)
        assert unet.down_blocks[0].resnets[0].conv1(first).dtype == torch.bfloat16, "all else follows autocast"
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(*(torch.nn.functional.conv2d(x, unet.conv_in.weight) for x in (xt, xt + 1e-3)))


def test_the_first_convolution_keeps_the_digits_that_tf32_drops(monkeypatch):
    """A GPU rounds the inputs of a convolution to 11 binary digits, which is imitated here."""

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    real = torch.nn.functional.conv2d
    unet = build_unet(8, 3, (8, 8))
    keep_input_precision(unet)
    first = unet.conv_in
    xt = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    w = first.weight.detach().double().requires_grad_()
    exact = real(xt.double(), w, first.bias.detach().double(), padding=1)
    exact.square().sum().backward()
    rounded = lambda x, w, *rest: real(Rounded.apply(x), Rounded.apply(w), *rest)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "conv2d", rounded)
    inexact = first._conv_forward(xt, first.weight, first.bias)
    assert (inexact - exact).abs().max() > 1e-4, "without care, digits are lost"
    found = first._in_parts(xt)
    assert (found - exact).abs().max() < 1e-5
    found.square().sum().backward()
    assert (first.weight.grad - w.grad).abs().max() < 1e-3 * w.grad.abs().max()


def test_log_snr_is_a_stock_scheduler_and_trains_from_float64_tables(tmp_path):
    options = {"beta_schedule": "log_snr", "num_train_timesteps": 1000}
    config = preset("digits", **options)
    scheduler = make_scheduler(config)
    exact = NoiseSchedule.from_log_snr(1000, 13.3, -6.0)
    q_sample = Noising.of(scheduler, "cpu")
    torch.testing.assert_close(q_sample.sigma.double(), (1 - exact.alpha_bar).sqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close(q_sample.signal.double(), exact.alpha_bar.sqrt(), rtol=1e-6, atol=0)
    # What this guards against: diffusers' own table is off by a tenth.
    stock = (1 - scheduler.alphas_cumprod[:50]).sqrt().double()
    assert (stock / (1 - exact.alpha_bar[:50]).sqrt() - 1).abs().max() > 0.05

    in_process(tmp_path / "run", **options)
    loaded = checkpoint.load(tmp_path / "run").schedule
    torch.testing.assert_close(loaded.beta, exact.beta, rtol=1e-6, atol=0)
    images = DDPMPipeline.from_pretrained(tmp_path / "run")(num_inference_steps=20, output_type="np").images
    assert np.isfinite(images).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_snr_max": 30.0}, r"--log_snr_max 30.*-14 to 14"),
        ({"log_snr_min": float("nan")}, r"--log_snr_min nan.*-14 to 14"),
        ({"log_snr_min": 5.0, "log_snr_max": 5.0}, r"--log_snr_min 5.*less than --log_snr_max 5"),
    ],
)
def test_impossible_ranges_of_log_snr_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        preset("digits", **options).validate()


def skip(monkeypatch, steps):
    """As if the fp16 scaler had found an overflow at these optimizer steps (0-based); a GPU has one, a CPU has not."""
    count = iter(range(10**6))
    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(lambda self: next(count) in steps))


def test_steps_that_the_scaler_skips_advance_neither_average_nor_learning_rate(tmp_path, monkeypatch):
    skip(monkeypatch, {2, 3, 7})
    in_process(tmp_path / "run", logging_steps=1)
    saved = state.load_latest(tmp_path / "run/checkpoints")
    assert saved.meta["skipped"] == 3
    assert int(saved.part("ema")["n_averaged"]) == 12 - 3
    rows = [row for row in read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    config = preset("digits", **TINY)
    taken = [0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8]  # optimizer steps before this one, or after it where it was skipped
    assert [row["lr"] for row in rows] == pytest.approx([learning_rate(config, n) for n in taken], rel=1e-4)
    assert [row["loss"] is None for row in rows] == [step in (2, 3, 7) for step in range(12)]


@pytest.mark.slow
def test_only_a_long_row_of_skipped_steps_stops_the_run(tmp_path, monkeypatch):
    steps = {"max_train_steps": 62, "validation_steps": 1000, "checkpointing_steps": 1000, "block_out_channels": (8,)}
    skip(monkeypatch, set(range(10, 59)))
    assert in_process(tmp_path / "short", **steps).stopped == "finished"
    skip(monkeypatch, set(range(10, 60)))
    with pytest.raises(NonFiniteError, match="50 steps in a row overflowed in fp16, up to step 60"):
        in_process(tmp_path / "long", **steps)


# ------------------------------------------------------------------------------------------------------- learning rate


def test_learning_rate_is_a_function_of_the_optimizer_step(tmp_path):
    config = preset("digits", learning_rate=1.0, lr_warmup_steps=4, max_train_steps=12)
    values = [learning_rate(config, step) for step in range(12)]
    assert values[:4] == [0.25, 0.5, 0.75, 1.0]
    assert values[4] == 1.0
    assert values[8] == pytest.approx(0.5)
    assert values[11] < 0.05
    assert values[4:] == sorted(values[4:], reverse=True)
    constant = dataclasses.replace(config, lr_schedule="constant")
    assert [learning_rate(constant, step) for step in (3, 4, 11, 10**6)] == [1.0] * 4


@pytest.mark.long
@pytest.mark.parametrize(("processes", "accumulation", "batch"), [(1, 1, 24), (1, 2, 12), (1, 3, 8), (2, 2, 6)])
def test_processes_accumulation_and_batch_mean_what_the_flags_say(tmp_path, processes, accumulation, batch):
    """The recipe of diffusers' example steps its schedule once per process and micro-batch; here the rates are those
    of the optimizer step, and a step takes processes x accumulation x batch images."""
    shape = {"gradient_accumulation_steps": accumulation, "train_batch_size": batch}
    options = {"logging_steps": 1, "learning_rate": 1e-3, "max_train_steps": 8} | shape
    if processes == 1:
        in_process(tmp_path / "run", **options)
    else:
        done = launch(*command(tmp_path / "run", **options), processes=processes)
        assert done.returncode == 0, done.stderr
    rows = [row for row in read_metrics(tmp_path / "run/metrics.jsonl") if row["kind"] == "train"]
    assert [row["images"] for row in rows] == [processes * accumulation * batch * step for step in range(1, 9)]
    # 4 steps of warm-up to 1e-3, then half a cosine over the other 4
    expected = [0.25e-3, 0.5e-3, 0.75e-3, 1e-3] + [0.5e-3 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert [row["lr"] for row in rows] == pytest.approx(expected, rel=1e-5)


def test_linear_betas_reach_noise_for_any_number_of_timesteps():
    for timesteps in (24, 100, 1000, 4000):
        scheduler = make_scheduler(preset("digits", num_train_timesteps=timesteps))
        assert scheduler.alphas_cumprod[-1] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train_timesteps": 200, "beta_schedule": "linear"}, None),
        (
            {"learning_rate": 0.1, "max_train_steps": 1},
            r"--learning_rate 0.1 is far from 0.001, the preset's rate scaled to 16 images",
        ),
        (
            {"learning_rate": 1e-9, "max_train_steps": 205, "lr_schedule": "constant", "block_out_channels": (8,)},
            r"The loss is 1\.0\d after warm-up",
        ),
    ],
)
def test_dubious_settings_are_said_once(tmp_path, caplog, options, message):
    in_process(tmp_path / "run", **{"validation_steps": 1000, "checkpointing_steps": 1000} | options)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if message is None:
        assert not warnings
    else:
        assert len([w for w in warnings if re.search(message, w)]) == 1
