"""The network that learns, with its optimizer and the average of its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddpm import draws
from ddpm.classes import Weights, separated
from ddpm.config import TrainConfig
from ddpm.draws import Purpose
from ddpm.processes import memory_format
from ddpm.training import state
from ddpm.training.ema import make_ema
from ddpm.training.recipe import compiled, learning_rate, make_scheduler
from ddpm.training.window import NonFiniteError
from ddpm.unet import keep_input_precision

MAX_SKIPPED = 50  # optimizer steps in a row that may overflow in fp16; a scaler that starts too high causes about 16


class Learner:
    """A network, its averaged weights and its optimizer, and how a training state saves and restores them.

    Args:
        network: the arguments of `build`.
        global_batch: images of an optimizer step.
        build: makes the network, a diffusers ModelMixin.
        class_names: what the classes of a class-conditional network are called.
    Attributes:
        model: the network as Accelerate has prepared it, which the loop calls.
        unet: the same network without the wrappers of Accelerate and torch.compile. Its weights are saved.
        optimizer: AdamW, as Accelerate has prepared it.
        scheduler: the DDPMScheduler of the training.
        step: optimizer steps done.
        skipped: how many of them overflowed in fp16. They advance neither the learning rate nor the average.
        skipped_in_a_row: how many overflowed since the last step that did not.
        grad_norm: () the norm of the last step's gradient, before clipping.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        network: dict[str, Any],
        global_batch: int,
        build: Callable[..., nn.Module],
        class_names: Sequence[str] = (),
    ) -> None:
        self.class_names = class_names
        self.config, self.accelerator = config, accelerator
        device = accelerator.device
        torch.manual_seed(draws.torch_seed(config.seed, Purpose.WEIGHTS))
        self.unet = build(**network)
        keep_input_precision(self.unet)
        self.unet.to(memory_format=memory_format(device))  # pyright: ignore[reportCallIssue]  torch's stubs lack it
        self.scheduler: Any = make_scheduler(config)  # diffusers' stubs ask for a legacy IntTensor of timesteps
        self.ema = make_ema(self.unet, config.ema_half_life_images, config.ema_ramp_up, global_batch, device)
        # A copy to validate the raw weights in float32: `prepare` ties autocast to the network itself.
        self._raw = copy.deepcopy(self.unet).to(device).eval()
        optimizer = torch.optim.AdamW(
            self.unet.parameters(),
            lr=config.learning_rate,
            betas=(0.9, config.adam_beta2),
            weight_decay=config.weight_decay,
            fused=config.mixed_precision != "fp16",  # a fused step hides from Accelerate that the scaler skipped it
        )
        called = compiled(self.unet, device) if config.compile else self.unet
        self.model, self.optimizer = accelerator.prepare(called, optimizer)
        self._parameters = list(self.unet.parameters())  # found once, not at every step
        self.step = self.skipped = self.skipped_in_a_row = 0
        self.grad_norm: Any = torch.zeros(())

    # ----------------------------------------------------------------------------------------------- one optimizer step

    def set_learning_rate(self, step: int) -> None:
        """The learning rate of an optimizer step (0-based)."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step - self.skipped)

    def clip_gradients(self) -> None:
        """Scale the gradient down to a norm of at most `max_grad_norm`, once it includes all micro-batches."""
        if self.accelerator.sync_gradients:
            self.grad_norm = self.accelerator.clip_grad_norm_(self._parameters, self.config.max_grad_norm)

    def average(self) -> None:
        """Count an optimizer step, and include the new weights in the average unless the step overflowed in fp16.

        Raises:
            NonFiniteError: the gradients of MAX_SKIPPED steps in a row overflowed in fp16.
        """
        self.step += 1
        if not self.accelerator.optimizer_step_was_skipped:
            self.skipped_in_a_row = 0
            if self.ema:
                self.ema.update_parameters(self.unet)
            return
        # The gradients overflowed in fp16: the scaler lowers its scale.
        self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1
        if self.skipped_in_a_row == MAX_SKIPPED:
            raise NonFiniteError(f"{MAX_SKIPPED} steps in a row overflowed in fp16, up to step {self.step}")

    # ------------------------------------------------------------------------------------------------ weights and state

    def raw_weights(self) -> Weights:
        """A copy of the network in float32 with its present weights, not averaged."""
        self._raw.load_state_dict(self.unet.state_dict())
        return separated(self._raw, self.class_names)

    def best_weights(self) -> Weights:
        """The network that is sampled and exported: averaged weights, or the raw ones where there is no average."""
        return separated(self.ema.module, self.class_names) if self.ema else self.raw_weights()

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a training state, which `restore` reads."""
        tensors = state.flatten("unet", self.unet.state_dict())
        tensors |= state.flatten("optimizer", state.optimizer_tensors(self.optimizer.optimizer))
        tensors |= state.flatten("ema", self.ema.state_dict()) if self.ema else {}
        return tensors

    def meta(self) -> dict[str, Any]:
        """The part of a training state that is JSON."""
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
        return {"step": self.step, "skipped": self.skipped, "scaler": scaler}

    def restore(self, saved: state.State) -> None:
        """Continue from a training state."""
        self.unet.load_state_dict(saved.part("unet"))
        state.load_optimizer(self.optimizer.optimizer, saved.part("optimizer"))
        if self.ema:
            self.ema.load_state_dict(saved.part("ema"))
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved.meta["scaler"])
        self.step, self.skipped = saved.meta["step"], saved.meta["skipped"]

    def close(self) -> None:
        """Release the network before the process group ends.

        If the model of DistributedDataParallel holds the group last, its destructor waits for Gloo's thread while it
        holds the GIL, and that thread waits for the GIL: a deadlock (seen with torch 2.13).
        """
        self.model, self.optimizer = self.accelerator.free_memory(self.model, self.optimizer)
