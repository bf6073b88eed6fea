"""The network as a function eps_theta(x_t, t), whatever it was trained to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddpm.compiled import Compiled
from ddpm.names import PREDICTION_TYPES
from ddpm.schedule import NoiseSchedule


class Engine:
    """A network as a function of x_t and t that returns the predicted noise in float32.

    Args:
        unet: a UNet2DModel, or anything that is called as `unet(xt, t).sample`.
        scheduler: the DDPMScheduler that it was trained with; its betas and its prediction type are used.
        device: where the network computes; x_t and t are moved there.
        network: a faster way to compute `unet(xt, t).sample` on `device`, for weights that no longer change.
    Raises:
        ValueError: unknown prediction type.
    """

    def __init__(
        self,
        unet,
        scheduler,
        device: torch.device | str = "cpu",
        network: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.prediction_type = scheduler.config.prediction_type
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type {self.prediction_type!r}: one of {', '.join(PREDICTION_TYPES)} is needed"
            )
        self._network = (lambda xt, t: unet(xt, t).sample) if network is None else network
        self.schedule = NoiseSchedule(scheduler.betas.double().cpu())
        self.device = torch.device(device)

    def prepare(self, *batch_sizes: int, wait: bool = False) -> None:
        """Compile the network for batches of these sizes, if this engine compiles.

        Without this call, compiling a size begins once it is certain to save time.

        Args:
            wait: return when everything is compiled.
        """
        if isinstance(self._network, Compiled):
            self._network.prepare(*batch_sizes, wait=wait)

    def settle(self, *batch_sizes: int) -> None:
        """Get ready for figures that are recorded: equal inputs give equal bits from now on, on the same machine.

        Wait until the network is compiled for batches of these sizes. Every other size waits at its first call.
        """
        if isinstance(self._network, Compiled):
            self._network.settle()
            self._network.prepare(*batch_sizes, wait=True)

    def close(self) -> None:
        """Start no more work in the background."""
        if isinstance(self._network, Compiled):
            self._network.close()

    @torch.no_grad()
    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        """The predicted noise.

        Args:
            xt: (B, C, H, W) float.
            t: (B,) int64, 0-based.
        Returns:
            (B, C, H, W) float32 eps_hat, on `device`.
        """
        xt = xt.to(self.device)
        output = self._network(xt, t.to(self.device)).float()
        if self.prediction_type == "epsilon":
            return output
        if self.prediction_type == "sample":
            return self.schedule.predict_eps(xt, output, t)
        # v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0, hence eps = sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t
        alpha_bar = self.schedule.alpha_bar[t.cpu()]
        signal, noise = (
            table.float().to(xt.device).reshape(-1, 1, 1, 1) for table in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt())
        )
        return signal * output + noise * xt


class Counted:
    """An engine that counts its calls per image on a progress bar.

    Args:
        bar: has a method `update(count)`.
    """

    def __init__(self, engine: Engine, bar: Any) -> None:
        self.engine, self.bar, self.device = engine, bar, engine.device

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        eps_hat = self.engine(xt, t)
        self.bar.update(len(xt))
        return eps_hat
