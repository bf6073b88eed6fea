"""A training small enough for a test, run in this process or by a command, and how two of them are compared."""

import sys

import safetensors.torch
import torch
from accelerate.state import AcceleratorState

import train as trainer
from ddpm.config import NETWORK, SCHEDULE, preset
from ddpm.metrics import read_metrics
from ddpm.processes import make_accelerator
from ddpm.training import state
from ddpm.unet import build_unet

TINY = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "train_batch_size": 16,
    "max_train_steps": 12,
    "lr_warmup_steps": 4,
    "logging_steps": 5,
    "validation_steps": 6,
    "checkpointing_steps": 3,
    "num_validation_images": 32,
    "num_samples": 4,
    "sample_steps": 3,
    "num_train_timesteps": 40,
    "plots": False,  # which take longer than all the rest
    "num_cpu_threads": 1,
}
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def command(output_dir, **options) -> list[str]:
    """`train.py` with the options of TINY, and with others over them; of TINY without those that a model decides from
    which a training starts."""
    words = ["train.py", "--output_dir", str(output_dir)]
    decided = {*NETWORK, *SCHEDULE} if "init_from" in options else set()
    for name, value in ({name: v for name, v in TINY.items() if name not in decided} | options).items():
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no_'}{name}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def in_process(
    output_dir, should_stop=lambda step: False, prepare=lambda accelerator: None, build=build_unet, **options
):
    """Consume the generator here; returns the last Progress. `prepare` may change the Accelerator first, and `build`
    makes the network."""
    AcceleratorState._reset_state(reset_partial_state=True)
    config = preset("digits", output_dir=output_dir, **(TINY | options))
    seen = []
    accelerator = make_accelerator(config)
    prepare(accelerator)
    stop = lambda: should_stop(seen[-1].step + 1 if seen else 1)  # noqa: E731
    for progress in trainer.train(config, stop, build, accelerator):
        seen.append(progress)
    return seen[-1]


def weights(folder):
    return safetensors.torch.load_file(folder / "unet/diffusion_pytorch_model.safetensors")


def assert_same_run(one, two):
    """Exported weights, full training state and metrics (but for timings) are equal bit for bit."""
    a, b = (state.load_latest(folder / "checkpoints") for folder in (one, two))
    assert a.meta["step"] == b.meta["step"]
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert torch.equal(tensor, b.tensors[name]), name
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(two)[name]), name
    rows = [[{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(f / "metrics.jsonl")] for f in (one, two)]  # fmt: skip
    assert rows[0] == rows[1]
