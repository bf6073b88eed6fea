"""What a network needs: one change at a time to a preset's network and settings, trained at equal cost.

    python tests/benchmarks/capacity.py --preset mnist_bound [--dataset_name FOLDER] [--images 320000] [--resolution 16]
    python tests/benchmarks/capacity.py --preset mnist [--dataset_name FOLDER]

The preset's network is trained with --images images; every other row with as many as cost the same, by the counted
FLOPs of a forward and backward pass. These trainings are short, so all take batches of 64, a learning rate of 2e-3 and
the first twentieth of the steps for the warm-up, unless a row changes that. Prints a table of parameters, FLOPs,
images, the held-out epsilon-MSE of the averaged weights and, for mnist_bound, the held-out bound. Finished rows stay in
--output_dir; --only NAME ... trains some rows only, so that several processes can share the work.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from diffusers import UNet2DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from trainings import kept, trained

from ddpm import data
from ddpm.config import preset
from ddpm.metrics import read_metrics
from ddpm.training.recipe import data_options, network_options
from ddpm.unet import build_unet

FREQUENCIES = (5, 6)


class WithFourierFeatures(UNet2DModel):
    """The network with sin and cos of 2^n 2 pi x_t beside x_t (Kingma et al. 2021). No stock pipeline can load it."""

    def __init__(self, **config) -> None:
        super().__init__(**config)
        channels = config["in_channels"] * (1 + 2 * len(FREQUENCIES))
        self.conv_in = nn.Conv2d(channels, config["block_out_channels"][0], 3, padding=1)

    def forward(self, sample, timestep, *args, **kwargs):
        angles = [sample * (2**n * 2 * math.pi) for n in FREQUENCIES]
        waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        return super().forward(torch.cat([sample, *waves], 1), timestep, *args, **kwargs)


def with_fourier_features(*args, **kwargs) -> UNet2DModel:
    stock = build_unet(*args, **kwargs)
    network = WithFourierFeatures(**{k: v for k, v in stock.config.items() if not k.startswith("_")})
    nn.init.zeros_(network.conv_out.weight)
    nn.init.zeros_(network.conv_out.bias)
    return network


def widths(*block_out_channels: int, layers: int = 1, attention: tuple[int, ...] = ()) -> dict:
    return {
        "block_out_channels": block_out_channels,
        "layers_per_block": layers,
        "attention_levels": attention,
    }


COMMON = {
    "none": {},
    "attention at half and a quarter": {"attention_levels": (1, 2)},
    "two blocks a level": {"layers_per_block": 2},
    "dropout 0.1": {"dropout": 0.1},
    "learning rate / 2": {"learning_rate": 1e-3},
    "learning rate x 2": {"learning_rate": 4e-3},
    "average over 15 % of the images": {"ema_ramp_up": 0.15, "ema_half_life_images": 10**6},
    "batch 32": {"train_batch_size": 32},
    "batch 128": {"train_batch_size": 128},
}
VARIANTS = {
    "mnist": {
        **COMMON,
        "attention at a quarter": {"attention_levels": (2,)},
        "16, 48, 128": widths(16, 48, 128),
        "32, 32, 96": widths(32, 32, 96),
        "48, 48, 72": widths(48, 48, 72),
        "32, 64, 96": widths(32, 64, 96),
    },
    "mnist_bound": {
        **COMMON,
        "24, 48, 96, as mnist": widths(24, 48, 96),
        "32, 64, 80": widths(32, 64, 80),
        "64, 56, 56": widths(64, 56, 56),
        "48, 48, 48, two blocks a level": widths(48, 48, 48, layers=2),
        "32, 48, 64, two blocks a level": widths(32, 48, 64, layers=2),
        "40, 40, 40, three blocks a level": widths(40, 40, 40, layers=3),
        "64, 64, two levels": widths(64, 64),
        "log SNR from 13.3": {"log_snr_max": 13.3, "vlb_weight": 0.0711},
        "Fourier features of x_t": {},
    },
}


def cost_of(options: dict, images: data.Images, build: Callable[..., UNet2DModel]) -> tuple[int, float]:
    """Parameters, and FLOPs of a forward and backward pass of one image."""
    unet = build(**network_options(preset(**options), images))
    x = torch.randn(2, images.channels, *images.size)
    # Of attention, the counter knows the plain form only.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        unet(x, torch.tensor([1, 2])).sample.square().mean().backward()
    return sum(p.numel() for p in unet.parameters()), counter.get_total_flops() / 2


def run(args: argparse.Namespace, name: str, folder: Path) -> dict:
    """Train one row, and read its last validation."""
    # What all rows share. Short trainings need a smaller batch than the preset's.
    common = {"train_batch_size": 64, "learning_rate": 2e-3, "resolution": args.resolution}
    common |= {"dataset_name": args.dataset_name} if args.dataset_name else {}
    options = {**common, **VARIANTS[args.preset][name]}
    images = data.prepare(data_options(preset(args.preset, **common)))
    build = with_fourier_features if "Fourier" in name else build_unet
    _, base = cost_of({"name": args.preset, **common}, images, build_unet)
    parameters, flops = cost_of({"name": args.preset, **options}, images, build)
    steps = round(args.images * base / flops / options["train_batch_size"])
    options["lr_warmup_steps"] = max(1, steps // 20)
    seconds = trained(
        args.preset, folder, build, max_train_steps=steps, num_validation_images=args.validation_images, **options
    )
    last = [row for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "validation"][-1]
    figures = {key: last.get(key) for key in ("val_loss_ema", "train_loss_ema", "val_bits")}
    return figures | {"parameters": parameters, "gflop": flops / 1e9, "images": last["images"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(VARIANTS), default="mnist_bound")
    parser.add_argument("--dataset_name")
    parser.add_argument("--resolution", type=int, help="default: that of the images")
    parser.add_argument("--images", type=int, default=320_000)
    parser.add_argument("--validation_images", type=int, default=8192, help="triples behind the held-out figures")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train these rows only")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/capacity"))
    args = parser.parse_args()
    names = list(VARIANTS[args.preset])
    if unknown := set(args.only or ()) - set(names):
        parser.error(f"--only {sorted(unknown)}: one of {names} is needed")
    rows = {}
    for name in args.only or names:
        folder = args.output_dir / "-".join(map(str, (args.preset, args.resolution, args.images, names.index(name))))
        how = {"row": name, "dataset_name": args.dataset_name, "validation_images": args.validation_images}
        rows[name] = kept(folder.with_name(f"{folder.name}.json"), how, lambda n=name, f=folder: run(args, n, f))
        print(f"{args.preset}: {name}: {json.dumps(rows[name])}", file=sys.stderr, flush=True)
    with_bits = args.preset == "mnist_bound"
    print("| change | parameters | GFLOP an image | images | held-out epsilon-MSE |" + " bits/dim |" * with_bits)
    print("|" + "---|" * (5 + with_bits))
    for name, row in rows.items():
        cells = [f"{row['parameters'] / 1e6:.2f} M", f"{row['gflop']:.2f}", f"{row['images']:,}"]
        cells += [f"{row['val_loss_ema']:.5f}"] + [f"{row['val_bits']:.3f}"] * with_bits
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
