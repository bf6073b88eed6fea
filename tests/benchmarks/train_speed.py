"""Images per second of train.py's loop, beside the bare step, which bounds it, and the loop of diffusers' example.

    python tests/benchmarks/train_speed.py [--preset digits] [--steps 150] [--dataset_name FOLDER]
    python tests/benchmarks/train_speed.py --class_conditional    with labels, which the example does not learn
    python tests/benchmarks/train_speed.py --settings [--rounds 3]    threads, memory format, compile and bf16 of the
                                                                      bare step

- bare: what no training can leave out: network, loss, backward pass, clipping and optimizer, always on the same batch.
  Under bf16 its first convolution is in float32, as in training (`keep_input_precision`).
- ours: `train.train` with the preset's options.
- example: the loop of diffusers' train_unconditional.py with --use_ema: a DataLoader without workers over the same
  images (in memory, so without the example's decoding), its EMAModel, its learning rate schedule and `.item()` at every
  step; the same UNet, batch and precision.

The loops take turns of 25 steps, so that a disturbance hits all of them, and in the other order in every other round.
Printed are the median rates, and the median of the ratios in a round, from 6 rounds on with its 95 % interval. The
settings take turns in rounds. It uses a GPU if there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

import train as trainer
from ddpm import data
from ddpm.config import TrainConfig, preset
from ddpm.threads import physical_cores
from ddpm.unet import build_unet, keep_input_precision

CLASSES = 10  # of the digits and of MNIST
WARM_UP = 5  # steps that are not timed; a network is compiled in the first
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network_of(config: TrainConfig, resolution: int, channels: int) -> torch.nn.Module:
    names = ("block_out_channels", "layers_per_block", "attention_levels", "norm_num_groups", "dropout")
    torch.manual_seed(0)
    options = {name: getattr(config, name) for name in names}
    return build_unet(resolution, channels, **options, num_classes=CLASSES if config.class_conditional else 0)


def rate(steps: Iterator, count: int, images_per_step: int, warm_up: int = WARM_UP) -> float:
    """Images per second over `count` steps of an endless loop, the first `warm_up` left out; waits for the device."""
    for _ in range(warm_up):
        next(steps)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        next(steps)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return count * images_per_step / (time.perf_counter() - started)


def bare(
    config: TrainConfig,
    resolution: int,
    channels: int,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[None]:
    """Without data, draws, averages, records."""
    unet = network_of(config, resolution, channels)
    keep_input_precision(unet)
    unet = unet.to(DEVICE, memory_format=memory_format)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, fused=True)
    called = torch.compile(unet) if config.compile else unet
    x = torch.randn(config.train_batch_size, channels, resolution, resolution, device=DEVICE)
    t, eps = torch.randint(0, 1000, (config.train_batch_size,), device=DEVICE), torch.randn_like(x)
    bf16 = config.mixed_precision == "bf16"
    labels = (torch.randint(0, CLASSES + 1, t.shape, device=DEVICE),) if config.class_conditional else ()
    while True:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            prediction = called(x, t, *labels).sample
        F.mse_loss(prediction.float(), eps).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield


def ours(config: TrainConfig) -> Iterator[None]:
    """`train.train` into a folder that is gone afterwards."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with tempfile.TemporaryDirectory() as folder:
        never = {"max_train_steps": 10**6, "validation_steps": 10**6, "checkpointing_steps": 10**6}
        yield from trainer.train(dataclasses.replace(config, output_dir=Path(folder) / "run", **never))


class _Examples(torch.utils.data.Dataset):
    """Single images as the example's transform makes them."""

    def __init__(self, pixels, flip: bool) -> None:
        self.pixels, self.flip = pixels, flip

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        x0 = data.to_float(self.pixels[index])
        return x0.flip(-1) if self.flip and torch.rand(()) < 0.5 else x0


def example(
    config: TrainConfig,
    images: data.Images,
    losses: list[float] | None = None,
    warm_up: int = 500,
    betas: tuple[float, float] = (0.95, 0.999),
) -> Iterator[None]:
    """The loop of diffusers' example.

    Args:
        losses: takes the loss of every step.
        warm_up, betas: of the learning rate in steps, and of Adam; the example's by default.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    unet, scheduler = network_of(config, images.size[0], images.channels), DDPMScheduler()
    ema = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config.learning_rate, betas=betas, weight_decay=1e-6, eps=1e-8)
    examples = _Examples(images.train, config.random_flip)
    loader = torch.utils.data.DataLoader(examples, batch_size=config.train_batch_size, shuffle=True)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=warm_up, num_training_steps=10**6)
    unet, optimizer, loader, schedule = accelerator.prepare(unet, optimizer, loader, schedule)
    ema.to(accelerator.device)
    dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    while True:
        for batch in loader:
            clean = batch.to(dtype)
            noise = torch.randn(clean.shape, dtype=dtype, device=clean.device)
            t = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
            noisy = scheduler.add_noise(clean, noise, t)
            with accelerator.accumulate(unet):
                loss = F.mse_loss(unet(noisy, t).sample.float(), noise.float())
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(unet.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            ema.step(unet.parameters())
            value = loss.detach().item()
            if losses is not None:
                losses.append(value)
            yield


def side_by_side(loops: dict[str, Callable[[], Iterator]], steps: int, batch: int, rounds: int) -> dict[str, float]:
    """Prints and returns the median rate of each, and its ratio to the first."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            running = loop()
            rates[name].append(rate(running, steps, batch))
            running.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    first = next(iter(medians))
    width = max(map(len, medians))
    for name, values in rates.items():
        every = ", ".join(f"{v:.0f}" for v in values)
        print(
            f"{name:{width}s} {medians[name]:8.0f} images/s, {medians[name] / medians[first]:.3f} of {first} ({every})"
        )
    sys.stdout.flush()
    return medians


