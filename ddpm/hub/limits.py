"""How long this package waits for the Hub, and how much it accepts from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limits:
    """Limits in seconds and bytes. All modules read them from the one object `limits`."""

    # --- requests and tries
    request_s: float = 60  # without a byte; the client itself would wait for ever
    first_wait_s: float = 1  # before the second try; doubled for each further try
    max_wait_s: float = 60
    max_requested_wait_s: float = 300  # if the Hub itself asks for a wait; its windows are five minutes long

    # --- pushes
    push_s: float = 900  # for a push with all its tries
    wait_s: float = 180  # at the end of a training, for a Hub that is down: somebody pays for the machine that waits
    milestone_s: float = 600  # the same, while training
    milestone_interval_s: float = 600  # between two pushes while training, because the Hub keeps every version
    grace_s: float = 10  # for a push to notice by itself that its time is up; an upload by Xet may not

    # --- pulls
    lookup_s: float = 60  # to find a repository and its list of files, and again to download the small files
    slowest_bytes_per_s: float = 2**18  # a slower download of weights is given up
    max_weights_bytes: int = 4 * 2**30  # the paper's largest network has 0.5 GiB
    max_json_bytes: int = 2**20  # for each configuration file
    max_extra_bytes: int = 8 * 2**20  # for each optional file
    max_samples: int = 12  # sample grids
    max_sample_bytes: int = 2**20  # for each sample grid


limits = Limits()
