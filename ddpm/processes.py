"""Processes that work together: their device, precision and threads, and how they share work and agree."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, ProjectConfiguration, broadcast_object_list, gather_object

from ddpm.config import DatasetOptions, HubOptions, TrainConfig
from ddpm.errors import first_line
from ddpm.threads import physical_cores

Result = TypeVar("Result")

# Options that may differ between the processes of a training: what only the first one does, and where a machine keeps
# the images, whose contents are compared instead.
OF_ONE_MACHINE = set(
    "preset output_dir init_from resume_from_checkpoint num_cpu_threads checkpoints_total_limit plots report_to".split()
)
OF_ONE_MACHINE |= {f.name for options in (DatasetOptions, HubOptions) for f in dataclasses.fields(options)}
OF_ONE_MACHINE.discard("random_flip")


def make_accelerator(config: TrainConfig) -> Accelerator:
    """An Accelerator with the device, precision, accumulation and processes that the options ask for.

    Raises:
        ValueError: the machine cannot do what the options ask, or the launcher was called in a way that cannot work.
    """
    if config.report_to != "none" and importlib.util.find_spec(config.report_to) is None:
        raise ValueError(f"--report_to {config.report_to}: not installed; pip install {config.report_to}")
    if config.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("--mixed_precision fp16 needs a GPU; bf16 and no work on the CPU")
    project = ProjectConfiguration(project_dir=str(config.directory), logging_dir=str(config.directory / "logs"))
    try:
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            log_with=None if config.report_to == "none" else config.report_to,
            project_config=project,
        )
    except ImportError as error:  # DeepSpeed or Megatron, for which accelerate launch was configured
        raise ValueError(
            "accelerate launch asks for more than plain data parallelism, which alone is supported "
            f"({first_line(error)})"
        ) from None
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise ValueError(f"{accelerator.distributed_type.value}: only plain data parallelism is supported")
    if accelerator.gradient_accumulation_steps != config.gradient_accumulation_steps:
        raise ValueError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={accelerator.gradient_accumulation_steps} is in the environment; "
            f"unset it, because --gradient_accumulation_steps {config.gradient_accumulation_steps} decides"
        )
    settle(accelerator, config.num_cpu_threads, "train.py")
    given = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in OF_ONE_MACHINE}
    starts_from = "a model" if config.init_from else None  # which only the first process reads
    check_alike(accelerator, {f"--{name}": value for name, value in (given | {"init_from": starts_from}).items()})
    return accelerator


def settle(accelerator: Accelerator, num_cpu_threads: int, program: str, tf32: bool = True) -> None:
    """Set threads and matrix precision, and check that the processes know of each other.

    Args:
        num_cpu_threads: the threads of each process; 0 divides the cores that may be used among the processes of this
            machine.
        program: the script that the message names after `torchrun`.
        tf32: whether a GPU may compute in TF32, which is faster and has 11 binary digits instead of 24.
    Raises:
        ValueError: the processes do not know of each other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise ValueError(
            f"{world} processes were started but do not know of each other; on CPUs: "
            f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 {program}"
        )
    if accelerator.num_processes == 1 and "WORLD_SIZE" not in os.environ and _was_to_be_one_of_several():
        where = (
            "without GPUs --multi_gpu and ACCELERATE_USE_CPU=true"
            if accelerator.device.type == "cpu"
            else "--multi_gpu"
        )
        raise ValueError(
            f"accelerate launch was to start several processes, and has started one alone: {where} is needed for "
            "several, and --num_processes 1 for one"
        )
    # `accelerate launch` sets OMP_NUM_THREADS=1 on a CPU, which would leave all cores but one idle; beside a GPU,
    # PyTorch would start a thread for each core of the machine, whatever a container's limit is.
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(num_cpu_threads or max(1, physical_cores() // local_processes))
    if accelerator.device.type != "cpu":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32  # of convolutions; by default PyTorch allows it there


def _was_to_be_one_of_several() -> bool:
    """Whether `accelerate launch` was asked for several processes, and has started this one without telling it of the
    others, as it does without GPUs or where each machine has one. It leaves the address at which they were to meet."""
    if not {"ACCELERATE_DYNAMO_BACKEND", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return False
    import psutil

    try:
        # Of the launcher; where the address is in it, a script or a cluster set it for everybody.
        return "MASTER_ADDR" not in psutil.Process(os.getppid()).environ()
    except (psutil.Error, OSError):
        return False


def memory_format(device: torch.device) -> torch.memory_format:
    """The memory layout of a network during training: channels last on a GPU, whose matrix units read that layout;
    elsewhere the layout that the network was built with."""
    return torch.channels_last if device.type == "cuda" else torch.preserve_format


def plain_logging() -> None:
    """Log our own messages without decoration, and only the warnings of the libraries."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "httpx2", "filelock", "accelerate", "matplotlib", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def share(count: int, rank: int, world: int) -> range:
    """Which of `count` images this process samples: a contiguous part, so that all parts join in order."""
    size = -(-count // world)
    return range(min(rank * size, count), min((rank + 1) * size, count))


def on_main(accelerator: Accelerator, work: Callable[[], Any]) -> Any:
    """Call `work` in the main process and return its result in every process.

    If `work` raises, every process raises, so that none waits forever: the main process raises the same exception, the
    others a ValueError with its message.
    """
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


def check_alike(accelerator: Accelerator, found: dict[str, Any]) -> None:
    """Check that something is the same in all processes. Nobody else does where they are on several machines, and
    processes that differ train apart, or wait for each other without end.

    Args:
        found: what is compared, under the name that a message gives it; of options (--NAME) it gives the values, too.
    Raises:
        ValueError: in every process; the message names what differs.
    """
    if accelerator.num_processes == 1:
        return
    differing = []
    first, *others = gather_object([found])
    for name, value in first.items():
        other = next((other[name] for other in others if other[name] != value), value)
        if other != value:
            differing.append(f"{name} ({value}, elsewhere {other})" if name.startswith("--") else name)
    if differing:
        raise ValueError(f"the processes must be started alike, and they differ in {', '.join(differing)}")


def in_every(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Call `work` in every process and return its results there.

    If `work` raises in one of them, every process raises, so that none waits for those that are gone: those that failed
    the same exception, the others a ValueError with its message.
    """
    if accelerator.num_processes == 1:
        return work()
    result: list[Result] = []
    error = None
    try:
        result.append(work())
    except Exception as raised:
        error = raised
    failures = gather_object([error and (str(error) or type(error).__name__)])
    if error:
        raise error
    if elsewhere := list(filter(None, failures)):
        raise ValueError(f"in another process: {elsewhere[0]}")
    return result[0]


def agree(accelerator: Accelerator, wish: str | None, step: int) -> str | None:
    """The same reason to stop in all processes, or None to go on; "interrupted" takes precedence over "time".

    Processes on GPUs exchange their wishes only at every tenth step, because the exchange waits for the device.
    """
    if accelerator.num_processes == 1:
        return wish
    if accelerator.device.type != "cpu" and step % 10:
        return None
    wishes = (None, "time", "interrupted")
    gathered: Any = accelerator.gather(torch.tensor([wishes.index(wish)], device=accelerator.device))
    return wishes[int(gathered.max())]
