"""Held-out epsilon-MSE after a number of images: this trainer against the recipe of diffusers' train_unconditional.py.

    python tests/benchmarks/time_to_quality.py --dataset_name FOLDER [--images 40000]

Their recipe is written here as a plain loop: AdamW (0.95, 0.999), weight decay 1e-6, learning rate 1e-4, cosine with
500 steps of warm-up, EMA of power 3/4 up to 0.9999, timesteps drawn independently, no zero-initialised head. All use
the same UNet (16, 32, 64), the same batch of 64, the same data, float32, and the same frozen validation.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

import train as trainer
from ddpm import data
from ddpm.config import preset
from ddpm.metrics import read_metrics
from ddpm.threads import physical_cores
from ddpm.validation import Validation

NETWORK = {"block_out_channels": (16, 32, 64), "layers_per_block": 1, "norm_num_groups": 8}
BATCH = 64


def theirs(images: data.Images, steps: int, learning_rate: float) -> float:
    """EMA validation loss of their recipe after `steps` optimizer steps."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=images.size[0],
        in_channels=images.channels,
        out_channels=images.channels,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        **NETWORK,
    )
    scheduler = DDPMScheduler()
    ema = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=learning_rate, betas=(0.95, 0.999), weight_decay=1e-6)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=steps)
    order = torch.cat([torch.randperm(len(images.train)) for _ in range(-(-steps * BATCH // len(images.train)))])
    for step in range(steps):
        x0 = data.to_float(images.train[order[step * BATCH : (step + 1) * BATCH].numpy()])
        eps, t = torch.randn_like(x0), torch.randint(0, 1000, (BATCH,))
        loss = F.mse_loss(unet(scheduler.add_noise(x0, eps, t), t).sample, eps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())
    ema.copy_to(unet.parameters())
    validation = Validation(images.eval, scheduler, 1024)
    return validation.squared_error(unet).item() / validation.count


def ours(dataset_name: str, steps: int) -> float:
    """`val_loss_ema` of this trainer after as many steps."""
    with tempfile.TemporaryDirectory() as folder:
        config = preset(
            "mnist",
            dataset_name=dataset_name,
            output_dir=Path(folder) / "run",
            max_train_steps=steps,
            train_batch_size=BATCH,
            lr_warmup_steps=100,
            mixed_precision="no",
            num_samples=1,
            sample_steps=5,
            validation_steps=10**6,
            checkpointing_steps=10**6,
            **NETWORK,
        )
        for _ in trainer.train(config):
            pass
        return read_metrics(config.directory / "metrics.jsonl")[-1]["val_loss_ema"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--images", type=int, default=40_000)
    args = parser.parse_args()
    torch.set_num_threads(physical_cores())
    images = data.prepare(data.DataOptions(dataset_name=args.dataset_name))
    steps = args.images // BATCH
    for name, run in (
        (f"this trainer, {steps * BATCH:,} images", lambda: ours(args.dataset_name, steps)),
        (f"their defaults, {2 * steps * BATCH:,} images, learning rate 1e-3", lambda: theirs(images, 2 * steps, 1e-3)),
        (f"their defaults, {5 * steps * BATCH:,} images", lambda: theirs(images, 5 * steps, 1e-4)),
    ):
        started = time.perf_counter()
        result = {"run": name, "val_loss_ema": round(run(), 5), "seconds": round(time.perf_counter() - started)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
