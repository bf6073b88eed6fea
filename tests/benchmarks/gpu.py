"""Training and sampling on a GPU: all of it in one call, printed as tables and written to a JSON file.

    python tests/benchmarks/gpu.py [--dataset_name FOLDER] [--output gpu.json]
    python tests/benchmarks/gpu.py --small        the same in small, on any machine: only shows that the program works

1. The chip: the bf16 rate of a matrix product. Shares below are shares of this rate.
2. Training, `--preset cifar10` (35.7 M parameters, batch 128): the loop of diffusers' example against train.py's, in
   float32 with TF32, in bf16, in bf16 without CUDA graphs, and in bf16 compiled. Images per second, their ratio to the
   example's loop in float32 (which is its default), the share of the bf16 rate by counted FLOPs, and peak memory. Also
   the losses of both loops over the same number of steps with the same learning rates; if they do not agree, the exit
   status is 1.
3. Training of the small presets, with labels, with a learned variance and in colour: images per second of train.py in
   the preset's precision, at the preset's batch and at a batch of 512, without and with CUDA graphs.
4. Sampling with the network of cifar10 and with the embedded one, batch 1, 16 and 256: milliseconds per step of
   ancestral sampling, DDPMPipeline against `reverse_process`: kernel by kernel, as CUDA graphs in the channels-last
   layout, as a model computes on a GPU, and as those in bf16; and how far the results are from those of the first.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from train_speed import DEVICE, example, network_of, ours, rate, side_by_side

from ddpm import checkpoint, data
from ddpm.config import PRESETS, TrainConfig, preset
from ddpm.cuda_graphs import MAX_VALUES, Graphs
from ddpm.engine import Engine
from ddpm.metrics import read_metrics
from ddpm.sampling import generators, reverse_process

CUDA = DEVICE.type == "cuda"
PARTS = ("training", "small", "sampling")
SMALL = {
    "block_out_channels": (16, 32, 32, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "train_batch_size": 8,
    "logging_steps": 5,
    "num_samples": 1,
}


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def bf16_ceiling(size: int) -> float:
    """FLOP/s of a product of two random (size, size) bf16 matrices: median of ten."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(13):
        wait()
        started = time.perf_counter()
        a @ b
        wait()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[3:])


def flops_per_image(config: TrainConfig, images: data.Images) -> float:
    """Of a forward and backward pass, counted (multiply and add are two)."""
    unet = network_of(config, images.size[0], images.channels)
    x = torch.randn(2, images.channels, *images.size)
    with FlopCounterMode(display=False) as counter:
        unet(x, torch.tensor([1, 2])).sample.square().mean().backward()
    return counter.get_total_flops() / 2


