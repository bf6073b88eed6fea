"""What few steps cost in quality: every kind of row at 10, 20, 50 and 100 steps against 1000 ancestral ones.

    python tests/benchmarks/few_steps.py --dataset_name FOLDER [--num_samples 1000] [--folder runs/few_steps]
    python tests/benchmarks/few_steps.py --dataset_name FOLDER --num_samples 0 --rounds 3 --picture few.png

Image i of every row starts from the same noise. The samples are stored in the folder while they are drawn: the same
command continues an interrupted run, and more samples extend the ones that are there. With --rounds, every row is also
timed (seconds for a batch of 8 pictures), the rows in turn. Prints the table and writes it as JSON. With --picture, the
first pictures of each row are written as PNG.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from ddpm import data, plots
from ddpm.checkpoint import EMBEDDED, load
from ddpm.evaluate import quality
from ddpm.model_files import WEIGHTS
from ddpm.sampling import sample
from ddpm.threads import physical_cores

STEPS = (10, 20, 50, 100)
# Each kind of row: its title, and what it asks of `sample`.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIM", {"sampler": "ddim"}),
    "dpm_solver++": ("DPM-Solver++", {"sampler": "dpm_solver++"}),
    "sde_dpm_solver++": ("DPM-Solver++, eta = 1", {"sampler": "dpm_solver++", "eta": 1.0}),
    "ddpm": ("ancestral", {"sampler": "ddpm"}),
}
BLOCK = 100  # samples of a row before the next row gets as many
TIMED = 8  # pictures of a timed run


def drawn(folder: Path, kind: str, steps: int) -> np.ndarray:
    """(n, C, H, W) uint8: what a row has so far."""
    file = folder / f"{kind}-{steps}.npy"
    return np.load(file) if file.is_file() else np.empty((0, 0, 0, 0), np.uint8)


def draw(model, folder: Path, kind: str, steps: int, count: int, batch_size: int, seed: int) -> None:
    """Bring a row to `count` samples of a seed."""
    have = drawn(folder, kind, steps)
    size = (model.channels, model.resolution, model.resolution)
    while len(have) < count:
        options = {**KINDS[kind][1], "num_inference_steps": steps, "seed": seed, "first_image": len(have)}
        x0 = sample(model.engine(), model.scheduler, (min(batch_size, count - len(have)), *size), **options)
        have = np.concatenate([have.reshape(-1, *size), np.moveaxis(plots.to_pixels(x0), -1, 1)])
        np.save(folder / "part.npy", have)
        (folder / "part.npy").replace(folder / f"{kind}-{steps}.npy")


def seconds(model, rows: list[tuple[str, int]], rounds: int) -> dict[tuple[str, int], float]:
    """Median over rounds of what a batch of TIMED pictures takes."""
    shape = (TIMED, model.channels, model.resolution, model.resolution)
    model.engine().prepare(TIMED, wait=True)
    taken: dict[tuple[str, int], list[float]] = {row: [] for row in rows}
    for _ in range(rounds):
        for kind, steps in rows:
            began = time.perf_counter()
            sample(model.engine(), model.scheduler, shape, num_inference_steps=steps, **KINDS[kind][1])
            taken[kind, steps].append(time.perf_counter() - began)
    return {row: statistics.median(values) for row, values in taken.items()}


def save_picture(samples: dict[tuple[str, int], np.ndarray], columns: int, path: Path) -> None:
    """The first samples of each row, one row below the other."""
    figure = plots.new_figure(0.62 * columns + 2.0, 0.66 * len(samples) + 0.1)
    labels = [f"{KINDS[kind][0]}, {steps}" for kind, steps in samples]
    rows = [list(pictures[:columns].transpose(0, 2, 3, 1)) for pictures in samples.values()]
    plots.tiles(figure, rows, labels=labels, size=8)
    plots.save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--num_samples", type=int, default=1000, help="of each row; 0: what the folder has")
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=0, help="of timing")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--folder", type=Path, default=Path("runs/few_steps"))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", nargs="*", metavar="KIND-STEPS", help=f"such as ddpm-100, of {', '.join(KINDS)}; default: all"
    )
    args = parser.parse_args()
    for row in args.rows or ():
        kind, _, steps = row.rpartition("-")
        if kind not in KINDS or not steps.isdecimal():
            parser.error(f"--rows {row}: one of {', '.join(KINDS)} is needed, a hyphen and a number of steps")
    torch.set_num_threads(args.threads)
    model = load(args.model)
    model.engine().settle(args.batch_size)  # the table is the same every time
    weights = hashlib.sha256((Path(args.model) / "unet" / WEIGHTS).read_bytes()).hexdigest()
    args.folder /= f"{weights[:12]}-seed-{args.seed}"  # samples of another model are no part of this table
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = [*((s, n) for s in KINDS for n in STEPS), ("ddpm", model.schedule.num_steps)]
    if args.rows:
        rows = [(kind, int(steps)) for kind, steps in (row.rsplit("-", 1) for row in args.rows)]
    for block in range(BLOCK, args.num_samples + BLOCK, BLOCK):
        for row in rows:
            draw(model, args.folder, *row, min(block, args.num_samples), args.batch_size, args.seed)
        print(f"{min(block, args.num_samples)} samples of each row", file=sys.stderr, flush=True)

    samples = {row: drawn(args.folder, *row) for row in rows}
    count = min(len(pixels) for pixels in samples.values())  # distances compare at the same n only
    images = data.prepare(data.DataOptions(dataset_name=args.dataset_name))
    features = quality.Features("auto", images)
    real = features(images.train)
    timed = seconds(model, rows, args.rounds) if args.rounds else {}
    table = []
    for row in rows:
        found = quality.distances(real, features(samples[row][:count]), seed=0)
        table.append({"kind": row[0], "steps": row[1], "num_samples": count, **found, "seconds": timed.get(row)})
    (args.folder / "table.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    floor = f"{table[0]['frechet_distance_real']:.1f} ± {table[0]['frechet_distance_real_sd']:.1f}"
    print(f"{count} samples of each row; real images have {floor}\n")
    print(f"| sampler | steps | Fréchet distance | seconds for {TIMED} pictures |\n|---|---|---|---|")
    for line in table:
        spent = "" if line["seconds"] is None else f"{line['seconds']:.2f}"
        print(f"| {KINDS[line['kind']][0]} | {line['steps']} | {line['frechet_distance']:.1f} | {spent} |")
    if args.picture:
        save_picture(samples, 10, args.picture)


if __name__ == "__main__":
    main()
