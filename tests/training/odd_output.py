"""`python odd_output.py OUTPUT SIGNALS train.py ...`: train.py with an output that nobody reads, and signals to itself.

OUTPUT: whole, pipe (its reader is gone), terminal (it is closed), full (a full disk), closed (no output at all).
SIGNALS: names of signals, which come one right after another once metrics.jsonl has a row; "ignore-" before a name means
that the signal was ignored when the program began, as nohup does; none: no signal.
"""

import os
import pty
import runpy
import signal
import sys
import threading
import time
from pathlib import Path


def redirect(output):
    ends = {"pipe": os.pipe, "terminal": pty.openpty, "full": lambda: (None, os.open("/dev/full", os.O_WRONLY))}
    if output == "closed":
        os.close(1)
        os.close(2)
    elif output in ends:
        reader, writer = ends[output]()
        if reader is not None:
            os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)


def signal_myself(names, metrics):
    while not (metrics.is_file() and metrics.stat().st_size):
        time.sleep(0.005)
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(0.02)


if __name__ == "__main__":
    output, signals, *sys.argv = sys.argv[1:]
    redirect(output)
    names = [] if signals == "none" else [name.removeprefix("ignore-") for name in signals.split(",")]
    for name in signals.split(","):
        if name.startswith("ignore-"):
            signal.signal(getattr(signal, name.removeprefix("ignore-")), signal.SIG_IGN)
    if names:
        metrics = Path(sys.argv[sys.argv.index("--output_dir") + 1], "metrics.jsonl")
        threading.Thread(target=signal_myself, args=(names, metrics), daemon=True).start()
    runpy.run_path(sys.argv[0], run_name="__main__")