def colour_images(folder: Path, count: int = 2000) -> Path:
    """32x32 colour images of blurred noise, where no dataset is given: throughput does not depend on what they show."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.png")
    return folder


AGREE = 0.1  # relative; batches, timesteps and noise differ between the loops, and with them the loss by a few percent


def losses(config: TrainConfig, images: data.Images, steps: int) -> tuple[float, float]:
    """Mean loss of the last half of `steps` steps, theirs and ours, at the same learning rates."""
    warm_up, half = max(1, steps // 10), steps // 2
    config = dataclasses.replace(config, lr_warmup_steps=warm_up, lr_schedule="constant", compile=False)
    theirs: list[float] = []
    running = example(config, images, theirs, warm_up, (0.9, config.adam_beta2))
    for _ in range(steps):
        next(running)
    running.close()
    never = {"validation_steps": 10**6, "checkpointing_steps": 10**6}
    with tempfile.TemporaryDirectory() as folder:
        kept = dataclasses.replace(config, output_dir=Path(folder) / "run", logging_steps=half, **never)
        for _ in _in_a_fresh_state(dataclasses.replace(kept, max_train_steps=2 * half)):
            pass
        rows = [r for r in read_metrics(kept.directory / "metrics.jsonl") if r["kind"] == "train"]
    return statistics.mean(theirs[-half:]), rows[-1]["loss"]


def _in_a_fresh_state(config: TrainConfig):
    from accelerate.state import AcceleratorState

    import train as trainer

    AcceleratorState._reset_state(reset_partial_state=True)
    return trainer.train(config)


def training(config: TrainConfig, images: data.Images, ceiling: float, steps: int, rounds: int) -> dict:
    """Point 2."""
    precisions = ("no", "bf16") if CUDA else ("no",)  # emulated elsewhere: says nothing
    loops, memory = {}, {}

    def watched(name: str, loop: Callable[[], Iterator]) -> Callable[[], Iterator]:
        def run() -> Iterator:
            torch._dynamo.reset()  # a compiled loop is compiled for itself
            if CUDA:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            with closing(loop()) as running:
                for step in running:
                    memory[name] = torch.cuda.max_memory_allocated() if CUDA else None
                    yield step

        return run

    for precision in precisions:
        plain = dataclasses.replace(config, mixed_precision=precision, compile=False)
        loops[f"example, {precision}"] = lambda c=plain: example(c, images)
        loops[f"train.py, {precision}"] = lambda c=plain: ours(c)
    last = dataclasses.replace(config, mixed_precision=precisions[-1])
    others = {"no graphs": {"compile": False, "cuda_graphs": False}, "compile": {"compile": True}}
    for name, options in others.items():
        changed = dataclasses.replace(last, **options)
        loops[f"train.py, {precisions[-1]}, {name}"] = lambda c=changed: ours(c)
    loops = {name: watched(name, loop) for name, loop in loops.items()}
    rates = side_by_side(loops, steps, config.train_batch_size, rounds)
    flops = flops_per_image(config, images)
    shares = {name: images_per_s * flops / ceiling for name, images_per_s in rates.items()}
    print(f"{flops / 1e9:.2f} GFLOP an image; share of the bf16 ceiling: ", end="")
    print(", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    if CUDA:
        print("peak memory: " + ", ".join(f"{name} {size / 2**30:.2f} GiB" for name, size in memory.items()))
    compared = {}
    for precision in precisions:
        count = max(20, steps)
        theirs, mine = losses(dataclasses.replace(config, mixed_precision=precision), images, count)
        agree = abs(mine / theirs - 1) < AGREE
        compared[precision] = {"example": theirs, "train.py": mine, "agree": agree}
        word = "agree" if agree else "DO NOT AGREE"
        print(f"mean loss, {precision}, last half of {count} steps: example {theirs:.4f}, train.py {mine:.4f}: {word}")
    sys.stdout.flush()
    result = {"images_per_second": rates, "flops_per_image": flops, "share_of_bf16": shares, "peak_memory": memory}
    return result | {"loss": compared}


def small_presets(folder: Path, count: int, steps: int, batches: tuple[int, ...], **options) -> list[dict]:
    """Point 3, on random images of the presets' shapes with ten labels."""
    draw, rows = np.random.default_rng(0), []
    for name, size, channels in (("mnist_labels", 28, 1), ("mnist_bound", 28, 1), ("emoji", 32, 3)):
        file = folder / f"{name}.npz"
        shape = (count, size, size) if channels == 1 else (count, size, size, channels)
        np.savez(file, images=draw.integers(0, 256, shape, dtype=np.uint8), labels=np.arange(count) % 10)
        for batch in batches or (PRESETS[name]["train_batch_size"], 512):
            row: dict = {"preset": name, "batch": batch}
            for graphs in (False, True):
                changed = {**options, "train_batch_size": batch, "cuda_graphs": graphs}
                with closing(ours(preset(name, dataset_name=str(file), **changed))) as running:
                    row["graphs" if graphs else "no graphs"] = rate(running, steps, batch)
            rows.append(row)
            ratio = row["graphs"] / row["no graphs"]
            print(
                f"train.py --preset {name}, batch {batch}: {row['no graphs']:.0f} images/s without graphs, "
                f"{row['graphs']:.0f} with ({ratio:.2f} x)",
                flush=True,
            )
    return rows


