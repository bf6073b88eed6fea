"""What options must fulfil, of whichever program: those that training and evaluation share, and those of a network.

Importing this loads nothing heavy.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from ddpm.flags import need_option
from ddpm.names import ETA_SAMPLERS, Size, colour_of, counted, size_name, size_of, times

MAX_THREADS = 1024


def check_run(options: Any) -> None:
    """Check the options that every program has. Raises as `need_option`."""
    need_option(options, options.seed >= 0, "seed", "0 or more")
    need_option(options, options.seed < 2**63, "seed", "less than 2**63")
    # Far beyond the cores of a machine, the libraries that start the threads crash.
    need_option(options, 0 <= options.num_cpu_threads <= MAX_THREADS, "num_cpu_threads", f"0 to {MAX_THREADS}")


def check_eta(sampler: str, eta: float) -> None:
    """Check the share of fresh noise of a sampler.

    Raises:
        ValueError: it is out of range, or the sampler does not take one.
    """
    if not 0 <= eta <= 1:  # which NaN is not, either
        raise ValueError(f"--eta {eta:g}: 0 to 1 is needed")
    if eta and sampler not in ETA_SAMPLERS:
        raise ValueError(f"--eta {eta:g}: --sampler {sampler} does not take it; {' and '.join(ETA_SAMPLERS)} do")


def check_common(options: Any) -> None:
    """Check the options that training and evaluation share. Raises as `need_option`."""
    need = functools.partial(need_option, options)
    check_run(options)
    need(options.channels in (None, 1, 3), "channels", "1 or 3")
    if options.resolution is not None:
        try:
            size_of(options.resolution)
        except ValueError as error:
            raise ValueError(f"--resolution {error}") from None
    if options.background is not None:
        try:
            colour_of(options.background)
        except ValueError as error:
            raise ValueError(f"--background {error}") from None
    if options.value_range is not None:
        words = " ".join(f"{value:g}" for value in options.value_range)
        ordered = (
            len(options.value_range) == 2 and -math.inf < options.value_range[0] < options.value_range[1] < math.inf
        )
        if not ordered:
            raise ValueError(f"--value_range {words}: two numbers are needed, the lower one first")


def check_network(
    size: Size | None, block_out_channels: tuple[int, ...], attention_levels: tuple[int, ...], groups: int
) -> None:
    """Reject networks that UNet2DModel would only reject deep inside a forward pass.

    Args:
        size: of the images; None if it is not known yet.
    Raises:
        ValueError: the message names the value and what is accepted.
    """
    levels = len(block_out_channels)
    if not levels:
        raise ValueError("--block_out_channels: at least one width is needed")
    factor = 2 ** (levels - 1)
    if size is not None and any(side % factor for side in size):
        below = size[0] // factor * factor, size[1] // factor * factor
        above = -(-size[0] // factor) * factor, -(-size[1] // factor) * factor
        fits = next(n for n in range(levels, 0, -1) if all(side % 2 ** (n - 1) == 0 for side in size))
        raise ValueError(
            f"resolution {size_name(size)} cannot be halved {times(levels - 1)}: take --resolution "
            f"{f'{size_name(below)} or ' if all(below) else ''}{size_name(above)}, or at most "
            f"{counted(fits, 'width')} in --block_out_channels"
        )
    if bad := [c for c in block_out_channels if c <= 0 or c % groups]:
        raise ValueError(f"block_out_channels {bad}: not divisible by norm_num_groups {groups}")
    if bad := [level for level in attention_levels if not 0 <= level < levels]:
        raise ValueError(f"attention_levels {bad}: levels are 0 (full resolution) to {levels - 1}")
