"""What labels cost: guided sampling in one call of the network against two, and training with labels against without.

    python tests/benchmarks/label_speed.py [--batches 1 4 8] [--rounds 7] [--steps 60] [--train digits mnist]

- one call: both halves of eps_0 + s (eps_c - eps_0) in one batch of 2 B images, as the sampler computes it.
- two calls: eps_0 and eps_c one after the other, B images each.
- without guidance: s = 1, one half; it bounds what can be gained.

The network is that of the preset mnist with ten classes, untrained, since time does not depend on weights; the engine
is the compiled one of this CPU. The ways alternate in every round, so that a disturbance hits all of them; medians are
compared. --train presets also runs `train.train` with and without --class_conditional (tests/benchmarks/train_speed.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from train_speed import ours, side_by_side

from ddpm.checkpoint import Checkpoint, load, save
from ddpm.classes import separated
from ddpm.config import preset
from ddpm.guidance import Guided
from ddpm.threads import physical_cores
from ddpm.training.recipe import make_scheduler
from ddpm.unet import build_unet

SCALE = 3.0


def make_model(folder: Path) -> Checkpoint:
    """A class-conditional model of the preset mnist's network that has learnt nothing."""
    config = preset("mnist")
    torch.manual_seed(0)
    unet = build_unet(28, 1, config.block_out_channels, config.layers_per_block, num_classes=10)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    torch.nn.init.normal_(unet.class_embedding.weight)
    folded, classes = separated(unet, list("0123456789"))
    save(folder, folded, dict(make_scheduler(config).config), classes)
    return load(folder)


def ways(engine, batch: int) -> dict[str, Callable]:
    """Functions of x_t and t that give eps_hat, by name."""
    labels = torch.arange(batch) % 10

    def two_calls(xt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        eps_0, eps_c = engine(xt, t), engine(xt, t, labels)
        return eps_0 + SCALE * (eps_c - eps_0)

    return {
        "two calls": two_calls,
        "one call": Guided(engine, labels, SCALE),
        "without guidance": Guided(engine, labels, 1.0),
    }


def measure(model: Checkpoint, batch: int, steps: int, rounds: int) -> None:
    """Print the median milliseconds of a step of each way, and how they compare with two calls."""
    engine = model.engine()
    for count in (batch, 2 * batch):
        engine.prepare(count, wait=True)
    draw = torch.Generator().manual_seed(0)
    xt = torch.randn(batch, model.channels, model.resolution, model.resolution, generator=draw)
    t = torch.randint(0, model.schedule.num_steps, (batch,), generator=draw)
    computed = ways(engine, batch)
    off = float((computed["one call"](xt, t) - computed["two calls"](xt, t)).abs().max())
    assert off < 1e-4, f"one call and two calls differ by {off}"
    taken: dict[str, list[float]] = {name: [] for name in computed}
    for index in range(rounds + 1):
        for name, eps_theta in computed.items():
            began = time.perf_counter()
            for _ in range(steps):
                eps_theta(xt, t)
            if index:  # the first round warms up
                taken[name].append(1000 * (time.perf_counter() - began) / steps)
    base = statistics.median(taken["two calls"])
    print(f"\nbatch {batch}")
    for name, values in taken.items():
        middle = statistics.median(values)
        print(f"  {name:17s} {middle:7.2f} ms a step  ({min(values):.2f} to {max(values):.2f})  {middle / base:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--train", nargs="*", default=[], help="presets to train with labels and without")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(physical_cores())
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder))
        for batch in args.batches:
            measure(model, batch, args.steps, args.rounds)
    for name in args.train:
        plain = preset(name, class_conditional=False)
        told = dataclasses.replace(plain, class_conditional=True)
        print(f"\ntraining {name}")
        loops = {"without labels": lambda plain=plain: ours(plain), "with labels": lambda told=told: ours(told)}
        side_by_side(loops, 150, plain.train_batch_size, 3)


if __name__ == "__main__":
    main()
