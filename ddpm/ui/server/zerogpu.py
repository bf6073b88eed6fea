"""A GPU by the call, which a ZeroGPU Space lends: one function from arrays to arrays. Nothing happens elsewhere.

To be imported before torch, whose way to CUDA the Space's package `spaces` takes over.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

try:
    import spaces
except ImportError:  # everywhere but on a Space
    spaces = None

if TYPE_CHECKING:
    from ddpm.checkpoint import Checkpoint
    from ddpm.engine import Engine

LEASE_S = 10  # at most for one call; short ones are served first
# Parameters times pixels, which a call's work goes with. A network below needs less than a second an image on two
# cores, and a lease takes about as long: 35.7 million parameters at 32x32, 0.06 s there, make 4e10.
SMALL = 5e11
DEVICE = "cuda"

_network = None  # of the whole process, since a lease runs in a fork of it


def compute(xt: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(B, C, H, W) float32 x_t and (B,) int64 t to the network's output, float32; arguments and result are pickled."""
    import torch

    with torch.inference_mode():
        output = _network(torch.from_numpy(xt).to(DEVICE), torch.from_numpy(t).to(DEVICE)).sample
    return output.float().cpu().numpy()


if spaces is not None:  # such a Space does not start without a function of this kind, be its model small
    compute = spaces.GPU(duration=LEASE_S)(compute)


def lends() -> bool:
    """Whether this is a ZeroGPU Space."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def leases(checkpoint: Checkpoint) -> bool:
    """Whether every call of this model's network is a lease."""
    return lends() and checkpoint.num_parameters * checkpoint.resolution**2 >= SMALL


def engine(checkpoint: Checkpoint) -> Engine:
    """The checkpoint's engine: on the GPU where there is one, on a ZeroGPU Space for a large network only."""
    global _network
    import torch

    if not leases(checkpoint):
        return checkpoint.engine("cuda" if torch.cuda.is_available() and not lends() else "cpu")
    from ddpm.engine import Engine

    _network = checkpoint.unet.to(DEVICE)  # now: a lease begins with what is on the device when the Space starts
    return Engine(
        _network,
        checkpoint.scheduler,
        network=lambda xt, t: torch.from_numpy(compute(xt.numpy(), t.numpy())),
    )
