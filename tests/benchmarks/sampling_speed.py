"""Milliseconds per step of ancestral sampling on this CPU: DDPMPipeline against our loop over each backend.

    python tests/benchmarks/sampling_speed.py [--threads 2] [--rounds 7] [--full]

All use the same weights, the same noise (one generator per image) and the same number of threads. In each round, every
backend takes a number of steps, one backend after the other, so that a disturbance hits all of them; medians over the
rounds are compared. Backends that are not installed are left out: ONNX Runtime needs `pip install onnxruntime onnx
onnxscript`, torch.compile a C++ compiler. Beside each stands the share of the processor's float32 rate that it reaches:
the counted FLOPs of the network that it computes, over what products of two large matrices reach just before.
"OpenVINO, bfloat16" is what `--precision bfloat16` of ddpm.evaluate and ddpm.sample asks for, where the processor has
it. --full also draws images in all 1000 steps, at batches of 1 and 4, and compares them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import logging
import os
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from diffusers import DDPMPipeline
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ddpm.checkpoint import EMBEDDED, Checkpoint, load
from ddpm.compiled import Compiled
from ddpm.engine import Engine
from ddpm.openvino_backend import Key, OpenVINO, Request, computes_in_bfloat16, rewritten
from ddpm.sampling import generators, reverse_process, sample
from ddpm.threads import physical_cores

GOAL = {1: 3.0, 4: 3.0, 16: 2.5, 64: 2.0}
BFLOAT16 = "OpenVINO, bfloat16"


def stretch(batch: int) -> int:
    """Steps of one way in one round."""
    return max(6, min(60, 256 // batch))


class Output(nn.Module):
    """The network as a function of tensors alone."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, xt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.unet(xt, t).sample


def onnx_runtime(model: Checkpoint, threads: int) -> Callable:
    """The network by ONNX Runtime, for batches of any size."""
    import onnxruntime

    file = io.BytesIO()
    size = (2, model.channels, model.resolution, model.resolution)
    axes = {"xt": {0: "batch"}, "t": {0: "batch"}}
    example = (torch.zeros(size), torch.zeros(2, dtype=torch.int64))
    torch.onnx.export(Output(model.unet), example, file, dynamo=False, input_names=["xt", "t"], dynamic_axes=axes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda xt, t: torch.from_numpy(session.run(None, {"xt": xt.numpy(), "t": t.numpy()})[0])


def ways(model: Checkpoint, threads: int, without: list[str]) -> dict[str, Engine]:
    """Engines by name; what this machine has."""
    engines = {"eager": Engine(model.unet, model.scheduler)}
    if importlib.util.find_spec("openvino"):
        engines["OpenVINO"] = model.engine()
    if computes_in_bfloat16():
        engines[BFLOAT16] = model.engine(precision="bfloat16")
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        engines["ONNX Runtime"] = Engine(model.unet, model.scheduler, network=onnx_runtime(model, threads))
    if shutil.which("g++"):
        compiled = torch.compile(Output(model.unet), dynamic=False)
        engines["torch.compile"] = Engine(model.unet, model.scheduler, network=compiled)
    return {name: engine for name, engine in engines.items() if name not in without}


def pipeline(model: Checkpoint) -> DDPMPipeline:
    made = DDPMPipeline(model.unet, model.scheduler)
    made.set_progress_bar_config(disable=True)
    return made


def stretches(model: Checkpoint, engine: Engine, shape: tuple, steps: int):
    """Seconds of each stretch of `steps` steps of an endless sampling."""
    running = iter(())
    while True:
        began = time.perf_counter()
        for _ in range(steps):
            if next(running, None) is None:
                running = reverse_process(engine, model.scheduler, shape)
                next(running)
        yield time.perf_counter() - began


def pipeline_stretches(model: Checkpoint, shape: tuple, steps: int):
    """The same of `DDPMPipeline.__call__`, less what is not steps: the difference of a long and a short call."""
    made = pipeline(model)

    def call(count: int) -> float:
        began = time.perf_counter()
        made(batch_size=shape[0], generator=generators(0, shape[0]), num_inference_steps=count, output_type="np")
        return time.perf_counter() - began

    while True:
        yield call(steps + 2) - call(2)


def flops_of(unet: nn.Module, model: Checkpoint) -> int:
    """FLOPs of a call of the network for one image."""
    x = torch.zeros(1, model.channels, *model.size)
    # Of attention, the counter knows the plain form only.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        unet(x, torch.tensor([1]))
    return counter.get_total_flops()


def float32_rate(side: int = 2048) -> float:
    """FLOP/s of the product of two large matrices: the best of many, which is what the processor can do."""
    a, b = torch.randn(2, side, side)
    seconds = []
    for _ in range(40):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)


