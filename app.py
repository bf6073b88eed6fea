"""The Space: choose checkpoints and serve their page.

    python app.py [--model DIR_OR_HUB_ID ...] [--revision SHA] [--host 127.0.0.1] [--port 7860]

Without --model it serves the models that come with this repository, offline. --model can be given several times: the
first model is shown first, ?model=NAME in the address shows another, and NAME is the last part of the directory or id.
--revision holds for every model that does not name its own, as in ID@REVISION. A model that cannot be used is named
with the reason, and the others are served.

On a Space, the variable DDPM_MODEL names the model, or several with commas between them. While none of them is
available, the Space serves the embedded ones, and the page says so.

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
from typing import TYPE_CHECKING

from ddpm.flags import at_home
from ddpm.output import keep_going, nothing_begun

if TYPE_CHECKING:
    from ddpm.config import TrainConfig
    from ddpm.ui.server.catalogue import Catalogue
    from ddpm.ui.server.models import Models
    from ddpm.ui.server.visitors import Visitors

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
    parser.add_argument(
        "--model",
        action="append",
        help="directory, or id on the Hub; ID@REVISION pins a commit, branch or tag. Give it again for each further "
        "model (default: $DDPM_MODEL, with commas between several, else the embedded models)",
    )
    revision_help = "commit, branch or tag on the Hub of each model without its own (default: $DDPM_REVISION)"
    parser.add_argument("--revision", help=revision_help)
    parser.add_argument("--host", default=host, help=f"address to listen on (default {host})")
    port = env("GRADIO_SERVER_PORT") or "7860"
    parser.add_argument("--port", type=int, default=port, help=f"port to listen on (default {port})")
    args = parser.parse_args(argv)
    args.model = [model for model in args.model or () if model]
    named = [model.strip() for model in (env("DDPM_MODEL") or "").split(",") if model.strip()]
    args.fallback = not args.model and bool(named)
    if args.fallback:  # DDPM_REVISION belongs to DDPM_MODEL, not to a --model
        args.model, args.revision = named, args.revision or env("DDPM_REVISION") or None
    try:
        args.model = [at_home(model) for model in args.model]
    except ValueError as error:
        parser.error(f"--model {error}")
    if not 1 <= args.port <= 65535:
        parser.error(f"--port {args.port}: a port from 1 to 65535 is needed")
    if args.revision and not args.model:
        parser.error(f"--revision {args.revision} needs a --model, and none was given")
    return args


def choose(given: list[str], revision: str | None, fallback: bool):
    """Open the models to serve. What cannot be opened is told on stderr.

    Args:
        given: the directories and ids; none for the embedded models.
        fallback: the embedded models are to replace them if none of them can be used.
    Returns:
        Each checkpoint by its name, or the reason why there is none.
    """
    from ddpm.ui.server.opening import checked, embedded, open_models, wanted

    models = wanted(given, revision)
    found = open_models(models) if models else embedded()
    if fallback:  # only then, since the page appears before the weights are read
        found = checked(found)
    for reason in found.values():
        if isinstance(reason, str):
            print(f"app.py: {reason}", file=sys.stderr)
    if fallback and all(isinstance(each, str) for each in found.values()):
        # A Space that does not start is of no use to anybody. The log tells its owner the reason.
        print("app.py: serving the embedded model instead", file=sys.stderr)
        found = {one.path: reason for one, reason in zip(models, found.values(), strict=True)} | embedded()
    return found


def live_training() -> TrainConfig | None:
    """What the live training trains, or None if it is turned off.

    Raises:
        ValueError: DDPM_LIVE_TRAINING is not a number of steps.
    """
    from ddpm.ui.server.live import STEPS, live_config

    wanted = os.environ.get("DDPM_LIVE_TRAINING") or str(STEPS)
    if not wanted.isdecimal() or int(wanted) > 100_000:
        raise ValueError(f"DDPM_LIVE_TRAINING={wanted}: a number of optimizer steps from 0 to 100000 is needed")
    return live_config(int(wanted)) if int(wanted) else None


class NoModelsError(Exception):
    """None of the models can be used, and the reasons are on stderr."""


@contextlib.contextmanager
def hidden(package: str):
    """While this lasts, a package that is not imported yet is taken for one that is not installed."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # pyright: ignore[reportArgumentType] - documented in `import`
    try:
        yield
    finally:
        sys.modules.pop(package, None)


def page_module():
    """`ddpm.ui.page`, which imports gradio, and this pandas. Pandas would also load pyarrow, if it is installed. That
    takes 33 MB, and nothing that the page computes needs it."""
    with hidden("pyarrow"):
        from ddpm.ui import page
    return page


def find(args: argparse.Namespace, live: TrainConfig | None, visitors: Visitors | None = None) -> Models:
    """Open the models and what computes with them, which imports torch and diffusers.

    Raises:
        NoModelsError: none of the models can be used.
    """
    # It takes 60 MB and a second, and only schedulers that no page uses need it. From then on, diffusers takes it for
    # missing.
    with hidden("scipy"):
        import diffusers  # noqa: F401

    from ddpm.ui.server.live import LiveTraining
    from ddpm.ui.server.models import Models
    from ddpm.ui.server.service import Shared

    found = choose(args.model, args.revision, args.fallback)
    if all(isinstance(each, str) for each in found.values()):
        raise NoModelsError
    # Only this file may name train.py, since no module of `ddpm` may import it.
    command = [sys.executable, "-m", "ddpm.training.watched", "train"]
    models = Models(found, Shared(LiveTraining(command, live) if live else None, visitors=visitors))
    models.first.load()
    return models


def catalogue(args: argparse.Namespace, live: TrainConfig | None) -> Catalogue:
    """The models of the page. The embedded ones are known without torch, which is then imported while the page is
    served; but not where a GPU is lent, since what uses it must be there when the page is launched."""
    from ddpm.ui.server.catalogue import Catalogue
    from ddpm.ui.server.facts import kept
    from ddpm.ui.server.visitors import Visitors
    from ddpm.ui.server.zerogpu import lends

    known = None if args.model or lends() else kept()
    if not known:
        return Catalogue.of(find(args, live))
    visitors = Visitors()
    return Catalogue(known, lambda: find(args, live, visitors), live, visitors)


def share_memory_between_threads() -> None:
    """Have glibc keep two heaps instead of eight per core, so that Gradio's 40 threads reuse each other's memory."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(AttributeError, OSError, TypeError):  # this C library is not glibc
            ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def main(argv: list[str] | None = None) -> int:
    with nothing_begun():
        args = parse(argv)
        logging.basicConfig(level=logging.WARNING, format="app.py: %(message)s")
        import ddpm.ui.server.zerogpu  # noqa: F401 - before torch

        page = page_module()

    try:
        models = catalogue(args, live_training())
        page.serve(models, page.build(models), args.host, args.port)
    except NoModelsError:
        return 1
    except ValueError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    except page.CannotListenError:
        print(f"app.py: cannot listen on {args.host}:{args.port}; choose another --port or --host", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    keep_going()  # also if nobody reads what is printed
    logging.getLogger("ddpm").setLevel(logging.WARNING)  # OpenVINO raises the level of the root when it converts
    share_memory_between_threads()
    gc.disable()  # garbage collections during the imports take a tenth of the start-up time
    sys.exit(main())
