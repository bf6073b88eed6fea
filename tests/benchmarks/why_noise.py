"""Why predict the noise, and why drop the weights of the bound? The same network, data, seeds and budget, five ways.

    python tests/benchmarks/why_noise.py [--steps 2000] [--seeds 0 1 2] [--preset digits] [--dataset_name FOLDER]

All ways share the preset's learning rate and gradient clipping, which were tuned for L_simple. Each trains through
train.py's own loop and is measured through ddpm.evaluate: bits per dimension of the held-out images over all timesteps,
epsilon-MSE by t, Fréchet distance of ancestral samples. Prints one table, mean and standard deviation over the seeds.
Finished runs stay in --output_dir and are not repeated.

The last row is the network of the article that this project grew out of: two 3x3 convolutions, 1 to 64 to 1 channels,
with a ReLU between them. It never sees t.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from trainings import evaluated, kept, spread, trained

from ddpm import checkpoint
from ddpm.unet import build_unet


class TwoConvolutions(ModelMixin, ConfigMixin):
    """The article's network."""

    @register_to_config
    def __init__(self, sample_size: int, in_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, in_channels, 3, padding=1)
        )

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> UNet2DOutput:
        return UNet2DOutput(self.layers(sample))


VARIANTS = {
    "epsilon (L_simple)": ({}, build_unet),
    "x_0": ({"prediction_type": "sample"}, build_unet),
    "v": ({"prediction_type": "v_prediction"}, build_unet),
    "epsilon, weights of the bound": ({"loss_weighting": "kl"}, build_unet),
    "epsilon, two convolutions": ({}, lambda resolution, channels, **_: TwoConvolutions(resolution, channels)),
}
RANGES = ((1, 10), (11, 100), (101, 400), (401, 1000))  # of t, 1-based


def run(args: argparse.Namespace, name: str, seed: int, folder: Path) -> dict:
    """Train and measure one network."""
    options, build = VARIANTS[name]
    data = {"dataset_name": args.dataset_name}
    seconds = trained(args.preset, folder, build, seed=seed, max_train_steps=args.steps, **options, **data)
    kind = TwoConvolutions if "two" in name else checkpoint.UNet2DModel
    model = checkpoint.Checkpoint(
        name=f"{name}, seed {seed}",
        unet=kind.from_pretrained(folder / "unet", use_safetensors=True).eval(),
        scheduler=DDPMScheduler.from_pretrained(folder / "scheduler"),
        directory=folder,
        config=json.loads((folder / "train_config.json").read_text()),
    )
    report = evaluated(
        folder,
        model,
        num_images=args.images,
        num_samples=args.samples,
        num_inference_steps=args.inference_steps,
    )
    parameters = sum(p.numel() for p in model.unet.parameters())
    return report | {"variant": name, "train_seed": seed, "parameters": parameters, "train_seconds": seconds}


def measured(args: argparse.Namespace, name: str, seed: int) -> dict:
    """The report of one run, from --output_dir where it is there already."""
    folder = args.output_dir / f"{args.preset}-{args.steps}-{list(VARIANTS).index(name)}-{seed}"
    how = {"row": name} | {key: getattr(args, key) for key in ("dataset_name", "images", "samples", "inference_steps")}
    return kept(folder.with_name(f"{folder.name}.json"), how, lambda: run(args, name, seed, folder))


def row(name: str, reports: list[dict]) -> str:
    """One line of the table: mean and standard deviation over seeds."""
    cells = [spread([np.mean(r["eps_mse"][a - 1 : b]) for r in reports], 4) for a, b in RANGES]
    cells.insert(0, spread([r["val_loss"] for r in reports], 4))
    cells += [spread([r["bits_per_dim"] for r in reports], 3), spread([r["reconstruction_bits"] for r in reports], 3)]
    cells += [spread([r["frechet_distance"] for r in reports], 1)]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--dataset_name")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--images", type=int, default=0, help="of the bound; 0: all held-out ones")
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--inference_steps", type=int, default=250)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/why_noise"))
    args = parser.parse_args()
    reports: dict[str, list[dict]] = {name: [] for name in args.variants}
    for seed in args.seeds:
        for name in args.variants:
            reports[name].append(measured(args, name, seed))
            print(row(f"{name}, seed {seed}", reports[name][-1:]), file=sys.stderr, flush=True)
    some = next(iter(reports.values()))[0]
    print(
        f"{args.preset}, {args.steps:,} steps, {len(args.seeds)} seeds: mean ± standard deviation. bits/dim of "
        f"{some['num_images']} held-out images, all timesteps, {some['variance_type']}, clipped; Fréchet distance of "
        f"{some['num_samples']} samples, {some['num_inference_steps']} ancestral steps (real against real: "
        f"{some['frechet_distance_real']:.1f} ± {some['frechet_distance_real_sd']:.1f}).\n"
    )
    print("| the network predicts | val_loss | " + " | ".join(f"epsilon-MSE, t {a}–{b}" for a, b in RANGES), end="")
    print(" | bits/dim | of which L_0 | Fréchet distance |\n|" + "---|" * (5 + len(RANGES)))
    for name, several in reports.items():
        parameters = several[0]["parameters"]
        print(row(name if parameters > 10_000 else f"{name} ({parameters:,} parameters)", several))


if __name__ == "__main__":
    main()
