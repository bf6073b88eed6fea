"""What the store keeps of the network's readings of a picture, and the form in which it leaves the server.

t is 1-based here, as in everything that leaves the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm.elbo import ClassPosterior
from ddpm.ui.server.encoding import to_base64


def short(numbers: list[float], digits: int = 4) -> list[float]:
    """Numbers with so many significant digits, which take fewer bytes."""
    return [float(f"{number:.{digits}g}") for number in numbers]


@dataclass(eq=False)
class Prediction:
    """eps_hat of one picture and noise: `t` (1-based, ascending), `mse` of each, `data` (len(t), H, W, C) float16.

    `mse` is that of all pixels; of them `data` has every `Readings.factor`-th along each side.
    """

    key: str
    t: list[int]
    mse: list[float]
    data: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    def as_json(self) -> dict[str, Any]:
        return {"t": self.t, "mse": self.mse, "data": to_base64(self.data)}


@dataclass(eq=False)
class Bound:
    """The terms of one picture's bound, in bits per dimension.

    Args:
        prior: L_T.
        bits: (T,) L_{t-1} of t = 1 ... T, the first of which is L_0.
        mse: (T,) as `ElboTerms.eps_mse`.
        seconds: it took to compute.
        others: (T,) as `bits`, under the other variances of `Readings.variances`, by their names.
        floors: the part of L_0 that comes from the decoder's width, see `decoder_floor`, for every variance.
    """

    key: str
    prior: float
    bits: np.ndarray
    mse: np.ndarray
    seconds: float
    others: dict[str, np.ndarray]
    floors: dict[str, float]

    @property
    def num_bytes(self) -> int:
        return self.bits.nbytes * (1 + len(self.others)) + self.mse.nbytes

    @property
    def total(self) -> float:
        return self.prior + float(self.bits.sum())

    def as_json(self) -> dict[str, Any]:
        shown = {"prior": self.prior, "total": self.total, "seconds": round(self.seconds, 1), "floors": self.floors}
        others = {name: short(bits.tolist(), 6) for name, bits in self.others.items()}
        return {**shown, "bits": self.bits.tolist(), "mse": self.mse.tolist(), "others": others}


@dataclass(eq=False)
class Classified:
    """What the bound says about the label of one picture.

    Args:
        probabilities: of each label, (K,).
        bits: that each label saves against no label, in bits per dimension, (K,).
        timesteps, evaluations: see `ClassPosterior`.
        seconds: it took to compute.
    """

    key: str
    probabilities: list[float]
    bits: list[float]
    timesteps: int
    evaluations: int
    seconds: float

    @property
    def num_bytes(self) -> int:
        return 16 * len(self.bits)

    def as_json(self) -> dict[str, Any]:
        shown = {"timesteps": self.timesteps, "evaluations": self.evaluations, "seconds": round(self.seconds, 2)}
        return {**shown, "probabilities": self.probabilities, "bits": self.bits}


def classified(key: str, posterior: ClassPosterior, seconds: float) -> Classified:
    """An estimate of `class_posterior_steps` in the form that leaves the server."""
    saved = posterior.bits_without_label - posterior.bits
    return Classified(
        key,
        posterior.probabilities.tolist(),
        saved.tolist(),
        posterior.timesteps,
        posterior.evaluations,
        seconds,
    )
