"""The Space: choose a checkpoint and serve its page.

    python app.py [--model DIR_OR_HUB_ID] [--revision SHA] [--host 127.0.0.1] [--port 7860]

Without a model it serves the one that lies in this repository, offline. On a Space, where DDPM_MODEL names the model,
that one also steps in while the other cannot be had, and the page says so.

The last tab trains a small model on the CPU while its visitor watches, one at a time and at most three minutes.
DDPM_LIVE_TRAINING is the number of its optimizer steps; 0 turns it off.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MPLBACKEND", "agg")  # Gradio asks for the backend at the first event; finding one takes 0.6 s


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Flags; where one is left out, the environment of a Space decides. `fallback`: the model is the environment's."""
    env = os.environ.get
    host = env("GRADIO_SERVER_NAME") or ("0.0.0.0" if env("SPACE_ID") else "127.0.0.1")
    parser = argparse.ArgumentParser(description="The page of a denoising diffusion model.")
    parser.add_argument("--model", help="directory or Hub id; default: DDPM_MODEL, or the embedded one")
    parser.add_argument("--revision", help="commit, branch or tag on the Hub; default: DDPM_REVISION")
    parser.add_argument("--host", default=host, help=f"address to listen on (default {host})")
    parser.add_argument("--port", type=int, default=env("GRADIO_SERVER_PORT") or "7860", help="(default 7860)")
    args = parser.parse_args(argv)
    args.fallback = not args.model and bool(env("DDPM_MODEL"))
    if args.fallback:  # a model of the command line is another one than DDPM_REVISION is about
        args.model, args.revision = env("DDPM_MODEL"), args.revision or env("DDPM_REVISION") or None
    if not 1 <= args.port <= 65535:
        parser.error(f"--port {args.port}: 1 to 65535 is possible")
    if args.revision and not args.model:
        parser.error(f"--revision {args.revision} says which version of a --model, and none was given")
    return args


def choose(model: str | None, revision: str | None, weights: bool = False):
    """The checkpoint to serve, its weights still to be read unless they are asked for here.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    if model is None:
        from ddpm.checkpoint import EMBEDDED, load

        return load(EMBEDDED, weights=weights)
    from ddpm.hub import pull

    return pull(model, revision, weights)


def trainer():
    """What trains while visitors watch: the loop of train.py, which nothing below this file may import.

    Raises:
        ValueError: DDPM_LIVE_TRAINING is no number of steps.
    """
    from ddpm.ui.server.live import STEPS, LiveTraining, live_config

    wanted = os.environ.get("DDPM_LIVE_TRAINING") or str(STEPS)
    if not wanted.isdecimal() or int(wanted) > 100_000:
        raise ValueError(f"DDPM_LIVE_TRAINING={wanted}: a number of optimizer steps is needed, 0 to 100000")
    if int(wanted) == 0:
        return None
    return LiveTraining([sys.executable, "-m", "ddpm.training.watched", "train"], live_config(int(wanted)))


def share_memory_between_threads() -> None:
    """Have glibc keep two heaps instead of eight a core: what one of Gradio's 40 threads has freed, others can use."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="app.py: %(message)s")
    import ddpm.ui.server.zerogpu  # noqa: F401 - before torch

    missing = None
    try:
        # The page need not wait for the weights, unless they decide which model it is about.
        checkpoint = choose(args.model, args.revision, weights=args.fallback)
    except Exception as error:
        if not isinstance(error, ValueError) and not args.fallback:
            raise
        print(f"app.py: {error}", file=sys.stderr)
        if not args.fallback:
            return 1
        # A Space that does not start helps nobody; its owner finds the reason in the log.
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
    gc.freeze()  # all this stays
    gc.enable()
    try:
        page.serve(service, blocks, args.host, args.port)
    except ValueError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    except OSError:
        print(f"app.py: cannot listen on {args.host}:{args.port}; take another --port or --host", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    share_memory_between_threads()
    gc.disable()  # looking through what is imported, again and again, takes a tenth of the start
    sys.exit(main())
