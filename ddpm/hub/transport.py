"""Calls to the Hub: deadlines, further tries, and what the client's exceptions mean. Importing this module does not
load torch."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ddpm.errors import first_line
from ddpm.hub.limits import limits

log = logging.getLogger(__name__)
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

TOO_LONG = "the Hub took too long"
LOGIN = "log in with `hf auth login` or set HF_TOKEN"


class HubError(ValueError):
    """What went wrong between this machine and the Hub, in one line.

    Args:
        transient: it may work later; otherwise somebody has to do what the message says.
        commit: address of the commit, if there is one nevertheless.
    """

    def __init__(self, message: str, transient: bool = False, commit: str | None = None) -> None:
        super().__init__(message)
        self.transient, self.commit = transient, commit


class TimeIsUpError(TimeoutError):
    """The deadline has passed, or would pass. The client neither tries again after this error nor waits for it."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Deadline:
    """The moment after which no request is begun and no answer is read on. There is one for the whole process, because
    the client works in threads."""

    moment = float("inf")

    @classmethod
    @contextlib.contextmanager
    def after(cls, seconds: float):
        """Within this block, the deadline is in `seconds` at the latest."""
        before, cls.moment = cls.moment, min(cls.moment, time.monotonic() + seconds)
        try:
            yield
        finally:
            cls.moment = before

    @classmethod
    def left(cls) -> float:
        """Seconds until the deadline.

        Raises:
            TimeIsUpError: it has passed.
        """
        left = cls.moment - time.monotonic()
        if left <= 0:
            raise TimeIsUpError(TOO_LONG)
        return left


def client(writing: bool = False):
    """The client of the Hub, changed so that it gives up at the deadline and on connections that are silent.

    Raises:
        HubError: the token is malformed, and the client's own error message would quote it; or there is no token, and
            `writing` needs one.
    """
    # Transfers by Xet have settings of their own, which are read when the first transfer begins.
    os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{limits.request_s}s")
    os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_DURATION", "120s")
    from huggingface_hub import HfApi, get_token, set_client_factory
    from huggingface_hub.utils import httpx
    from huggingface_hub.utils._http import default_client_factory

    if not re.fullmatch(r"[\x21-\x7e]*", get_token() or ""):
        raise HubError(f"the token contains characters that no token has: {LOGIN} again")
    if writing and not get_token():  # said before any request, because the Hub may be down as well
        raise HubError(f"there is no token: {LOGIN}")

    class Bounded(httpx.SyncByteStream):
        """A response body that is only read until the deadline."""

        def __init__(self, stream) -> None:
            self.stream = stream

        def __iter__(self):
            for chunk in self.stream:
                Deadline.left()
                yield chunk

        def close(self) -> None:
            self.stream.close()

    def bound_request(request) -> None:
        left, timeouts = Deadline.left(), request.extensions.get("timeout") or {}
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {kind: min(timeouts.get(kind) or limits.request_s, left) for kind in kinds}

    def bound_response(response) -> None:
        wait_s = requested_wait(response.headers) or 0
        if response.status_code == 429 and wait_s > Deadline.left():  # the client would sleep past the deadline
            raise TimeIsUpError(f"the Hub asks for a pause of {wait_s:.0f} s (429, too many requests)", wait_s)
        response.stream = Bounded(response.stream)

    def make():
        made = default_client_factory()
        made.event_hooks["request"].append(bound_request)
        made.event_hooks["response"].append(bound_response)
        return made

    set_client_factory(make)
    return HfApi()