def interval_of_median(values: Sequence[float]) -> str:
    """ " (LOW to HIGH)", the 95 % interval of a median, from the ranks of the values: it supposes that they are
    independent, and nothing about how they scatter. Nothing for fewer than 6 values, which cannot tell it."""
    if len(values) < 6:
        return ""
    rank = max(0, math.floor((len(values) - 1.96 * math.sqrt(len(values))) / 2))
    ordered = sorted(values)
    return f" ({ordered[rank]:.3f} to {ordered[-1 - rank]:.3f})"


def in_turns(loops: dict[str, Callable[[], Iterator]], steps: int, batch: int, turn: int) -> None:
    """Prints the rate of each in its median turn, and the median of its ratios to the first in the same round.

    Args:
        turn: steps; with a multiple of `logging_steps`, each turn of train.py includes the rows that it writes.
    """
    running = {name: loop() for name, loop in loops.items()}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    order = list(running)
    for _ in range(max(1, steps // turn)):
        for name in order:
            rates[name].append(rate(running[name], turn, batch, warm_up=0 if rates[name] else WARM_UP))
        order.reverse()
    first, *others = rates
    print(f"{first:8s} {statistics.median(rates[first]):8.0f} images/s", flush=True)
    for name in others:
        ratios = [own / beside for own, beside in zip(rates[name], rates[first], strict=True)]
        of_first = f"{statistics.median(ratios):.3f} of {first}{interval_of_median(ratios)}, {len(ratios)} rounds"
        print(f"{name:8s} {statistics.median(rates[name]):8.0f} images/s, {of_first}", flush=True)


def settings(config: TrainConfig, resolution: int, channels: int, steps: int, rounds: int) -> None:
    """The bare loop by threads, memory format, compile and precision, against what train.py does by itself."""
    print(f"{config.preset}: batch {config.train_batch_size}, {resolution}x{resolution}x{channels}")
    here = physical_cores()

    def variant(threads: int = here, memory_format=torch.contiguous_format, **options) -> Callable[[], Iterator]:
        def start() -> Iterator:
            torch.set_num_threads(threads)
            return bare(dataclasses.replace(config, **options), resolution, channels, memory_format)

        return start

    loops = {"as it is": variant()}
    if DEVICE.type == "cpu":
        loops |= {f"{n} threads": variant(n) for n in sorted({1, 2 * here} - {here})}
    loops["channels last"] = variant(memory_format=torch.channels_last)
    other = "no" if config.mixed_precision == "bf16" else "bf16"
    loops[f"mixed_precision {other}"] = variant(mixed_precision=other)
    loops["compile"] = variant(compile=True)
    loops["compile, channels last"] = variant(compile=True, memory_format=torch.channels_last)
    side_by_side(loops, steps, config.train_batch_size, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--dataset_name")
    parser.add_argument("--batch", type=int, help="default: the preset's")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3, help="of --settings")
    parser.add_argument("--class_conditional", action="store_true")
    parser.add_argument("--settings", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(physical_cores())
    overrides = {"dataset_name": args.dataset_name} if args.dataset_name else {}
    overrides |= {"train_batch_size": args.batch} if args.batch else {}
    config = preset(args.preset, **overrides, **({"class_conditional": True} if args.class_conditional else {}))
    resolution, channels = {"digits": (8, 1), "cifar10": (32, 3)}.get(args.preset, (28, 1))
    if args.settings:
        return settings(config, resolution, channels, args.steps, args.rounds)
    images = data.prepare(data.DataOptions(dataset_name=config.dataset_name))
    loops = {
        "bare": lambda: bare(config, images.size[0], images.channels),
        "ours": lambda: ours(config),
    }
    if not config.class_conditional:
        loops["example"] = lambda: example(config, images)
    in_turns(loops, args.steps, config.train_batch_size, config.logging_steps)


if __name__ == "__main__":
    main()
