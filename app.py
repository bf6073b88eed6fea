"""The Space: choose a checkpoint and serve its page.

    python app.py [--model DIR_OR_HUB_ID] [--revision SHA] [--host 127.0.0.1] [--port 7860]

Without --model it serves the model that comes with this repository, offline. On a Space, the variable DDPM_MODEL names
the model; while that model is unavailable, the Space serves the embedded one and the page says so.

On the last tab a visitor can train a small model on the CPU and watch: one visitor at a time, for at most three
minutes. DDPM_LIVE_TRAINING is the number of optimizer steps; 0 turns this off.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import os
import sys

from ddpm.flags import at_home
from ddpm.output import keep_going

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MPLBACKEND", "agg")  # else Gradio's first event takes 0.6 s to find a backend


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the flags. The environment variables of a Space replace a flag that is left out.

    Returns:
        The flags, and `fallback`: whether the environment names the model. If so, the embedded model may replace it.
    """
    env = os.environ.get
    host = env("GRADIO_SERVER_NAME") or ("0.0.0.0" if env("SPACE_ID") else "127.0.0.1")
    parser = argparse.ArgumentParser(description="Serve the page of a denoising diffusion model.")
    parser.add_argument("--model", help="directory or Hub id (default: $DDPM_MODEL, else the embedded model)")
    parser.add_argument("--revision", help="commit, branch or tag on the Hub (default: $DDPM_REVISION)")
    parser.add_argument("--host", default=host, help=f"address to listen on (default {host})")
    port = env("GRADIO_SERVER_PORT") or "7860"
    parser.add_argument("--port", type=int, default=port, help=f"port to listen on (default {port})")
    args = parser.parse_args(argv)
    args.fallback = not args.model and bool(env("DDPM_MODEL"))
    if args.fallback:  # DDPM_REVISION belongs to DDPM_MODEL, not to a --model
        args.model, args.revision = env("DDPM_MODEL"), args.revision or env("DDPM_REVISION") or None
    try:
        args.model = args.model and at_home(args.model)
    except ValueError as error:
        parser.error(f"--model {error}")
    if not 1 <= args.port <= 65535:
        parser.error(f"--port {args.port}: a port from 1 to 65535 is needed")
    if args.revision and not args.model:
        parser.error(f"--revision {args.revision} needs a --model, and none was given")
    return args


def choose(model: str | None, revision: str | None, weights: bool = False):
    """Open the checkpoint to serve.

    Args:
        weights: whether to read the weights now instead of in the background.
    Raises:
        ValueError: the model cannot be served; the message is one line.
    """
    if model is None:
        from ddpm.checkpoint import EMBEDDED, load

        return load(EMBEDDED, weights=weights)
    from ddpm.hub import pull

    return pull(model, revision, weights)


def trainer():
    """The live training, which runs the loop of train.py, or None if it is turned off.

    Only this file may name train.py, since no module of `ddpm` may import it.

    Raises:
        ValueError: DDPM_LIVE_TRAINING is not a number of steps.
    """
    from ddpm.ui.server.live import STEPS, LiveTraining, live_config

    wanted = os.environ.get("DDPM_LIVE_TRAINING") or str(STEPS)
    if not wanted.isdecimal() or int(wanted) > 100_000:
        raise ValueError(f"DDPM_LIVE_TRAINING={wanted}: a number of optimizer steps from 0 to 100000 is needed")
    if int(wanted) == 0:
        return None
    return LiveTraining([sys.executable, "-m", "ddpm.training.watched", "train"], live_config(int(wanted)))


def share_memory_between_threads() -> None:
    """Have glibc keep two heaps instead of eight per core, so that Gradio's 40 threads reuse each other's memory."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError, TypeError):  # this C library is not glibc
            ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="app.py: %(message)s")
    import ddpm.ui.server.zerogpu  # noqa: F401 - before torch

    missing = None
    try:
        # The page appears before the weights are read, unless the embedded model is to replace damaged weights.
        checkpoint = choose(args.model, args.revision, weights=args.fallback)
    except Exception as error:
        if not isinstance(error, ValueError) and not args.fallback:
            raise
        print(f"app.py: {error}", file=sys.stderr)
        if not args.fallback:
            return 1
        # A Space that does not start is of no use to anybody. The log tells its owner the reason.
        checkpoint, missing = choose(None, None), args.model
        print("app.py: serving the embedded model instead", file=sys.stderr)
    from ddpm.ui import page
    from ddpm.ui.server.service import Service

    try:
        service = Service(checkpoint, trainer())
    except ValueError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    blocks = page.build(service, missing)
    gc.freeze()  # what has been imported and built is never garbage
    gc.enable()
    try:
        page.serve(service, blocks, args.host, args.port)
    except ValueError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    except OSError:
        print(f"app.py: cannot listen on {args.host}:{args.port}; choose another --port or --host", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    keep_going()  # also if nobody reads what is printed
    share_memory_between_threads()
    gc.disable()  # garbage collections during the imports take a tenth of the start-up time
    sys.exit(main())