def requested_wait(headers) -> float | None:
    """Seconds that the Hub asks to wait for, if it does."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit, after = parse_ratelimit_headers(headers), headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    return float(limit.reset_in_seconds) if limit and limit.remaining == 0 else None


@dataclass(frozen=True)
class Trouble:
    """What one of the client's exceptions means.

    Attributes:
        reason: why it did not work and what to do about it, in one line.
        transient: the same call may work later.
        refused: the Hub said no, so that a copy in the cache must not be used instead.
        wait_s: the wait that the Hub asks for.
    """

    reason: str
    transient: bool = False
    refused: bool = False
    wait_s: float | None = None


def trouble(error: BaseException, repo_id: str | None = None, writing: bool = False) -> Trouble:
    """What an exception means, judged by itself and its causes, because the client wraps exceptions in others and they
    have no common base class."""
    from huggingface_hub import errors, get_token
    from huggingface_hub.constants import ENDPOINT

    chain = _chain(error)

    def among(kind: type[E]) -> E | None:
        return next((e for e in chain if isinstance(e, kind)), None)

    if isinstance(error, HubError):
        return Trouble(str(error), error.transient)
    if late := among(TimeIsUpError):
        return Trouble(str(late), True, wait_s=late.wait_s)
    if among(errors.OfflineModeIsEnabled):
        return Trouble("HF_HUB_OFFLINE is set, so no request is sent to the Hub")
    if among(errors.RevisionNotFoundError):
        return Trouble("the Hub has no such revision of it", refused=True)
    if among(errors.GatedRepoError):
        gate = f"{repo_id} is gated: request access at {ENDPOINT}/{repo_id}, and {LOGIN}"
        return Trouble(gate, refused=True)
    status, wait_s = _status(chain)
    if among(errors.LocalTokenNotFoundError) or (status == 401 and writing and not get_token()):
        return Trouble(f"there is no token: {LOGIN}")
    if among(errors.RepositoryNotFoundError) or status == 404:
        reason = f"the Hub has no {repo_id}, or this login may not see it: check the name, or {LOGIN}"
        return Trouble(reason, refused=True)
    if status == 401:
        return Trouble(f"the Hub does not accept the token: {LOGIN} again")
    if status == 403 and writing:
        permission = f"make one with write permission at {ENDPOINT}/settings/tokens, or name another repository"
        return Trouble(f"the token may not write to {repo_id}: {permission}", refused=True)
    if status == 403:
        return Trouble("this login has no access (403)", refused=True)
    if status == 429:
        return Trouble("the Hub asks for a pause (429, too many requests)", True, wait_s=wait_s)
    if status is not None and (status >= 500 or status in (408, 409, 412, 425)):
        return Trouble(f"the Hub answered with an error ({status})", True, wait_s=wait_s)
    if status is None and (cause := _broken_connection(chain)):
        return Trouble(f"the Hub cannot be reached ({first_line(cause)[:200]})", True)
    return Trouble(first_line(error)[:300])


def _chain(error: BaseException | None) -> list[BaseException]:
    """An exception and its causes."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain


def _status(chain: list[BaseException]) -> tuple[int | None, float | None]:
    """HTTP status of the answer behind an exception, and the wait that the Hub asks for."""
    for error in chain:
        if (response := getattr(error, "response", None)) is not None:
            return response.status_code, requested_wait(response.headers)
        if found := re.search(r"HTTP status \w+ error \((\d{3})", str(error)):  # all that Xet reports
            return int(found[1]), None
    return None, None


def _broken_connection(chain: list[BaseException]) -> BaseException | None:
    """What tells most about a connection that failed, broke off or delivered nonsense; None if that is not the case."""
    from huggingface_hub.utils import httpx

    kinds = (httpx.TransportError, ConnectionError, TimeoutError, json.JSONDecodeError, RuntimeError)
    broken = any(isinstance(e, kinds) for e in chain) or "Consistency check failed" in str(chain[0])
    ours = any(isinstance(e, httpx.LocalProtocolError | httpx.UnsupportedProtocol) for e in chain)
    if not broken or ours:
        return None
    return next((e for e in chain if isinstance(e, httpx.TransportError | OSError)), chain[0])


def retry(call: Callable[[], T], tries: int | None = None, wait_s: float = math.inf) -> T:
    """What `call` returns; it is tried again if that may help, after growing waits or those that the Hub asks for.

    Args:
        tries: at most so many; default: until the deadline.
        wait_s: seconds after the first failure in which the last try may begin. What was sent before a connection
            broke does not count.
    """
    said, failing_since = None, math.inf
    for n in itertools.count():
        began = time.monotonic()
        try:
            return call()
        except Exception as error:
            what = trouble(error)
            wait = min(limits.first_wait_s * 2 ** min(n, 20), limits.max_wait_s) * random.uniform(1, 1.25)
            if what.wait_s is not None:
                wait = min(what.wait_s, limits.max_requested_wait_s) + random.uniform(0, 1)
            now = time.monotonic()
            failing_since = min(failing_since, max(began, now - limits.request_s))
            left = min(Deadline.moment, failing_since + wait_s) - now
            if not what.transient or n + 1 == tries or wait > left:
                raise
            if n and tries is None and what.reason != said:  # a single failure is not worth a message
                said = what.reason
                log.warning("%s; trying again for at most %.0f s", said, left)
        time.sleep(wait)
    raise AssertionError("unreachable")
