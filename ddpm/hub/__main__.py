"""Push a model directory by hand: `python -m ddpm.hub push DIR --repo_id ID [--private]`."""

from __future__ import annotations

import argparse
import logging
import math
import sys

from ddpm.flags import at_home
from ddpm.hub.background import ERROR
from ddpm.hub.contents import REPO_ID
from ddpm.hub.limits import limits
from ddpm.hub.push import push
from ddpm.output import keep_going


def main(argv: list[str] | None = None) -> int:
    """Push by hand, and print the address of the commit.

    Returns:
        the exit status: 0 after a push, 1 after an error, which is one line on stderr; wrong usage exits with 2.
    """
    parser = argparse.ArgumentParser(prog="python -m ddpm.hub", description="Push a model directory to the Hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    options = commands.add_parser("push", help="upload DIR in one commit, then download and compare it")
    options.add_argument("directory", metavar="DIR", help="model directory as train.py writes it")
    options.add_argument("--repo_id", "--repo-id", help="<user>/<name>; default: the directory's name")
    options.add_argument(
        "--private", action="store_true", help="if the repository does not exist yet, create it private"
    )
    options.add_argument("--no_verify", "--no-verify", action="store_true", help="do not download and compare it")
    options.add_argument(
        "--limit_s",
        "--limit-s",
        type=float,
        default=limits.push_s,
        help="seconds after which the push gives up (%(default)s)",
    )
    options.add_argument(
        "--wait_s",
        "--wait-s",
        type=float,
        default=math.inf,
        help="seconds to wait for a Hub that is down (no limit of its own)",
    )
    args = parser.parse_args(argv)
    if args.repo_id and not REPO_ID.fullmatch(args.repo_id) and not REPO_ID.fullmatch(f"user/{args.repo_id}"):
        parser.error(f"--repo_id {args.repo_id}: <user>/<name> or <name> is needed")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        done = push(at_home(args.directory), args.repo_id, args.private, not args.no_verify, args.limit_s, args.wait_s)
        print(done.url, flush=True)
    except ValueError as error:
        if commit := getattr(error, "commit", None):
            print(commit, flush=True)
        print(f"{ERROR}{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    keep_going()  # also if nobody reads what is printed
    sys.exit(main())
