"""The losses of the optimizer steps since the last row of metrics.jsonl, and the figures of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

NAMES = ("steps", "t", "weights", "losses", "norms")


class NonFiniteError(RuntimeError):
    """The loss or the gradient norm is NaN or infinite."""


class LossWindow:
    """The loss of every image and the norm of every gradient since the last row of metrics.jsonl.

    The values stay on the device until `fold` brings them to the host, so that no step has to wait for the device.

    Args:
        gather: Accelerator.gather; it concatenates the tensors of all processes along the first dimension.
        world: the number of processes.
        saved: what `tensors` returned when a training state was saved.
    """

    def __init__(
        self,
        gather: Callable[[Tensor], Any],
        world: int,
        num_train_timesteps: int,
        saved: dict[str, Tensor] | None = None,
    ) -> None:
        self.gather, self.world, self.num_train_timesteps = gather, world, num_train_timesteps
        self.waiting: list[tuple[int, np.ndarray, np.ndarray, Tensor, Tensor]] = []
        self.clear()
        if saved:
            self.steps, self.t, self.losses, self.norms = (saved[k].numpy() for k in ("steps", "t", "losses", "norms"))
            self.weights = saved["weights"].numpy() if "weights" in saved else np.ones_like(self.losses)  # older states

    def clear(self) -> None:
        """Begin a new window."""
        self.steps, self.norms = np.empty(0, np.int64), np.empty(0)
        self.t, self.weights, self.losses = np.empty((0, 0), np.int64), np.empty((0, 0)), np.empty((0, 0))

    def add(self, step: int, t: np.ndarray, weights: np.ndarray, losses: list[Tensor], norm: Tensor) -> None:
        """Add an optimizer step (0-based).

        Args:
            t: (global batch,) int64 timesteps, 0-based, in the order of slots.
            weights: (global batch,) how much each image counts, see `Timesteps`.
            losses: a (B,) tensor for each of this process's micro-batches.
            norm: () gradient norm before clipping.
        """
        self.waiting.append((step, t, weights, _stack(losses), norm.detach()))

    def fold(self) -> None:
        """Bring the values that still wait on the device to the host. Every process must call it after the same step.

        Raises:
            NonFiniteError: the message names the step and the timesteps (1-based) of the worst images.
        """
        if not self.waiting:
            return
        steps, t, weights, losses, norms = zip(*self.waiting, strict=True)
        self.waiting = []
        of_this_process = _stack(losses)  # (steps, micro-batches, B)
        of_all = self.gather(of_this_process).float().cpu().reshape(self.world, *of_this_process.shape)
        # A slot is micro-batch * world + rank, as `Batches` numbers them.
        losses = of_all.movedim(0, 2).reshape(len(steps), -1).double().numpy()
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
        self.weights = np.concatenate([self.weights.reshape(shape), np.stack(weights)])
        self.losses = np.concatenate([self.losses.reshape(shape), losses])

    def means(self, clear: bool = True) -> dict[str, Any]:
        """`loss`, `loss_by_decile` of t, and `grad_norm`, averaged over the window.

        With the weights of the images, `loss` estimates L_simple however the timesteps are drawn.

        A value is None where nothing was measured: no image had a t of that decile, or every step overflowed in fp16.

        Args:
            clear: begin a new window afterwards.
        """
        self.fold()
        if not len(self.steps):
            return {"loss": None, "loss_by_decile": [None] * 10, "grad_norm": None}
        decile = (self.t * 10 // self.num_train_timesteps).ravel()
        weighted = self.weights * self.losses
        sums, counts = (np.bincount(decile, values.ravel(), 10) for values in (weighted, self.weights))
        row = {
            "loss": float(weighted.mean()),
            "loss_by_decile": [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)],
            "grad_norm": float(self.norms.mean()),
        }
        if clear:
            self.clear()
        return row

    def tensors(self) -> dict[str, Tensor]:
        """The window as tensors, for a training state."""
        self.fold()
        return {k: torch.from_numpy(np.ascontiguousarray(getattr(self, k))) for k in NAMES}


def _stack(tensors) -> Tensor:
    return torch.stack([t.detach() for t in tensors])
