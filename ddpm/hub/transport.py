"""Talking to the Hub: time limits, tries, and what the client's exceptions mean. Importing it does not load torch."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ddpm.errors import first_line

log = logging.getLogger(__name__)
T = TypeVar("T")

REQUEST_TIMEOUT_S = 60  # without a byte; the client itself would wait for ever
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0  # between tries: doubled each time
MAX_ASKED_WAIT_S = 300  # by the Hub, whose windows are five minutes long
TOO_LONG = "the Hub took too long"
ERROR = "ddpm.hub: error: "  # what a push of its own process writes before its reason


class HubError(ValueError):
    """What went wrong between here and the Hub, in one line.

    Args:
        transient: trying again later may help; otherwise somebody has to do what the message says.
        commit: address of what is up there nevertheless.
    """

    def __init__(self, message: str, transient: bool = False, commit: str | None = None) -> None:
        super().__init__(message)
        self.transient, self.commit = transient, commit


class TimeIsUpError(TimeoutError):
    """Not one of the errors that the client tries again after, or waits for."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Limit:
    """A moment after which nothing is begun or read on. One for the whole process: the client has threads."""

    moment = float("inf")

    @classmethod
    @contextlib.contextmanager
    def after(cls, seconds: float):
        before, cls.moment = cls.moment, min(cls.moment, time.monotonic() + seconds)
        try:
            yield
        finally:
            cls.moment = before

    @classmethod
    def left(cls) -> float:
        """Seconds.

        Raises:
            TimeIsUpError: none.
        """
        left = cls.moment - time.monotonic()
        if left <= 0:
            raise TimeIsUpError(TOO_LONG)
        return left


LOGIN = "log in with `hf auth login` or set HF_TOKEN"


def client(writing: bool = False):
    """The client, made to give up on a Hub that says nothing, or too little.

    Raises:
        HubError: the token cannot be sent, and what would complain about it would quote it; or there is none, and
            `writing` takes one.
    """
    # Transfers by Xet have settings of their own, read when the first one begins.
    os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{REQUEST_TIMEOUT_S}s")
    os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_DURATION", "120s")
    from huggingface_hub import HfApi, get_token, set_client_factory
    from huggingface_hub.utils import httpx
    from huggingface_hub.utils._http import default_client_factory

    if not re.fullmatch(r"[\x21-\x7e]*", get_token() or ""):
        raise HubError(f"the token holds characters that no token has: {LOGIN} anew")
    if writing and not get_token():  # said before the Hub is asked, which may be down as well
        raise HubError(f"no token: {LOGIN}")

    class Bounded(httpx.SyncByteStream):
        def __init__(self, stream) -> None:
            self.stream = stream

        def __iter__(self):
            for chunk in self.stream:
                Limit.left()
                yield chunk

        def close(self) -> None:
            self.stream.close()

    def bound(request) -> None:
        left, limits = Limit.left(), request.extensions.get("timeout") or {}
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {kind: min(limits.get(kind) or REQUEST_TIMEOUT_S, left) for kind in kinds}

    def bound_answer(response) -> None:
        asked = asked_wait(response.headers) or 0
        if response.status_code == 429 and asked > Limit.left():  # the client would sleep through it
            raise TimeIsUpError(f"the Hub asks for a pause of {asked:.0f} s (429, too many requests)", asked)
        response.stream = Bounded(response.stream)

    def make():
        made = default_client_factory()
        made.event_hooks["request"].append(bound)
        made.event_hooks["response"].append(bound_answer)
        return made

    set_client_factory(make)
    return HfApi()


