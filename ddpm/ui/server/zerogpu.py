"""The GPU that a ZeroGPU Space lends for single calls. On any other machine this module does nothing.

A lent call is one function from arrays to arrays. Import this module before torch, since the Space's package `spaces`
takes over torch's access to CUDA.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
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

# Global, since a lease runs in a fork of this process.
_networks: list[Any] = []
_device = ""


@dataclass(frozen=True)
class Terms:
    """Which networks use the lent GPU. Tests replace single values.

    Attributes:
        smallest: parameters times pixels, to which the work of a call is proportional. A smaller network stays on the
            CPU: there it takes less than a second for an image on two cores, and a lease takes about as long. For
            comparison, 35.7 million parameters at 32 x 32 make 4e10 and take 0.06 s.
        device: what torch calls the lent GPU.
    """

    smallest: float = 5e11
    device: str = "cuda"


def compute(number: int, *inputs: np.ndarray) -> np.ndarray:
    """A network's output for (B, C, H, W) float32 x_t, (B,) int64 t and, of a class-conditional network, (B, D)
    float32 class vectors. Arguments and result are pickled.

    Args:
        number: of the network among those that use the GPU.
    """
    import torch

    with torch.inference_mode():
        output = _networks[number](*(torch.from_numpy(array).to(_device) for array in inputs)).sample
    return output.float().cpu().numpy()


if spaces is not None:  # a ZeroGPU Space does not start without such a function, even if its model is small
    compute = spaces.GPU(duration=LEASE_S)(compute)


def lends() -> bool:
    """Whether this is a ZeroGPU Space."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def leases(checkpoint: Checkpoint, terms: Terms) -> bool:
    """Whether every call of this model's network is a lease."""
    return lends() and checkpoint.num_parameters * math.prod(checkpoint.size) >= terms.smallest


def engine(checkpoint: Checkpoint, terms: Terms) -> Engine:
    """The checkpoint's engine, on the GPU if there is one. On a ZeroGPU Space only large networks use it."""
    global _device
    import torch

    if not leases(checkpoint, terms):
        return checkpoint.engine("cuda" if torch.cuda.is_available() and not lends() else "cpu")
    from ddpm.classes import accepting_vectors
    from ddpm.engine import Engine

    unet: Any = accepting_vectors(checkpoint.unet) if checkpoint.classes else checkpoint.unet
    _device = terms.device
    number = len(_networks)
    _networks.append(unet.to(_device))  # now, since a lease finds on the device what was there when the Space started
    return Engine(
        _networks[number],
        checkpoint.scheduler,
        network=lambda *inputs: torch.from_numpy(compute(number, *(tensor.numpy() for tensor in inputs))),
        classes=checkpoint.classes,
    )
