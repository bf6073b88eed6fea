"""How many threads a computation on this machine should use. Importing this loads nothing heavy."""

from __future__ import annotations

import os


def physical_cores() -> int:
    """The number of cores that this process may use, at least 1.

    Hyper-threads do not count: with more threads than cores, convolutions become slower.
    """
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
