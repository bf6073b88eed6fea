"""Training from a terminal: progress bar, signals, pushes to the Hub, and the exit status."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ddpm.config import TrainConfig
from ddpm.errors import about_compile
from ddpm.hub.background import Pusher
from ddpm.processes import plain_logging
from ddpm.training import outcome, state
from ddpm.training.recipe import learning_rate
from ddpm.training.recorder import Progress
from ddpm.training.window import NonFiniteError

log = logging.getLogger("train")

# What asks a training to save its state and end. Windows has only the first two.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]

SAME_WISH_S = 1.0  # seconds during which Ctrl-C again is taken for impatience
SAVING = b"\nStopping after this step, with the state saved. After a second, Ctrl-C again ends at once without it.\n"

Train = Callable[[TrainConfig, Callable[[], bool]], Iterator[Progress]]


class StopRequest:
    """Whether somebody asked this process to stop: by a signal of `SIGNALS`, or by ending the launcher.

    The training then saves its state and ends. A signal ends the process at once if there is nothing to save yet
    (`may_wait` is false), and so does a second Ctrl-C that comes more than `SAME_WISH_S` after the first. Other signals
    may come twice for one wish: a shell passes the hang-up of its terminal on to a process that has received it
    already.

    Args:
        speaks: whether this process says what the first Ctrl-C does.
    Attributes:
        at_once: what ends the process at once, in words; empty if nothing does.
    """

    def __init__(self, speaks: bool = True) -> None:
        self.may_wait, self.speaks = False, speaks
        self.at_once = ""
        self._signals: list[int] = []
        # Neither `accelerate launch` nor torchrun forwards all signals; when it ends, this process gets another parent.
        launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
        self._launcher = os.getppid() if launched else None
        for number in SIGNALS:
            # nohup has the hang-up ignored: the training is to outlive its terminal.
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        if not self.may_wait or (number == signal.SIGINT and number in self._signals):
            name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            self.at_once = "a second Ctrl-C" if self.may_wait else f"{name} before the first step of this process"
            raise SystemExit(128 + number)
        self._signals.append(number)
        if number == signal.SIGINT:
            if self.speaks:
                with contextlib.suppress(OSError):
                    os.write(2, SAVING)  # print could be in the middle of a line
            self._ignore_for_a_while()

    def _ignore_for_a_while(self) -> None:
        """Have the kernel drop Ctrl-C for `SAME_WISH_S`. A handler that looks at the clock would not know when Ctrl-C
        was pressed: Python calls handlers between two of its instructions, and a step of a large network can be one."""
        if not hasattr(signal, "setitimer"):  # Windows
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda *_: signal.signal(signal.SIGINT, self._receive))
        signal.setitimer(signal.ITIMER_REAL, SAME_WISH_S)
        # While the interpreter ends, an alarm without a handler would end the process with a status of its own.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)

    def __call__(self) -> bool:
        return bool(self._signals) or self._launcher not in (None, os.getppid())

    @property
    def exit_status(self) -> int:
        """The exit status of a process that stopped because somebody asked."""
        return 128 + (self._signals[0] if self._signals else signal.SIGTERM)


def run(config: TrainConfig, train: Train) -> int:
    """Consume `train` to its end, and return the exit status that the README lists."""
    plain_logging()
    gc.freeze()  # what has been imported is never garbage, and to look through it takes a second each time
    is_main = os.environ.get("RANK", "0") == "0"
    stop, progress, pusher, whole = StopRequest(is_main), None, None, False
    try:
        if config.push_to_hub and is_main:
            wait_s = 60 * config.hub_wait_minutes
            pusher = Pusher(config.directory, config.hub_model_id, config.hub_private_repo, wait_s)
            config = dataclasses.replace(config, hub_model_id=pusher.repo_id)
        with _bar(config, is_main) as bar, logging_redirect_tqdm():
            for progress in train(config, stop):
                stop.may_wait = True
                _show(bar, progress)
                if pusher and progress.saved.model_step == progress.step and not progress.stopped:
                    pusher.submit(progress.step)
        whole = progress is not None and progress.stopped != "interrupted"
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        return _failed(error, 1, is_main)
    except NonFiniteError as error:
        rate = learning_rate(config, progress.step if progress else 0)
        saved = state.folders(config.directory / "checkpoints")
        last = saved[-1] if saved else "none"
        return _failed(f"{error}; learning rate {rate:.2g}; last good state: {last}", 3, is_main)
    except SystemExit:
        if stop.at_once and is_main:
            print(f"Ended at once: {stop.at_once}. {outcome.of_ended_at_once(config)}", file=sys.stderr)
        raise
    except RuntimeError as error:
        if (reason := about_compile(error)) is None:
            raise
        return _failed(reason, 1, is_main)
    finally:
        if pusher and not whole:
            pusher.abandon()
    assert progress, "train yields at least once"
    interrupted = progress.stopped == "interrupted"
    done = stop.exit_status if interrupted else 0
    if not is_main:
        return done
    good, line = (outcome.of_interrupted if interrupted else outcome.of_finished)(config.directory, progress)
    if not good:
        if pusher and not interrupted:
            pusher.abandon()
        return _failed(line, 1, True)
    log.log(logging.WARNING if progress.saved.missing else logging.INFO, "%s", line)
    if pusher and not interrupted:
        stop.speaks = False  # what Ctrl-C does now, the push says
        pusher.finish(progress.step, stop)
    return done


def _bar(config: TrainConfig, is_main: bool) -> tqdm:
    return tqdm(total=config.max_train_steps, unit=" steps", disable=not is_main, dynamic_ncols=True)


def _show(bar: tqdm, progress: Progress) -> None:
    """Show the step that was done, its epoch, and the losses in its rows."""
    if not bar.n:  # the steps before a resumed run do not count for the speed
        bar.initial = bar.n = progress.step - 1
    bar.set_description_str(f"epoch {progress.epoch:.2f}", refresh=False)
    bar.update(progress.step - bar.n)
    for row in progress.rows:
        if row["kind"] == "train" and row["loss"] is not None:
            bar.set_postfix_str(f"loss {row['loss']:.4f}, {row['images_per_second']:.0f} images/s", refresh=False)
        elif row["kind"] == "validation" and not bar.disable:
            line = f"step {row['step']}: val_loss {row['val_loss']:.4f}, EMA {row['val_loss_ema']:.4f}"
            if "val_loss_ema_with_labels" in row:
                line += f"; with labels {row['val_loss_with_labels']:.4f}, EMA {row['val_loss_ema_with_labels']:.4f}"
            if "val_bits" in row:
                line += f"; {row['val_bits']:.4f} bits/dim"
            line += f"; on training images EMA {row['train_loss_ema']:.4f}"
            bar.write(line)


def _failed(error: Any, status: int, say: bool) -> int:
    """Print one line on stderr for an error that the user can fix, and return the exit status."""
    if say:
        print(f"train.py: error: {error}", file=sys.stderr)
    return status
