"""The network as a function eps_theta(x_t, t, label), whatever it was trained to predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddpm.classes import Classes, accepting_vectors
from ddpm.compiled import Compiled
from ddpm.names import PREDICTION_TYPES
from ddpm.schedule import Joined, NoiseSchedule
from ddpm.unet import keep_input_precision


class Engine:
    """A network as a function of x_t and t that returns the predicted noise in float32.

    Of a network that predicts the variance, too, `with_variance` also returns that.

    Args:
        unet: a UNet2DModel, or anything that is called as `unet(xt, t).sample`.
        scheduler: the DDPMScheduler that it was trained with; its betas and its prediction type are used.
        device: where the network computes; x_t and t are moved there.
        network: a faster way to compute `unet(xt, t).sample` on `device`, for weights that no longer change. If there
            are classes, it gets their vectors (B, D) as its third argument.
        classes: the classes of a class-conditional network, which is then a UNet2DModel as `ddpm.classes` saves it.
    Attributes:
        classes: as given.
    Raises:
        ValueError: unknown prediction type.
    """

    def __init__(
        self,
        unet,
        scheduler,
        device: torch.device | str = "cpu",
        network: Callable[..., Tensor] | None = None,
        classes: Classes | None = None,
    ) -> None:
        self.prediction_type = scheduler.config.prediction_type
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type {self.prediction_type!r}: one of {', '.join(PREDICTION_TYPES)} is needed"
            )
        if network is None:
            unet = accepting_vectors(unet) if classes else unet
            if torch.device(device).type == "cuda":
                keep_input_precision(unet)
            network = lambda *inputs: unet(*inputs).sample  # noqa: E731
        self._network, self.classes = network, classes
        self._vectors = classes.with_none(device) if classes else None
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
    def __call__(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The predicted noise.

        Args:
            xt: (B, C, H, W) float.
            t: (B,) int64, 0-based.
            labels: (B,) int64, the numbers of classes; -1 is "no label". None: no label for any image.
        Returns:
            (B, C, H, W) float32 eps_hat, on `device`.
        Raises:
            ValueError: a label that the network does not know.
        """
        return self.with_variance(xt, t, labels)[0]

    @torch.no_grad()
    def with_variance(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The predicted noise, and what the network says about the variance of the step.

        Arguments and errors are those of a call.

        Returns:
            eps_hat and v (see `NoiseSchedule.learned_log_variance`), (B, C, H, W) float32 each, on `device`; v is None
            if the network predicts no variance. It is not the variance itself, since that depends on the timesteps that
            a sampler visits.
        """
        xt, inputs = xt.to(self.device), ()
        if labels is not None:
            self._check(labels)
        if self._vectors is not None:
            inputs = (self._vectors[torch.full((len(xt),), -1) if labels is None else labels],)
        output, v = Joined(lambda *inputs: self._network(*inputs).float()).with_variance(xt, t.to(self.device), *inputs)
        return self._eps_hat(output, xt, t), v

    def _eps_hat(self, output: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """The predicted noise from what the network predicts."""
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

    def _check(self, labels: Tensor) -> None:
        known = len(self.classes) if self.classes else 0
        if bool(((labels < -1) | (labels >= known)).any()):
            raise ValueError(
                f"labels from {int(labels.min())} to {int(labels.max())}: "
                + (f"0 to {known - 1} is possible, and -1 for no label" if known else "the model has no labels")
            )


class Counted:
    """An engine that counts its calls per image on a progress bar.

    Args:
        bar: has a method `update(count)`.
        strict: refuse an answer of the network that is not finite. Clipping x_0 would hide it, and the pictures would
            be wrong.
    Raises:
        ValueError: an answer is refused.
    """

    def __init__(self, engine: Engine, bar: Any, strict: bool = False) -> None:
        self.engine, self.bar, self.device, self._strict = engine, bar, engine.device, strict

    def __call__(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.with_variance(xt, t, labels)[0]

    def with_variance(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        answer = self.engine.with_variance(xt, t, labels)
        if self._strict and not bool(torch.isfinite(answer[0]).all()):
            raise ValueError("the network's output is not finite (NaN or infinity): the model may be damaged")
        self.bar.update(len(xt))
        return answer