def measure(model: Checkpoint, engines: dict[str, Engine], batch: int, rounds: int, rate: float) -> None:
    shape, steps = (batch, model.channels, model.resolution, model.resolution), stretch(batch)
    draw = torch.Generator().manual_seed(0)
    xt, t = torch.randn(shape, generator=draw), torch.randint(0, model.schedule.num_steps, (batch,), generator=draw)
    expected, running = engines["eager"](xt, t), {"DDPMPipeline": pipeline_stretches(model, shape, steps)}
    for name, engine in engines.items():
        engine.prepare(batch, wait=True)
        off = float((engine(xt, t) - expected).abs().max())
        assert off < (1 if name == BFLOAT16 else 1e-4), f"{name} differs from eager by {off}"
        running[name] = stretches(model, engine, shape, steps)
    taken: dict[str, list[float]] = {name: [] for name in running}
    for index in range(rounds + 1):
        for name, timer in running.items():
            seconds = next(timer)
            if index:  # the first round warms up
                taken[name].append(1000 * seconds / steps)
    base = statistics.median(taken["DDPMPipeline"])
    plain, fewer = flops_of(model.unet, model), flops_of(rewritten(model.unet), model)
    print(f"\nbatch {batch}: goal {GOAL.get(batch, '-')} times as fast as DDPMPipeline")
    for name, values in taken.items():
        middle = statistics.median(values)
        share = batch * (fewer if name.startswith("OpenVINO") else plain) / (middle / 1000) / rate
        spread = f"({min(values):.2f} to {max(values):.2f})"
        print(
            f"  {name:18s} {middle:8.2f} ms a step  {spread:19s} {base / middle:5.2f} times, {share:4.0%} of the rate"
        )


class Watched(OpenVINO):
    """OpenVINO, and the seconds in which at least one of its requests was computing."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__(unet)
        self.running, self.began, self.seconds = 0, 0.0, 0.0

    def compile(self, model, key: Key) -> Sequence[Request]:
        requests = super().compile(model, key)
        for request in requests:
            self.watch(request)
        return requests

    def watch(self, request: Request) -> None:
        start, wait = request.start, request.wait

        def watched_start() -> None:
            if not self.running:
                self.began = time.perf_counter()
            self.running += 1
            start()

        def watched_wait() -> None:
            wait()
            self.running -= 1
            if not self.running:
                self.seconds += time.perf_counter() - self.began

        request.start, request.wait = watched_start, watched_wait


def profile(model: Checkpoint, batch: int, rounds: int, steps: int) -> None:
    """The share of a step in which no network computes: the loop's, and what the engine does around the requests."""
    shape = (batch, model.channels, model.resolution, model.resolution)
    watched = Watched(model.unet)
    engine = Engine(model.unet, model.scheduler, network=Compiled(model.unet, watched))
    engine.prepare(batch, wait=True)
    shares, whole = [], []
    for index in range(rounds + 1):
        watched.seconds, began = 0.0, time.perf_counter()
        for _ in itertools.islice(reverse_process(engine, model.scheduler, shape), steps):
            pass
        seconds = time.perf_counter() - began
        if index:
            shares.append(1 - watched.seconds / seconds)
            whole.append(1000 * seconds / steps)
    print(f"  batch {batch}: {statistics.median(whole):.2f} ms a step, of which {statistics.median(shares):.1%}")


def full(model: Checkpoint, engine: Engine, batch: int, rounds: int = 3) -> None:
    """All steps, as a user would call either; medians, after a short call of both."""
    shape = (batch, model.channels, model.resolution, model.resolution)
    engine.prepare(batch, wait=True)
    theirs, steps = pipeline(model), model.schedule.num_steps
    seconds: list[tuple[float, float]] = []
    for count in [10] + [steps] * rounds:
        began = time.perf_counter()
        ours = sample(engine, model.scheduler, shape, num_inference_steps=count, seed=0)
        middle = time.perf_counter()
        images = theirs(
            batch_size=batch, generator=generators(0, batch), num_inference_steps=count, output_type="np"
        ).images
        seconds.append((time.perf_counter() - middle, middle - began))
    pipe, mine = (statistics.median(s) for s in zip(*seconds[1:], strict=True))
    off = np.abs(ours.clamp(-1, 1).permute(0, 2, 3, 1).numpy() - (2 * images - 1)).max()
    print(
        f"  batch {batch}, {steps} steps: DDPMPipeline {pipe:.1f} s, ours {mine:.1f} s, {pipe / mine:.2f} times; "
        f"largest difference in [-1, 1] {off:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="*", default=list(GOAL))
    parser.add_argument("--without", nargs="*", default=[], help='such as "torch.compile", which compiles for a minute')
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(args.threads)
    model = load(args.model)
    print(f"{model.num_parameters / 1e6:.2f} M parameters, {args.threads} threads, load {os.getloadavg()[0]:.1f}")
    with contextlib.redirect_stderr(io.StringIO()):
        engines = ways(model, args.threads, args.without)
    with torch.no_grad():
        rate = float32_rate()
        print(f"float32 rate of this processor: {rate / 1e9:.0f} GFLOP/s")
        for batch in args.batches:
            measure(model, engines, batch, args.rounds, rate)
        if "OpenVINO" in engines:
            print("\na step of ours, and the share of it in which no network computes")
            for batch in args.batches:
                profile(model, batch, args.rounds, stretch(batch))
        if args.full:
            print("\nall steps")
            for batch in (1, 4):
                full(model, engines.get("OpenVINO", engines["eager"]), batch)


if __name__ == "__main__":
    main()
