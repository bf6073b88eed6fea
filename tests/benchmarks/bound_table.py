"""Schedule, loss and variance against the bound and the samples: the same network, data, seeds and budget.

    python tests/benchmarks/bound_table.py [--preset digits] [--steps 1000] [--seeds 0 1 2] [--dataset_name FOLDER]

Every training is measured with each variance that its network can have: fixed small, fixed large, optimal (from its
errors on training images), and learned where the network predicts it. Prints two tables: bits per dimension by
variance; then, for the best of these variances, the bound split into L_T, the KL terms and L_0, the Fréchet distance of
samples drawn with the variance of the training, and the duration of the fastest training. Mean and standard deviation
over the seeds. Finished trainings and measurements stay in --output_dir and are not repeated; --only NAME ... measures some rows
without printing the tables, so that several processes can share the work.

Under log_snr the weights of the bound are all the same, so L_simple and "weights of the bound" are one row there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from trainings import evaluated, kept, spread, trained

COSINE = {"beta_schedule": "squaredcos_cap_v2"}
LOG_SNR = {"beta_schedule": "log_snr", "log_snr_max": 10.0}
LEARNED = {"variance_type": "learned_range"}
VLB = {**LEARNED, "loss_weighting": "vlb", "timestep_sampler": "loss_second_moment"}
# Under log_snr lambda is that of the preset mnist_bound, where L_hybrid is the bound but for the mean at t = 1;
# elsewhere that of the paper.
HYBRID_LOG_SNR = {**LEARNED, "vlb_weight": 0.0859, "first_timestep_share": 0.0625}
ROWS = {
    "linear, L_simple": {},
    "linear, weights of the bound": {"loss_weighting": "kl"},
    "linear, L_hybrid": LEARNED,
    "linear, L_vlb": VLB,
    "cosine, L_simple": COSINE,
    "cosine, weights of the bound": {**COSINE, "loss_weighting": "kl"},
    "cosine, L_hybrid": {**COSINE, **LEARNED},
    "cosine, L_vlb": {**COSINE, **VLB},
    "log_snr from 13.3, L_simple": {**LOG_SNR, "log_snr_max": 13.3},
    "log_snr from 10, L_simple": LOG_SNR,
    "log_snr from 10, L_hybrid": {**LOG_SNR, **HYBRID_LOG_SNR},
    "log_snr from 10, L_vlb": {**LOG_SNR, **VLB},
}
VARIANCES = {
    "fixed_small": "fixed small",
    "fixed_large": "fixed large",
    "optimal": "optimal",
    "learned_range": "learned",
}


def train(args: argparse.Namespace, name: str, seed: int, folder: Path) -> dict:
    """Train a row with a seed."""
    seconds = trained(
        args.preset,
        folder,
        seed=seed,
        max_train_steps=args.steps,
        dataset_name=args.dataset_name,
        train_batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        mixed_precision="no",
        **ROWS[name],
    )
    return {"seconds": seconds}


def measure(args: argparse.Namespace, name: str, folder: Path) -> dict:
    """Measure what was trained with every variance."""
    options = ROWS[name]
    own = options.get("variance_type", "fixed_small")
    bound = {"num_images": args.images, "timesteps": args.timesteps}
    samples = {"num_samples": args.samples, "num_inference_steps": args.inference_steps}
    reports = {
        variance: evaluated(folder, variance_type=variance, **bound, **(samples if variance == own else {}))
        for variance in VARIANCES
        if variance != "learned_range" or variance == own
    }
    names = ("bits_per_dim", "bits_per_dim_se", "prior_bits", "kl_bits_total", "reconstruction_bits")
    figures = {variance: {key: report[key] for key in names} for variance, report in reports.items()}
    keys = ("val_loss", "frechet_distance", "frechet_distance_real", "frechet_distance_real_sd", "num_images")
    return {key: reports[own][key] for key in keys} | {"bits": figures}


def measured(args: argparse.Namespace, name: str, seed: int) -> dict:
    """The figures of a row with a seed, from --output_dir where they are there already."""
    folder = args.output_dir / f"{args.preset}-{args.steps}-{list(ROWS).index(name)}-{seed}"
    how = {"row": name} | {key: getattr(args, key) for key in ("dataset_name", "batch_size", "learning_rate")}
    figures = kept(folder.with_name(f"{folder.name}-trained.json"), how, lambda: train(args, name, seed, folder))
    if args.train_only:
        return figures
    how |= {key: getattr(args, key) for key in ("images", "timesteps", "samples", "inference_steps")}
    return figures | kept(folder.with_name(f"{folder.name}.json"), how, lambda: measure(args, name, folder))


def print_tables(results: dict[str, list[dict]]) -> None:
    """Both tables."""

    def bits(rows: list[dict], variance: str, key: str = "bits_per_dim") -> list[float]:
        return [row["bits"][variance][key] for row in rows if variance in row["bits"]]

    print("| schedule, loss | " + " | ".join(VARIANCES.values()) + " |\n|" + "---|" * (1 + len(VARIANCES)))
    for name, rows in results.items():
        cells = [spread(found, 3) if (found := bits(rows, variance)) else "–" for variance in VARIANCES]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| schedule, loss | best variance | bits/dim | L_T | KL terms | L_0 | Fréchet distance | minutes |")
    print("|" + "---|" * 8)
    for name, rows in results.items():
        best = min(rows[0]["bits"], key=lambda v: sum(bits(rows, v)))
        parts = ("bits_per_dim", "prior_bits", "kl_bits_total", "reconstruction_bits")
        cells = [VARIANCES[best], *(spread(bits(rows, best, key), 3) for key in parts)]
        cells += [spread([row["frechet_distance"] for row in rows], 1)]
        cells += [f"{min(row['seconds'] for row in rows) / 60:.1f}"]  # of trainings that may share the machine
        print(f"| {name} | " + " | ".join(cells) + " |")
    some = next(iter(results.values()))[0]
    real = f"{some['frechet_distance_real']:.1f} ± {some['frechet_distance_real_sd']:.1f}"
    print(f"\nBits/dim of {some['num_images']} held-out images. Fréchet distance between real images: {real}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--dataset_name")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, help="default: the preset's")
    parser.add_argument("--learning_rate", type=float, help="default: the preset's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="NAME", help="measure these rows only")
    parser.add_argument("--train_only", action="store_true", help="measure later, perhaps on another machine")
    parser.add_argument("--images", type=int, default=0, help="of the bound; 0: all held-out ones")
    parser.add_argument("--timesteps", type=int, default=100, help="per image; 0: all")
    parser.add_argument("--samples", type=int, default=800)
    parser.add_argument("--inference_steps", type=int, default=100)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bound_table"))
    args = parser.parse_args()
    results: dict[str, list[dict]] = {}
    for seed in args.seeds:
        for name in args.only or ROWS:
            results.setdefault(name, []).append(measured(args, name, seed))
            bits = results[name][-1].get("bits", {})
            figures = {variance: round(b["bits_per_dim"], 3) for variance, b in bits.items()}
            print(f"{name}, seed {seed}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    if not args.only and not args.train_only:
        print_tables(results)


if __name__ == "__main__":
    main()
