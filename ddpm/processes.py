"""Processes that work together: device, precision, threads, who does what, and agreement between them."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, ProjectConfiguration, broadcast_object_list

from ddpm.config import TrainConfig
from ddpm.threads import physical_cores


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Device, precision, accumulation and processes as asked for.

    Raises:
        ValueError: the machine cannot do what the options ask, or was launched in a way that cannot work.
    """
    if config.report_to != "none" and importlib.util.find_spec(config.report_to) is None:
        raise ValueError(f"--report_to {config.report_to}: not installed; pip install {config.report_to}")
    if config.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("--mixed_precision fp16 needs a GPU; bf16 and no work on the CPU")
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=None if config.report_to == "none" else config.report_to,
        project_config=ProjectConfiguration(
            project_dir=str(config.directory), logging_dir=str(config.directory / "logs")
        ),
    )
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise ValueError(f"{accelerator.distributed_type.value}: only plain data parallelism is supported")
    if accelerator.gradient_accumulation_steps != config.gradient_accumulation_steps:
        raise ValueError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={accelerator.gradient_accumulation_steps} in the environment; "
            f"unset it, --gradient_accumulation_steps {config.gradient_accumulation_steps} decides"
        )
    settle(accelerator, config.num_cpu_threads, "train.py")
    return accelerator


def settle(accelerator: Accelerator, num_cpu_threads: int, program: str) -> None:
    """Threads, matrix precision, and a check that the processes know of each other.

    Raises:
        ValueError: they do not.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise ValueError(
            f"{world} processes were started but do not know of each other; on CPUs: "
            f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 {program}"
        )
    if accelerator.device.type == "cpu":
        # `accelerate launch` leaves one thread on a CPU (OMP_NUM_THREADS=1): half or less of what the cores can do.
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(num_cpu_threads or max(1, physical_cores() // local_processes))
    else:
        torch.set_float32_matmul_precision("high")  # TF32


def memory_format(device: torch.device) -> torch.memory_format:
    """How a network lies in memory where it trains: a GPU's matrix units read channels last."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def plain_logging() -> None:
    """Our own messages as they are, of the libraries only warnings."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpx2", "filelock", "accelerate", "matplotlib", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def share(count: int, rank: int, world: int) -> range:
    """Which of `count` images this process samples: a part in one piece, so that the parts join up in order."""
    size = -(-count // world)
    return range(min(rank * size, count), min((rank + 1) * size, count))


def on_main(accelerator: Accelerator, work: Callable[[], Any]) -> Any:
    """What `work` returns in the main process, in every process; what it raises there is raised everywhere, elsewhere
    as a ValueError: nobody waits for a process that gave up."""
    if accelerator.num_processes == 1:
        return work()
    result: list[Any] = [None, None]
    raised = None
    if accelerator.is_main_process:
        try:
            result[0] = work()
        except Exception as error:
            raised, result[1] = error, str(error) or type(error).__name__
    result = broadcast_object_list(result)
    if raised:
        raise raised
    if result[1] is not None:
        raise ValueError(result[1])
    return result[0]


def agree(accelerator: Accelerator, wish: str | None, step: int) -> str | None:
    """One of the processes' wishes, "interrupted" before "time", the same in all. On GPUs asked every tenth step, since
    the answer waits for them."""
    if accelerator.num_processes == 1:
        return wish
    if accelerator.device.type != "cpu" and step % 10:
        return None
    wishes = (None, "time", "interrupted")
    gathered: Any = accelerator.gather(torch.tensor([wishes.index(wish)], device=accelerator.device))
    return wishes[int(gathered.max())]
