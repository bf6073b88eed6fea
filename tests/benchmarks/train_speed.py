"""Images per second of train.py's loop against the bare forward and backward of the same UNet, side by side.

    python tests/benchmarks/train_speed.py [--preset digits] [--steps 150] [--rounds 3] [--dataset_name FOLDER]

The bare loop does what no training can leave out: network, loss, backward, clipping, optimizer, on one batch that never
changes. Rounds alternate, so that a noisy neighbour meets both; medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState

import train as trainer
from ddpm.config import preset
from ddpm.engine import physical_cores
from ddpm.unet import build_unet


def bare(config, resolution: int, channels: int, steps: int) -> float:
    """Images per second without data, draws, averages, records."""
    torch.manual_seed(0)
    names = ("block_out_channels", "layers_per_block", "attention_levels", "norm_num_groups", "dropout")
    unet = build_unet(resolution, channels, **{name: getattr(config, name) for name in names})
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, fused=True)
    x = torch.randn(config.train_batch_size, channels, resolution, resolution)
    t, eps = torch.randint(0, 1000, (config.train_batch_size,)), torch.randn_like(x)
    bf16 = config.mixed_precision == "bf16"
    for step in range(steps + 5):
        if step == 5:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            prediction = unet(x, t).sample
        F.mse_loss(prediction.float(), eps).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return steps * config.train_batch_size / (time.perf_counter() - started)


def ours(config, steps: int) -> float:
    """Images per second of `train.train`, its first steps left out."""
    AcceleratorState._reset_state(reset_partial_state=True)
    for progress in trainer.train(config):
        if progress.step == 5:
            started = time.perf_counter()
        if progress.step == steps + 5:
            return steps * config.train_batch_size / (time.perf_counter() - started)
    raise AssertionError("the run was too short")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--dataset_name")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(physical_cores())
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            limits = {"max_train_steps": args.steps + 6, "validation_steps": 10**6, "checkpointing_steps": 10**6}
            overrides = {"dataset_name": args.dataset_name} if args.dataset_name else {}
            config = preset(args.preset, output_dir=Path(folder) / "run", **limits, **overrides)
            rates["ours"].append(ours(config, args.steps))
        resolution, channels = {"digits": (8, 1), "cifar10": (32, 3)}.get(args.preset, (28, 1))
        rates["bare"].append(bare(config, resolution, channels, args.steps))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:5s} {medians[name]:7.0f} images/s (median of {', '.join(f'{v:.0f}' for v in values)})")
    print(f"ratio {medians['ours'] / medians['bare']:.3f}")


if __name__ == "__main__":
    main()
