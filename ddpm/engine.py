"""eps_theta(x_t, t) of a network, whatever it was trained to predict."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.compiled import Compiled
from ddpm.schedule import NoiseSchedule

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


class Engine:
    """The network as a function of x_t and t that returns predicted noise in float32.

    Args:
        unet: a UNet2DModel or anything called as `unet(xt, t).sample`.
        scheduler: the DDPMScheduler it was trained with, for its betas and prediction type.
        network: computes unet(xt, t).sample faster, where the weights do not change any more; on `device`, too.
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
        """Batches of these sizes will come. Without it, what is faster for them begins once it is sure to pay.

        Args:
            wait: return when all is ready.
        """
        if isinstance(self._network, Compiled):
            self._network.prepare(*batch_sizes, wait=wait)

    def close(self) -> None:
        """Begin nothing more in the background."""
        if isinstance(self._network, Compiled):
            self._network.close()

    @torch.no_grad()
    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) x_t and (B,) int64 t, 0-based, to eps_hat (B, C, H, W) float32."""
        xt = xt.to(self.device)
        output = self._network(xt, t.to(self.device)).float()
        if self.prediction_type == "epsilon":
            return output
        if self.prediction_type == "sample":
            return self.schedule.predict_eps(xt, output, t)
        # v = sqrt(ab) eps - sqrt(1 - ab) x_0, hence eps = sqrt(ab) v + sqrt(1 - ab) x_t
        ab = self.schedule.alpha_bar[t.cpu()]
        signal, noise = (table.float().to(xt.device).reshape(-1, 1, 1, 1) for table in (ab.sqrt(), (1 - ab).sqrt()))
        return signal * output + noise * xt
