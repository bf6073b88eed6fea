"""How the cost of a training step and of a sampling step grows: predicted from counted FLOPs, and measured.

    python tests/benchmarks/cost.py [--rounds 3] [--seconds 1.0] [--only CASE ...]

One thing changes at a time from a base (28x28, batch 16, widths 16, 32, 64). A prediction is the base's time multiplied
by the ratio of the FLOPs. With a learned variance, the training step has the loss L_hybrid; with guidance, a network
call is that of both halves of the batch. All steps of a training or a sampling cost the same, so their number is a plain factor; the
last rows check this. Two processes are compared with one that has the same cores and the same global batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm import checkpoint
from ddpm.config import preset
from ddpm.engine import Engine
from ddpm.sampling import sample
from ddpm.threads import physical_cores
from ddpm.training.recipe import make_objective, make_scheduler
from ddpm.unet import build_unet


@dataclass(frozen=True)
class Case:
    name: str
    size: int = 28
    batch: int = 16
    widths: tuple[int, ...] = (16, 32, 64)
    classes: int = 0
    guided: bool = False
    learned: bool = False


CASES = (
    Case("base"),
    Case("size 16", size=16),
    Case("size 32", size=32),
    Case("size 64", size=64),
    Case("batch 1", batch=1),
    Case("batch 4", batch=4),
    Case("batch 64", batch=64),
    Case("width / 2", widths=(8, 16, 32)),
    Case("width x 2", widths=(32, 64, 128)),
    Case("width x 4", widths=(64, 128, 256)),
    Case("10 classes", classes=10),
    Case("1000 classes", classes=1000),
    Case("10 classes, guided", classes=10, guided=True),
    Case("learned variance", learned=True),
)


class Work:
    """A training step and a network call of one case."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.unet = build_unet(case.size, 1, case.widths, num_classes=case.classes, learned_variance=case.learned)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-4, fused=True)
        config = preset("digits", variance_type="learned_range" if case.learned else "fixed_small")
        self.objective = make_objective(config, make_scheduler(config), torch.device("cpu"))
        self.x = torch.randn(case.batch, 1, case.size, case.size)
        self.t = torch.randint(0, 1000, (case.batch,))
        self.labels = (torch.randint(0, case.classes, (case.batch,)),) if case.classes else ()
        self.halves = 2 if case.guided else 1

    def train(self) -> None:
        eps_hat, v = self.objective.split(self.unet(self.x, self.t, *self.labels).sample)
        error = (self.x - eps_hat).square().mean(dim=(1, 2, 3))
        self.objective(error, eps_hat, v, self.x, self.x, self.t).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def call(self) -> None:
        self.unet(*(torch.cat([values] * self.halves) for values in (self.x, self.t, *self.labels)))

    def flops(self, what: str) -> float:
        with FlopCounterMode(display=False) as counter:
            getattr(self, what)()
        return counter.get_total_flops()


def milliseconds(work: Callable[[], None], seconds: float) -> float:
    """Of one call, median over `seconds` of them, at least three."""
    work()
    taken, end = [], time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken)


def grow(rounds: int, seconds: float, only: list[str] | None) -> None:
    works = {case.name: Work(case) for case in CASES if only is None or case.name in ("base", *only)}
    for what, title in (("train", "training step"), ("call", "network call of a sampling step")):
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(rounds):
            for name, work in works.items():
                taken[name].append(milliseconds(getattr(work, what), seconds))
        flops = {name: work.flops(what) for name, work in works.items()}
        print(f"\n{title}\n\n| | GFLOP | ms | predicted ms | measured / predicted |\n|---|---|---|---|---|")
        base = statistics.median(taken["base"])
        for name, values in taken.items():
            ms, predicted = statistics.median(values), base * flops[name] / flops["base"]
            print(
                f"| {name} | {flops[name] / 1e9:.3f} | {ms:.1f} | {predicted:.1f} | {ms / predicted:.2f} |", flush=True
            )


def steps() -> None:
    """Whole samplings of the embedded model by number of steps, plain network."""
    model = checkpoint.load(checkpoint.EMBEDDED)
    engine, size = Engine(model.unet, model.scheduler), model.resolution
    print("\nsampling 4 images\n\n| steps | seconds | seconds / 50 steps' |\n|---|---|---|")
    base = None
    for count in (50, 100, 250, 1000):
        started = time.perf_counter()
        sample(engine, model.scheduler, (4, 1, size, size), num_inference_steps=count)
        taken = time.perf_counter() - started
        base = base or taken
        print(f"| {count} | {taken:.2f} | {taken / base:.2f} (predicted {count / 50:.0f}) |", flush=True)


def one_process(total: int, rank: int) -> None:
    """Run by torchrun: milliseconds of a data-parallel training step of the base, global batch 64."""
    torch.set_num_threads(max(1, physical_cores() // total))
    torch.distributed.init_process_group("gloo")
    work = Work(Case("base", batch=64 // total))
    work.unet = torch.nn.parallel.DistributedDataParallel(work.unet)
    for _ in range(5):
        work.train()
    taken = []
    for _ in range(40):
        torch.distributed.barrier()
        started = time.perf_counter()
        work.train()
        taken.append((time.perf_counter() - started) * 1e3)
    if rank == 0:
        print(json.dumps(statistics.median(taken)), flush=True)
    torch.distributed.destroy_process_group()


def processes(rounds: int) -> None:
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for total in taken:
            command = ["torchrun", "--standalone", "--nproc_per_node", str(total), __file__, "--one_process"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            taken[total].append(float(done.stdout.split()[-1]))
    one, two = (statistics.median(values) for values in taken.values())
    print(
        f"\n{physical_cores()} cores, global batch 64, a training step: 1 process {one:.1f} ms, 2 processes {two:.1f} ms"
    )
    print(f"ratio {two / one:.2f}; predicted from FLOPs 1.00, since the cores are the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure and round")
    parser.add_argument(
        "--only", nargs="+", choices=[case.name for case in CASES], metavar="CASE", help="beside the base"
    )
    parser.add_argument("--one_process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_process:
        return one_process(int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]))
    torch.set_num_threads(physical_cores())
    grow(args.rounds, args.seconds, args.only)
    if args.only:
        return
    steps()
    processes(args.rounds)


if __name__ == "__main__":
    main()
