"""How long the server works for one request."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.ui.server.requests import InputError


@dataclass(frozen=True)
class Allowance:
    """The seconds that one request may take.

    Args:
        own_s: of work for this request alone.
        wall_s: by the clock, which includes the time in which other visitors' requests have their turn.
        refusal: key of the text that a visitor reads once `own_s` are over.
    """

    own_s: float
    wall_s: float
    refusal: str

    def check(self, own_s: float, wall_s: float) -> None:
        """Stop a request that has taken too long.

        Raises:
            InputError: `own_s` or `wall_s` is over the limit; the error states that limit.
        """
        if own_s > self.own_s:
            raise InputError(self.refusal, limit=self.own_s)
        if wall_s > self.wall_s:
            raise InputError("refused.crowded", limit=self.wall_s)


@dataclass(frozen=True)
class Limits:
    """Every limit in time of the page's server. Tests replace single ones."""

    sampling: Allowance = Allowance(150, 600, "refused.deadline")
    predict: Allowance = Allowance(60, 300, "refused.slow")
    bound: Allowance = Allowance(240, 900, "refused.slow")
    classify: Allowance = Allowance(120, 600, "refused.slow")
    # One call of the network takes about this long at most: other visitors wait for it, and so does the Stop button.
    predict_call_s: float = 0.5
    bound_call_s: float = 0.15  # shorter, since the terms appear on the page call by call
    classify_call_s: float = 0.25
    retry_s: float = 60.0  # until the examples are tried again after a failure
