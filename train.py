"""Train a denoising diffusion model: Algorithm 1 of Ho et al. 2020 (arXiv 2006.11239) under Accelerate.

    accelerate launch train.py                     scikit-learn's digits, a few minutes on a laptop
    accelerate launch train.py --preset mnist      see --help for every option

Read `train` from top to bottom: it is a generator that the command line below consumes, and anyone else may.
"""

from __future__ import annotations

import sys

from ddpm.config import TrainConfig, parse

if __name__ == "__main__":
    CONFIG = parse(sys.argv[1:])  # before torch is loaded: --help and wrong usage answer at once

import copy
import dataclasses
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ddpm import data, draws
from ddpm.draws import Purpose
from ddpm.hub.background import Pusher
from ddpm.processes import agree, make_accelerator, memory_format, on_main, plain_logging
from ddpm.schedule import NoiseSchedule
from ddpm.training import state
from ddpm.training.ema import make_ema
from ddpm.training.folder import Run, find_state, sample_tiles
from ddpm.training.window import LossWindow, NonFiniteError
from ddpm.unet import build_unet
from ddpm.validation import Validation

log = logging.getLogger("train")

MAX_SKIPPED = 50  # optimizer steps in a row that fp16 may lose; a scaler that starts too high needs about 16


@dataclass(frozen=True)
class Progress:
    """What `train` yields after every optimizer step: rows new in metrics.jsonl, why it ends, if it does, and, in the
    main process, the step whose state was saved last."""

    step: int
    rows: tuple[dict[str, Any], ...] = ()
    stopped: str | None = None
    saved_step: int | None = None


def learning_rate(config: TrainConfig, step: int) -> float:
    """A pure function of the optimizer step (0-based): linear warm-up, then constant or half a cosine down to 0."""
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / config.lr_warmup_steps
    if config.lr_schedule == "constant":
        return config.learning_rate
    progress = (step - config.lr_warmup_steps) / max(1, config.max_train_steps - config.lr_warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_scheduler(config: TrainConfig) -> DDPMScheduler:
    """The training scheduler. Linear betas are scaled by 1000 / T, so that alpha_bar_T stays near 0 for any T."""
    scale = 1.0 if config.beta_schedule == "squaredcos_cap_v2" else 1000 / config.num_train_timesteps
    return DDPMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_start=1e-4 * scale,
        beta_end=0.02 * scale,
        beta_schedule=config.beta_schedule,
        prediction_type=config.prediction_type,
        variance_type=config.variance_type,
        timestep_spacing="trailing",  # for those who sample with few steps: "leading" would start at t = 980
    )


