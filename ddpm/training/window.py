"""The losses of the optimizer steps since the last row of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NonFiniteError(RuntimeError):
    """The loss or the gradient norm is NaN or infinite."""


class LossWindow:
    """Per-image losses of the steps since the last row of metrics.jsonl.

    Values stay on the device until `fold`, so that looking at them costs no synchronisation per step.

    Args:
        gather: Accelerator.gather; concatenates the tensors of all processes along the first dimension.
    """

    def __init__(
        self,
        gather: Callable[[Tensor], Any],
        world: int,
        num_train_timesteps: int,
        folded: dict[str, Tensor] | None = None,
    ) -> None:
        self.gather, self.world, self.num_train_timesteps = gather, world, num_train_timesteps
        self.waiting: list[tuple[int, np.ndarray, Tensor, Tensor]] = []
        self.clear()
        if folded:
            self.steps, self.t, self.losses, self.norms = (folded[k].numpy() for k in ("steps", "t", "losses", "norms"))

    def clear(self) -> None:
        self.steps, self.norms = np.empty(0, np.int64), np.empty(0)
        self.t, self.losses = np.empty((0, 0), np.int64), np.empty((0, 0))

    def add(self, step: int, t: np.ndarray, losses: list[Tensor], norm: Tensor) -> None:
        """One optimizer step.

        Args:
            t: (global batch,) int64 timesteps, in the order of slots.
            losses: a (B,) tensor for each of this process's micro-batches.
            norm: () gradient norm before clipping.
        """
        self.waiting.append((step, t, _stack(losses), norm.detach()))

    def fold(self) -> None:
        """Bring waiting values to the host; every process must call it at the same step.

        Raises:
            NonFiniteError: naming the step and the timesteps (1-based) of the worst images.
        """
        if not self.waiting:
            return
        steps, t, losses, norms = zip(*self.waiting, strict=True)
        self.waiting = []
        mine = _stack(losses)  # (steps, micro-batches, B)
        everyone = self.gather(mine).float().cpu().reshape(self.world, *mine.shape)
        # Slot = micro-batch * world + rank, as in train.py.
        losses = everyone.movedim(0, 2).reshape(len(steps), -1).double().numpy()
        t, norms, steps = np.stack(t), _stack(norms).float().cpu().double().numpy(), np.array(steps)
        bad = ~(np.isfinite(losses).all(1) & np.isfinite(norms))
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            worst = np.argsort(-np.nan_to_num(losses[first], nan=np.inf))[:5]
            raise NonFiniteError(
                f"loss or gradient is not finite at step {steps[first] + 1}: gradient norm {norms[first]:g}, "
                "worst images " + ", ".join(f"t={t[first, i] + 1} loss {losses[first, i]:g}" for i in worst)
            )
        shape = (-1, losses.shape[1])
        self.steps, self.norms = np.concatenate([self.steps, steps]), np.concatenate([self.norms, norms])
        self.t = np.concatenate([self.t.reshape(shape), t])
        self.losses = np.concatenate([self.losses.reshape(shape), losses])

    def means(self, clear: bool = True) -> dict[str, Any]:
        """`loss`, `loss_by_decile` of t (None where no image met one) and `grad_norm` over the window.

        None for what has no value: under fp16, every step of the window may have been skipped.
        """
        self.fold()
        if not len(self.steps):
            return {"loss": None, "loss_by_decile": [None] * 10, "grad_norm": None}
        decile = (self.t * 10 // self.num_train_timesteps).ravel()
        sums = np.bincount(decile, self.losses.ravel(), 10)
        counts = np.bincount(decile, minlength=10)
        row = {
            "loss": float(self.losses.mean()),
            "loss_by_decile": [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)],
            "grad_norm": float(self.norms.mean()),
        }
        if clear:
            self.clear()
        return row

    def tensors(self) -> dict[str, Tensor]:
        """What `folded` takes up again."""
        self.fold()
        return {k: torch.from_numpy(np.ascontiguousarray(getattr(self, k))) for k in ("steps", "t", "losses", "norms")}


def _stack(tensors) -> Tensor:
    return torch.stack([t.detach() for t in tensors])