def asked_wait(headers) -> float | None:
    """Seconds that the Hub asks to wait for."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit, asked = parse_ratelimit_headers(headers), headers.get("Retry-After", "")
    if asked.isdigit():
        return float(asked)
    return float(limit.reset_in_seconds) if limit and limit.remaining == 0 else None


@dataclass(frozen=True)
class Trouble:
    """What an exception of the client's means; they have no common base.

    `reason`: why it did not work and what to do about it, in one line. `transient`: the same call may work later.
    `refused`: the Hub said no, so that a copy in the cache must not stand in. `wait_s`: the pause that it asks for.
    """

    reason: str
    transient: bool = False
    refused: bool = False
    wait_s: float | None = None


def trouble(error: BaseException, repo_id: str | None = None, writing: bool = False) -> Trouble:
    """What an exception means, judged by it and what it was made of: the client wraps."""
    from huggingface_hub import errors, get_token
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.utils import httpx

    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    error = chain[0]

    def among(*kinds: type[BaseException]) -> BaseException | None:
        return next((e for e in chain if isinstance(e, kinds)), None)

    status, wait_s = None, None
    for e in chain:
        if (response := getattr(e, "response", None)) is not None:
            status, wait_s = response.status_code, asked_wait(response.headers)
            break
        if found := re.search(r"HTTP status \w+ error \((\d{3})", str(e)):  # Xet tells it in words only
            status = int(found[1])
            break
    login = LOGIN
    if isinstance(error, HubError):
        return Trouble(str(error), error.transient)
    if late := among(TimeIsUpError):
        return Trouble(str(late), True, wait_s=late.wait_s)
    if among(errors.OfflineModeIsEnabled):
        return Trouble("HF_HUB_OFFLINE is set, so the Hub is not asked")
    if among(errors.RevisionNotFoundError):
        return Trouble("the Hub knows no such revision of it", refused=True)
    if among(errors.GatedRepoError):
        gate = f"{repo_id} is gated: ask for access at {ENDPOINT}/{repo_id}, and {login}"
        return Trouble(gate, refused=True)
    if among(errors.LocalTokenNotFoundError) or (status == 401 and writing and not get_token()):
        return Trouble(f"no token: {login}")
    if among(errors.RepositoryNotFoundError) or status == 404:
        return Trouble(f"the Hub has no {repo_id}, or not for this login; check the name, or {login}", refused=True)
    if status == 401:
        return Trouble(f"the Hub does not accept the token: {login} anew")
    if status == 403 and writing:
        permission = f"make one with write permission at {ENDPOINT}/settings/tokens, or name another repository"
        return Trouble(f"the token may not write to {repo_id}: {permission}", refused=True)
    if status == 403:
        return Trouble("the Hub refuses it to this login (403)", refused=True)
    if status == 429:
        return Trouble("the Hub asks for a pause (429, too many requests)", True, wait_s=wait_s)
    if status is not None and (status >= 500 or status in (408, 409, 412, 425)):
        return Trouble(f"the Hub is in trouble ({status})", True, wait_s=wait_s)
    kinds = (httpx.TransportError, ConnectionError, TimeoutError, json.JSONDecodeError, RuntimeError)
    broken = among(*kinds) or "Consistency check failed" in str(error)
    if status is None and broken and not among(httpx.LocalProtocolError, httpx.UnsupportedProtocol):
        said = among(httpx.TransportError, OSError) or error
        return Trouble(f"the Hub cannot be reached ({first_line(said)[:200]})", True)
    return Trouble(first_line(error)[:300])


def retry(call: Callable[[], T], tries: int | None = None) -> T:
    """What `call` returns, tried again where that may help, with growing waits or those that the Hub asks for.

    Args:
        tries: at most; default: as long as the limit allows.
    """
    said = None
    for n in itertools.count():
        try:
            return call()
        except Exception as error:
            what = trouble(error)
            wait = min(FIRST_WAIT_S * 2 ** min(n, 20), MAX_WAIT_S) * random.uniform(1, 1.25)
            if what.wait_s is not None:
                wait = min(what.wait_s, MAX_ASKED_WAIT_S) + random.uniform(0, 1)
            left = Limit.moment - time.monotonic()
            if not what.transient or n + 1 == tries or wait > left:
                raise
            if n and tries is None and what.reason != said:  # one failure is nothing to tell anybody
                said = what.reason
                log.warning("%s; trying again for %.0f s at most", said, left)
        time.sleep(wait)
    raise AssertionError("unreachable")