def target_of(config: TrainConfig, scheduler: DDPMScheduler, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What the network is to predict: the noise, unless a comparison asks for x_0 or v."""
    if config.prediction_type == "sample":
        return x0
    if config.prediction_type == "v_prediction":
        return scheduler.get_velocity(x0, eps, t)
    return eps


def loss_weights(config: TrainConfig, scheduler: DDPMScheduler, device: torch.device) -> Tensor | None:
    """(T,) float32 factors of the loss by timestep, 1 on average; None for L_simple, which has none."""
    if config.loss_weighting == "simple":
        return None
    weight = NoiseSchedule.from_scheduler(scheduler).kl_weight  # at t = 0 the weight that L_0 would have as a KL term
    return (weight / weight.mean()).float().to(device)


def train(
    config: TrainConfig, should_stop: Callable[[], bool] = lambda: False, build: Callable[..., nn.Module] = build_unet
) -> Iterator[Progress]:
    """Train, writing `config.directory` as the README describes it, and yield after every optimizer step.

    Args:
        should_stop: polled between steps; once true, the state is saved and training ends.
        build: makes the network from what `build_unet` takes; another architecture is a diffusers ModelMixin too.
    Raises:
        ValueError: options or data that cannot be trained with, in one line.
        NonFiniteError: loss or gradient is NaN or infinite; the states saved so far are good.
    """
    # ----------------------------------------------------------------------------------------- data, network, optimizer
    deadline = time.monotonic() + 60 * (config.max_train_minutes or math.inf)
    accelerator = make_accelerator(config)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    options = data.DataOptions(**{name: getattr(config, name) for name in data.DataOptions.__dataclass_fields__})
    images = data.prepare(options, progress=accelerator.is_main_process)
    batch_size, slots = config.train_batch_size, config.gradient_accumulation_steps * world
    global_batch = batch_size * slots
    if len(images.train) < global_batch:
        raise ValueError(
            f"{len(images.train)} training images are too few for a step of {global_batch}: "
            f"pass --train_batch_size {max(1, len(images.train) // slots)} or less"
        )
    torch.manual_seed(draws.torch_seed(config.seed, Purpose.WEIGHTS))
    network = {"resolution": images.resolution, "channels": images.channels}
    for name in ("block_out_channels", "layers_per_block", "attention_levels", "norm_num_groups", "dropout"):
        network[name] = getattr(config, name)
    unet, scheduler = build(**network).to(memory_format=memory_format(device)), make_scheduler(config)
    pixels = data.resident(images.train, device)
    weights = loss_weights(config, scheduler, device)
    ema = make_ema(unet, config.ema_half_life_images, config.ema_ramp_up, global_batch, device)
    raw = copy.deepcopy(unet).to(device).eval()  # to validate raw weights in float32: prepare() ties autocast to `unet`
    optimizer = torch.optim.AdamW(
        unet.parameters(),
        lr=config.learning_rate,
        betas=(0.9, config.adam_beta2),
        weight_decay=config.weight_decay,
        fused=config.mixed_precision != "fp16",  # a fused step hides from Accelerate that the scaler skipped it
    )
    model, optimizer = accelerator.prepare(torch.compile(unet) if config.compile else unet, optimizer)
    validation = Validation(images.eval, scheduler, config.num_validation_images, rank=rank, world=world)

    # -------------------------------------------------------------------------------------------------- resume, report
    saved = on_main(accelerator, lambda: find_state(config, images.fingerprint, slots, device.type))
    first_step, skipped = (saved.meta["step"], saved.meta["skipped"]) if saved else (0, 0)
    if saved:
        unet.load_state_dict(saved.part("unet"))
        state.load_optimizer(optimizer.optimizer, saved.part("optimizer"))
        if ema:
            ema.load_state_dict(saved.part("ema"))
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(saved.meta["scaler"])
    if first_step >= config.max_train_steps:
        yield Progress(first_step, stopped="finished before, nothing changed")
        return
    window = LossWindow(accelerator.gather, world, config.num_train_timesteps, saved and saved.part("window"))
    run = Run(config, accelerator, scheduler, images, network, saved) if accelerator.is_main_process else None

    def best_weights():
        """The network that is sampled and exported: averaged weights, or the raw ones where there is no average."""
        raw.load_state_dict(unet.state_dict())
        return ema.module if ema else raw

    def save(step: int) -> None:
        window.fold()  # in every process; what is not finite is never saved
        if run:
            tensors = state.flatten("unet", unet.state_dict()) | state.flatten("window", window.tensors())
            tensors |= state.flatten("optimizer", state.optimizer_tensors(optimizer.optimizer))
            tensors |= state.flatten("ema", ema.state_dict()) if ema else {}
            scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
            run.save(
                step,
                tensors,
                {"skipped": skipped, "slots": slots, "device": device.type, "scaler": scaler},
                best_weights(),
            )

    def validate(step: int) -> dict[str, Any]:
        """Validation losses and a grid of samples; the processes share the work."""
        best = best_weights()
        errors = torch.stack([validation.squared_error(net, device) for net in (raw, best)]).to(device, torch.float32)
        losses = (accelerator.reduce(errors, "sum") / validation.count).tolist()
        row = {"kind": "validation", "step": step, "images": step * global_batch}
        row |= {"val_loss": losses[0], "val_loss_ema": losses[1]}
        tiles = gather_object([sample_tiles(best, scheduler, images.train.shape[1:], config, rank, world, device)])
        if run:
            run.add(row)
            run.samples(step, torch.cat(tiles))
        return row

    # ------------------------------------------------------------------------------------------------------ Algorithm 1
    model.train()
    parameters = list(unet.parameters())  # found once, not at every step
    busy, timed_from, skipped_in_a_row = 0.0, first_step, 0
    for step in range(first_step, config.max_train_steps):
        began = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step - skipped)
        global_t = draws.timesteps(config.seed, step, global_batch, config.num_train_timesteps)
        losses = []
        for micro in range(config.gradient_accumulation_steps):
            slot = micro * world + rank
            mine = slice(slot * batch_size, (slot + 1) * batch_size)
            index = draws.image_indices(config.seed, len(images.train), step * global_batch + mine.start, batch_size)
            x0 = data.to_float(data.take(pixels, index), device)
            if config.random_flip:
                flip = torch.from_numpy(draws.flips(config.seed, step, slot, batch_size)).to(device, non_blocking=True)
                x0 = torch.where(flip[:, None, None, None], x0.flip(-1), x0)
            t = torch.from_numpy(global_t[mine]).to(device, non_blocking=True)  # waiting would cost every step
            eps = draws.noise(config.seed, step, slot, x0.shape, device)
            if config.dropout:
                torch.manual_seed(draws.torch_seed(config.seed, Purpose.DROPOUT, step, slot))

            with accelerator.accumulate(model):
                xt = scheduler.add_noise(x0, eps, t)  # Eq. 4, float32
                with accelerator.autocast():
                    eps_hat = model(xt, t).sample
                target = target_of(config, scheduler, x0, eps, t)  # eps
                loss = F.mse_loss(eps_hat.float(), target, reduction="none").mean(dim=(1, 2, 3))  # Eq. 14, L_simple
                objective = loss if weights is None else weights[t] * loss
                accelerator.backward(objective.mean())
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach())

        if accelerator.optimizer_step_was_skipped:  # fp16: gradients overflowed, the scaler lowers its scale
            skipped, skipped_in_a_row = skipped + 1, skipped_in_a_row + 1
            if skipped_in_a_row == MAX_SKIPPED:
                raise NonFiniteError(f"{MAX_SKIPPED} steps in a row overflowed in fp16, up to step {step + 1}")
        else:
            skipped_in_a_row = 0
            window.add(step, global_t, losses, norm)
            if ema:
                ema.update_parameters(unet)

        # ------------------------------------------------------------------------------------------- report, save, stop
        done, rows = step + 1, []
        wish = "interrupted" if should_stop() else "time" if time.monotonic() > deadline else None
        stopped = "finished" if done == config.max_train_steps else agree(accelerator, wish, done)
        ends = stopped in ("finished", "time")
        on_cadence = done % config.logging_steps == 0
        if on_cadence or ends:
            # A row off the cadence marks an end; a run that goes on from here drops it, so its window stays.
            row = {"kind": "train", "step": done, "images": done * global_batch, **window.means(clear=on_cadence)}
            busy += time.monotonic() - began
            row |= {"lr": learning_rate(config, step - skipped)}
            row |= {"images_per_second": round((done - timed_from) * global_batch / busy, 1)}
            busy, timed_from = 0.0, done
            rows.append(row)
            if run:
                run.add(row)
        else:
            busy += time.monotonic() - began
        if done % config.validation_steps == 0 or ends:
            rows.append(validate(done))
        if run and ends:
            run.finish(best_weights())
        if done % config.checkpointing_steps == 0 or stopped:  # last of all: a state says that all before it was done
            save(done)
        yield Progress(done, tuple(rows), stopped, run.saved_step if run else None)
        if stopped:
            break
    accelerator.wait_for_everyone()
    # Before the process group ends: if the DDP model is the last to hold it, it waits for Gloo's thread with Python's
    # lock in hand, and that thread for the lock (torch 2.13, in several of our runs).
    model, optimizer = accelerator.free_memory(model, optimizer)
    accelerator.end_training()


def main(config: TrainConfig) -> int:
    """The command line: a progress bar over `train`, signals, exit status as the README lists them."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    plain_logging()
    is_main = os.environ.get("RANK", "0") == "0"
    received: list[int] = []
    # A signal to `accelerate launch` ends the launcher and never reaches this process: seen by its parent changing.
    launcher = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None
    progress, pusher, whole = None, None, False

    def on_signal(number: int, frame) -> None:
        if received or progress is None:  # asked twice, or nothing to save yet
            raise SystemExit(128 + number)
        received.append(number)

    def should_stop() -> bool:
        return bool(received) or launcher not in (None, os.getppid())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        if config.push_to_hub and is_main:
            pusher = Pusher(config.directory, config.hub_model_id, config.hub_private_repo)
            config = dataclasses.replace(config, hub_model_id=pusher.repo_id)
        with (
            tqdm(total=config.max_train_steps, unit=" steps", disable=not is_main, dynamic_ncols=True) as bar,
            logging_redirect_tqdm(),
        ):
            for progress in train(config, should_stop):
                if not bar.n:  # a resumed run did not take its earlier steps just now
                    bar.initial = bar.n = progress.step - 1
                bar.update(progress.step - bar.n)
                for row in progress.rows:
                    if row["kind"] == "train" and row["loss"] is not None:
                        bar.set_postfix_str(
                            f"loss {row['loss']:.4f}, {row['images_per_second']:.0f} images/s", refresh=False
                        )
                    elif row["kind"] == "validation" and is_main:
                        bar.write(f"step {row['step']}: val_loss {row['val_loss']:.4f}, EMA {row['val_loss_ema']:.4f}")
                if pusher and progress.saved_step == progress.step and not progress.stopped:
                    pusher.submit(progress.step)
        whole = progress.stopped != "interrupted"
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        return failed(error, 1, is_main)
    except NonFiniteError as error:
        rate = learning_rate(config, progress.step if progress else 0)
        saved = max((config.directory / "checkpoints").glob("step-*"), default="none", key=lambda p: p.name)
        return failed(f"{error}; learning rate {rate:.2g}; last good state: {saved}", 3, is_main)
    finally:
        if pusher and not whole:
            pusher.abandon()
    if progress.stopped == "interrupted":
        if is_main and progress.saved_step == progress.step:
            log.info("Stopped at step %d, state saved; the same command goes on from there", progress.step)
        elif is_main:
            log.warning(
                "Stopped at step %d, but the last state saved is of step %s", progress.step, progress.saved_step
            )
        return 128 + (received[0] if received else signal.SIGTERM)
    if is_main:
        reason = "the time limit is reached" if progress.stopped == "time" else progress.stopped
        log.info("%s: step %d, in %s", reason, progress.step, config.directory)
    if pusher:
        pusher.finish(progress.saved_step or progress.step, should_stop)
    return 0


def failed(error: Exception | str, status: int, say: bool) -> int:
    """One line on stderr for what a user can cause and mend."""
    if say:
        print(f"train.py: error: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(CONFIG))
