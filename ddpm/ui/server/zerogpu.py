"""The GPU that a ZeroGPU Space lends for single calls. On any other machine this module does nothing.

A lent call is one function from arrays to arrays. Import this module before torch, since the Space's package `spaces`
takes over torch's access to CUDA.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import spaces  # pyright: ignore[reportMissingImports]
except ImportError:  # everywhere but on a Space
    spaces = None

if TYPE_CHECKING:
    from ddpm.checkpoint import Checkpoint
    from ddpm.engine import Engine

LEASE_S = 10  # at most for one call; ZeroGPU serves short leases first
# Parameters times pixels, to which the work of a call is proportional. A smaller network stays on the CPU: there it
# takes less than a second for an image on two cores, and a lease takes about as long. For comparison, 35.7 million
# parameters at 32 x 32 make 4e10 and take 0.06 s.
SMALL = 5e11
DEVICE = "cuda"

_network: Any = None  # global, since a lease runs in a fork of this process


def compute(xt: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The network's output for (B, C, H, W) float32 x_t and (B,) int64 t. Arguments and result are pickled."""
    import torch

    with torch.inference_mode():
        output = _network(torch.from_numpy(xt).to(DEVICE), torch.from_numpy(t).to(DEVICE)).sample
    return output.float().cpu().numpy()


if spaces is not None:  # a ZeroGPU Space does not start without such a function, even if its model is small
    compute = spaces.GPU(duration=LEASE_S)(compute)


def lends() -> bool:
    """Whether this is a ZeroGPU Space."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def leases(checkpoint: Checkpoint) -> bool:
    """Whether every call of this model's network is a lease."""
    return lends() and checkpoint.num_parameters * checkpoint.resolution**2 >= SMALL


def engine(checkpoint: Checkpoint) -> Engine:
    """The checkpoint's engine, on the GPU if there is one. On a ZeroGPU Space only large networks use it."""
    global _network
    import torch

    if not leases(checkpoint):
        return checkpoint.engine("cuda" if torch.cuda.is_available() and not lends() else "cpu")
    from ddpm.engine import Engine

    unet: Any = checkpoint.unet
    _network = unet.to(DEVICE)  # now, since a lease finds on the device what was there when the Space started
    return Engine(
        _network,
        checkpoint.scheduler,
        network=lambda xt, t: torch.from_numpy(compute(xt.numpy(), t.numpy())),
    )