class InBf16(torch.nn.Module):
    """The network's answer under autocast."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, xt, t):
        with torch.autocast(DEVICE.type, torch.bfloat16, cache_enabled=False):
            return self.unet(xt, t).sample


def sampling(name: str, unet, scheduler, batches: tuple[int, ...], steps: int, rounds: int) -> list[dict]:
    """Point 4. Every way starts from the same noise; `steps` of T, since each step costs the same."""
    unet = unet.to(DEVICE).eval()
    pipeline = DDPMPipeline(copy.deepcopy(unet), DDPMScheduler.from_config(scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    channels, size = unet.config.in_channels, unet.config.sample_size
    own = copy.deepcopy(unet)
    graphs = checkpoint.on_a_gpu(own, DEVICE) if CUDA else lambda *inputs: own(*inputs).sample
    in_bf16 = Graphs(InBf16(own)) if CUDA else InBf16(own)
    rows = []
    for batch in batches:
        ways = {"eager": Engine(unet, scheduler, DEVICE)}
        if batch * channels * size**2 <= MAX_VALUES:  # larger ones are not recorded
            ways["graphs"] = Engine(unet, scheduler, DEVICE, graphs)
            ways["graphs, bf16"] = Engine(unet, scheduler, DEVICE, in_bf16)

        def whole(engine, batch=batch) -> torch.Tensor:
            *_, last = reverse_process(engine, scheduler, (batch, channels, size, size), num_inference_steps=steps)
            return last.x_prev.float().cpu()

        def theirs(batch=batch) -> torch.Tensor:
            drawn = pipeline(
                batch_size=batch, generator=generators(0, batch), num_inference_steps=steps, output_type="np"
            ).images
            return torch.from_numpy(drawn).permute(0, 3, 1, 2) * 2 - 1

        calls = {"DDPMPipeline": theirs} | {way: (lambda e=engine: whole(e)) for way, engine in ways.items()}
        results = {way: call() for way, call in calls.items()}  # warms up, too
        taken: dict[str, list[float]] = {way: [] for way in calls}
        for _ in range(rounds):
            for way, call in calls.items():
                wait()
                started = time.perf_counter()
                call()
                wait()
                taken[way].append((time.perf_counter() - started) / steps * 1e3)
        row = {"model": name, "batch": batch, "ms_per_step": {w: statistics.median(v) for w, v in taken.items()}}
        row["from_eager"] = {
            w: float((r.clamp(-1, 1) - results["eager"].clamp(-1, 1)).abs().max()) for w, r in results.items()
        }
        base = row["ms_per_step"]["DDPMPipeline"]
        print(f"{name}, batch {batch:3d}: " + "; ".join(
            f"{w} {ms:.2f} ms ({base / ms:.2f} x, differs by {row['from_eager'][w]:.1e})"
            for w, ms in row["ms_per_step"].items()
        ), flush=True)  # fmt: skip
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", help="32x32 colour images; default: blurred noise")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--steps", type=int, default=50, help="of each training and sampling that is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts; default: all")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if not CUDA and not args.small:
        parser.error("no GPU here; --small tries the program on a CPU")
    torch.set_float32_matmul_precision("high")
    found = {"device": torch.cuda.get_device_name() if CUDA else "cpu", "torch": torch.__version__}
    found["bf16_flops_per_second"] = bf16_ceiling(256 if args.small else 8192)
    print(f"{found['device']}: {found['bf16_flops_per_second'] / 1e12:.3f} TFLOP/s in a bf16 product", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        source = args.dataset_name or str(colour_images(Path(folder) / "images", 200 if args.small else 2000))
        config = preset("cifar10", dataset_name=source, **(SMALL if args.small else {}))
        images = data.prepare(data.DataOptions(dataset_name=source))
        steps, rounds = (3, 1) if args.small else (args.steps, args.rounds)
        if "training" in args.only:
            found["training"] = training(config, images, found["bf16_flops_per_second"], steps, rounds)
        count, batches = (200, (8,)) if args.small else (4000, ())
        small = {k: v for k, v in SMALL.items() if k in ("logging_steps", "num_samples")} if args.small else {}
        if "small" in args.only:
            found["small_presets"] = small_presets(Path(folder), count, steps, batches, **small)
        args.output.write_text(json.dumps(found, indent=1))
    embedded = checkpoint.load(checkpoint.EMBEDDED)
    batches, steps = ((2,), 4) if args.small else ((1, 16, 256), args.steps)
    if "sampling" in args.only:
        with torch.no_grad():
            found["sampling"] = sampling("mnist", embedded.unet, embedded.scheduler, batches, steps, rounds)
            unet = network_of(config, 32, 3)
            torch.nn.init.normal_(unet.conv_out.weight, std=0.02)
            found["sampling"] += sampling(
                "cifar10", unet, DDPMScheduler(timestep_spacing="trailing"), batches, steps, rounds
            )
    args.output.write_text(json.dumps(found, indent=1))
    print(f"written to {args.output}")
    losses_of = found.get("training", {}).get("loss", {})
    return 0 if all(row["agree"] for row in losses_of.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
