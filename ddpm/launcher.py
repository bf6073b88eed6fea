"""The precision that `accelerate launch` asks for, by its flag or by its saved configuration.

It reaches a process as an environment variable. Importing this loads nothing heavy.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "ACCELERATE_MIXED_PRECISION"
PRECISIONS = ("no", "fp16", "bf16")


def launchers_precision(present: str, program: str, decided: str | None = None) -> str:
    """The precision of a run: the launcher's, unless something else decides.

    The launcher says "no" also where nobody asked it for anything, so its "no" changes nothing. What is taken, and what
    is not, is said on stderr.

    Args:
        present: the precision without the launcher.
        program: the name that begins messages.
        decided: why `present` stays, whatever the launcher says; None where it is only a preset's.
    Raises:
        ValueError: the launcher asks for a precision that does not exist here.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower() or "no"
    if wanted in ("no", present):
        return present
    if not decided and wanted not in PRECISIONS:
        raise ValueError(
            f"accelerate launch's mixed precision {wanted} ({VARIABLE}): one of {', '.join(PRECISIONS)} is needed; "
            "--mixed_precision after the name of the script decides"
        )
    if not decided and wanted == "fp16" and not _has_gpu():
        decided = "it needs a GPU"
    if decided:
        _say(f"{program}: accelerate launch's mixed precision {wanted} is not taken, because {decided}")
        return present
    _say(f"{program}: mixed precision {wanted}, because accelerate launch asks for it")
    return wanted


def _has_gpu() -> bool:
    """Whether Accelerate will choose a GPU."""
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in (
        "1",
        "true",
        "yes",
        "on",
        "t",
        "y",
    ):  # as Accelerate reads it
        return False
    from torch.cuda import is_available  # takes seconds, so only where the answer matters

    return is_available()


def _say(line: str) -> None:
    """Print a line once, however many processes there are."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr)
