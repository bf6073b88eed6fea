"""The optimal variance of a trained network (Bao et al. 2022) against the fixed ones, at 10 to 1000 steps.

    python tests/benchmarks/optimal_variance.py MODEL [--dataset_name FOLDER] [--steps 10 50 250 1000]

For each number of steps: bits per dimension of the process with that many evenly spread timesteps, and the Fréchet
distance of as many ancestral samples in that many steps, with each variance. All cells share images, noise and seeds.
Where the model's folder has variance.json (`python -m ddpm.evaluate MODEL --variance_type optimal --record`), the
errors of the network are not measured for each cell anew. Finished cells stay in --output_dir; --only VARIANCE ... measures some columns without printing the table, so that
several processes can share the work.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from trainings import evaluated, kept

VARIANCES = {"fixed_small": "fixed small", "fixed_large": "fixed large", "optimal": "optimal"}


def measure(args: argparse.Namespace, steps: int, variance: str) -> dict:
    """One cell: the bound, and samples if there are to be some."""
    report = evaluated(
        args.model,
        output=args.output_dir / f"{args.model.name}-{steps}-{variance}-report.json",
        variance_type=variance,
        dataset_name=args.dataset_name,
        num_images=args.images,
        timesteps=args.timesteps if args.timesteps < steps else 0,
        bound_steps=steps,
        num_samples=args.samples if steps <= args.sampled_to else 0,
        sampler=f"ddpm_{variance}",
        num_inference_steps=steps,
    )
    names = ("num_images", "bits_per_dim", "bits_per_dim_se", "frechet_distance")
    names += ("frechet_distance_real", "frechet_distance_real_sd", "clear_samples")
    return {name: report.get(name) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset_name", help="default: what the model was trained on")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50, 250, 1000])
    parser.add_argument("--images", type=int, default=0, help="of the bound; 0: all held-out ones")
    parser.add_argument("--timesteps", type=int, default=100, help="per image, where a process has more")
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--sampled_to", type=int, default=1000, help="no samples with more steps than this")
    parser.add_argument("--only", nargs="+", choices=list(VARIANCES), metavar="VARIANCE")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/optimal_variance"))
    args = parser.parse_args()
    how = {key: getattr(args, key) for key in ("model", "dataset_name", "images", "timesteps", "samples", "sampled_to")}
    cells = {}
    for steps in args.steps:
        for variance in args.only or VARIANCES:
            result = args.output_dir / f"{args.model.name}-{steps}-{variance}.json"
            cells[steps, variance] = kept(result, how, lambda s=steps, v=variance: measure(args, s, v))
            print(f"{steps} steps, {variance}: {json.dumps(cells[steps, variance])}", file=sys.stderr, flush=True)
    if args.only:
        return
    for title, write in (
        ("bits/dim", lambda cell: f"{cell['bits_per_dim']:.3f}"),
        ("Fréchet distance", lambda cell: f"{cell['frechet_distance']:.1f}" if cell["frechet_distance"] else "–"),
    ):
        print(f"\n{title}:\n\n| steps | " + " | ".join(VARIANCES.values()) + " |\n|" + "---|" * (1 + len(VARIANCES)))
        for steps in args.steps:
            print(f"| {steps:,} | " + " | ".join(write(cells[steps, variance]) for variance in VARIANCES) + " |")
    print(f"\n{next(iter(cells.values()))['num_images']} held-out images, {args.samples} samples.")
    for cell in [cell for cell in cells.values() if cell["frechet_distance_real"]][:1]:
        real = f"{cell['frechet_distance_real']:.1f} ± {cell['frechet_distance_real_sd']:.1f}"
        print(f"Fréchet distance between real images: {real}.")


if __name__ == "__main__":
    main()
