"""`python long_step.py AGAIN BUSY train.py ...`: a training during whose second step Ctrl-C comes twice, AGAIN seconds
apart. The step begins with a call of a function in C of about BUSY seconds, during which Python handles no signal.

It prints "asked to stop" if the step ends and the training sees that it is to stop.
"""

import hashlib
import os
import signal
import sys
import threading
import time

from ddpm.config import parse
from ddpm.training import terminal
from ddpm.training.folder import Saved
from ddpm.training.recorder import Progress


def busy(seconds):
    begun = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
    rounds = 100_000 * seconds / (time.perf_counter() - begun)
    return lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", max(1, int(rounds)))


def training(again_s, busy_s):
    def train(config, should_stop):
        call = busy(busy_s)
        again = threading.Timer(again_s, os.kill, (os.getpid(), signal.SIGINT))
        yield Progress(1)
        os.kill(os.getpid(), signal.SIGINT)
        again.start()
        call()
        again.join()
        print("asked to stop" if should_stop() else "never asked", flush=True)
        yield Progress(2, stopped="interrupted", saved=Saved(state_step=2))

    return train


if __name__ == "__main__":
    sys.exit(terminal.run(parse(sys.argv[4:]), training(float(sys.argv[1]), float(sys.argv[2]))))
