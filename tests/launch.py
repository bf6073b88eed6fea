"""`python train.py ...` without the seconds that loading torch and diffusers takes: forked from a process that has.

For commands whose subject is what they compute and say. A process of its own stays where the launcher, a signal, what
is imported, or a variable that a library reads while it is imported (HF_*, OMP_*) is the subject.
"""

import atexit
import multiprocessing
import os
import resource
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parent.parent


def launch(*words, processes=1, timeout=120, largest_file=None, **environment) -> subprocess.CompletedProcess:
    """Run `python WORDS` to its end, from the root of the project, on the CPU.

    Args:
        words: a script and its arguments, or "-m", a module and its.
        processes: so many of them, as torchrun starts them; what they say is joined.
        largest_file: bytes; the kernel lets no file grow further, as a full disk would.
        environment: over this process's.
    Returns:
        the first exit status that is not 0; of a process that a signal ended, minus its number.
    """
    words = [str(word) for word in words]
    context = _context()
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"} | environment
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        children = [
            context.Process(target=_command, args=(words, environment | more, largest_file, files))
            for more in ([{}] if processes == 1 else _ranks(processes))
        ]
        try:
            for child in children:
                child.start()
            for child in children:
                child.join(max(0, deadline - time.monotonic()))
            late = any(child.is_alive() for child in children)
        finally:  # also where pytest's own limit ends the waiting
            for child in children:
                if child.is_alive():
                    child.kill()
                    child.join()
        stdout, stderr = (file.read_text(encoding="utf-8") if file.exists() else "" for file in files)
    if late:
        raise subprocess.TimeoutExpired(words, timeout, stdout, stderr)
    status = next((child.exitcode for child in children if child.exitcode), 0)
    return subprocess.CompletedProcess(words, status, stdout, stderr)


def start(*words, log: Path, **environment) -> multiprocessing.process.BaseProcess:
    """`python WORDS` in the background, from the root of the project.

    Args:
        words: a script and its arguments.
        log: takes what it says.
        environment: over this process's.
    """
    child = _context().Process(
        target=_command, args=([str(word) for word in words], os.environ | environment, None, [log, log])
    )
    child.start()
    return child


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["libraries"])
    with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):
        forkserver.ensure_running()
    return context


def _ranks(processes: int) -> list[dict[str, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _command(words: list[str], environment: dict[str, str], largest_file: int | None, files: list[Path]) -> None:
    """In the child, which has loaded the libraries and none of the project's modules."""
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a child without
