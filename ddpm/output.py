"""How a program of this project begins: output that cannot be written does not end it, and Ctrl-C ends it without a
traceback.

A closed terminal, the end of `| head`, and a full disk behind `> log.txt` all make writing fail. What the program
computes must not depend on it. Importing this loads nothing heavy.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

AGAIN = {errno.EAGAIN, errno.EINTR, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # a later write may succeed


def keep_going() -> None:
    """Make stdout and stderr of this process swallow every failure to write, until the interpreter has ended.

    Once nobody can read a stream any more, its descriptor leads to /dev/null. So the libraries written in C and the
    processes started later do not fail, either. Streams that are closed when the program starts lead there at once;
    otherwise, the next file that is opened would get their number and whatever is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _to_nowhere(descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  open until the process ends
        elif isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor:
            setattr(sys, name, _surviving(stream, descriptor))


@contextlib.contextmanager
def nothing_begun() -> Iterator[None]:
    """Within this context, which is for importing libraries, Ctrl-C does what `end_at_once` says. After it, Ctrl-C is
    what it was before."""
    end_at_once()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def end_at_once() -> None:
    """From now on, Ctrl-C ends the process without a word: nothing has begun that could be lost.

    A KeyboardInterrupt would be a traceback of a hundred lines, and in the midst of importing torch it can even abort
    the process. Where Ctrl-C is ignored, it stays so.
    """
    ours = threading.current_thread() is threading.main_thread()  # the only one that may set handlers
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    if os.name == "posix":  # die of the signal, so that a shell, which calls this status 130, ends its loop, too
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(128 + number)


def _surviving(stream: io.TextIOWrapper, descriptor: int) -> io.TextIOWrapper:
    """A stream like `stream` on the same descriptor, which swallows failures."""
    raw = _Surviving(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # type: ignore[arg-type]  as Python does for `-u`
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _to_nowhere(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != descriptor:
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


class _Surviving(io.FileIO):
    """A descriptor to write to. What cannot be written counts as written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError as error:
            if error.errno not in AGAIN:
                _to_nowhere(self.fileno())
            return len(data)
