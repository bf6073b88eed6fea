"""How many threads a computation on this machine should use. Importing this loads nothing heavy."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path


def physical_cores() -> int:
    """The number of cores that this process may use, at least 1.

    Hyper-threads do not count: with more threads than cores, convolutions become slower. A limit of 2.5 cores counts
    as 2: beyond a limit the kernel stops all threads, and the others wait for the one that it stops first.
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or allowed, allowed)
    quota = cpu_quota()
    return max(1, cores if quota == math.inf else min(cores, math.floor(quota)))


def cpu_quota(root: Path = Path("/")) -> float:
    """How many cores' time the control groups of this process allow: the limit of a container, a pod or a service.

    The limits of version 1 (cpu.cfs_quota_us) and 2 (cpu.max) count, those of the groups above included.

    Args:
        root: the folder that holds proc/ and what is mounted.
    Returns:
        cores, such as 1.5; infinity where there is no limit, and on systems without control groups.
    """
    try:
        lines = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup")]
        mounts = _lines(root / "proc/self/mountinfo")
    except OSError:
        return math.inf
    # The group of this process for each controller; that of version 2 has the empty name.
    groups = {name: path for _, names, path in lines for name in names.split(",")}
    quotas = [math.inf]
    for line in mounts:
        about, _, kind_and_options = line.partition(" - ")
        top, point = (_unescaped(word) for word in about.split()[3:5])
        kind, *_, options = kind_and_options.split()
        if kind == "cgroup2" and "" in groups:
            quotas += map(_limit, _folders(root / point.lstrip("/"), top, groups[""]))
        elif kind == "cgroup" and "cpu" in options.split(",") and "cpu" in groups:
            quotas += map(_limit, _folders(root / point.lstrip("/"), top, groups["cpu"]))
    return min(quotas)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def _unescaped(path: str) -> str:
    """A path as mountinfo writes it: a space is \\040 there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _folders(point: Path, top: str, group: str) -> Iterator[Path]:
    """The folders of a group and of all above it that are mounted.

    Args:
        point: where the groups are mounted.
        top: the group that lies at `point`. In containers it is often that of the container, whose name `group` then
            begins with; a group outside of it cannot be seen, and then the limits at `point` are all that is known.
    """
    inside = os.path.relpath(group, top)
    while not inside.startswith("..") and inside not in (".", ""):
        yield point / inside
        inside = os.path.dirname(inside)
    yield point


def _limit(folder: Path) -> float:
    """The limit of one group in cores; infinity if it has none."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # "max": no limit; files are missing at the root of version 2
        return math.inf
