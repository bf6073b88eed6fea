"""Train a denoising diffusion model: Algorithm 1 of Ho et al. 2020 (arXiv 2006.11239) under Accelerate.

    accelerate launch train.py                     scikit-learn's digits, a few minutes on a laptop
    accelerate launch train.py --preset mnist      see --help for every option

Read `train` from top to bottom. It is a generator: the command line below consumes it, and other programs can, too.
"""

from __future__ import annotations

import sys

from ddpm.output import end_at_once, keep_going

if __name__ == "__main__":
    keep_going()  # also if nobody reads what is printed
    end_at_once()

from ddpm.config import TrainConfig, parse

if __name__ == "__main__":
    CONFIG = parse(sys.argv[1:])  # before torch is loaded, so that --help and usage errors appear at once

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ddpm.processes import make_accelerator, on_main
from ddpm.training import state, terminal, trackers
from ddpm.training.batches import Batches, prepared
from ddpm.training.folder import RunFolder
from ddpm.training.graphed import graphed
from ddpm.training.initial import start_from
from ddpm.training.learner import Learner
from ddpm.training.recipe import Noising, make_objective, network_options, target_of
from ddpm.training.recorder import Progress, Recorder, finished_before
from ddpm.unet import build_unet


def train(
    config: TrainConfig,
    should_stop: Callable[[], bool] = lambda: False,
    build: Callable[..., nn.Module] = build_unet,
    accelerator: Accelerator | None = None,
) -> Iterator[Progress]:
    """Train, fill `config.directory` with the files that the README lists, and yield after every optimizer step.

    Args:
        should_stop: is called between steps; once it returns true, the state is saved and training ends.
        build: makes the network, a diffusers ModelMixin, from the arguments of `build_unet`.
        accelerator: None calls `make_accelerator`.
    Raises:
        ValueError: training is impossible with these options or images; the message is one line.
        NonFiniteError: the loss or the gradient is NaN or infinite; the states that are saved already are good.
    """
    deadline = time.monotonic() + 60 * (config.max_train_minutes or math.inf)
    accelerator = accelerator or make_accelerator(config)
    config, initial = start_from(config, accelerator)  # --init_from
    folder = RunFolder(config)
    on_main(accelerator, folder.check)  # refused before the images are prepared
    images = prepared(config, accelerator)
    batches = Batches(config, images, accelerator)
    network = network_options(config, images)
    if initial:
        build = initial.loaded(build, images.class_names, accelerator.is_main_process)
    learner = Learner(config, accelerator, network, batches.global_size, build, images.class_names)
    given = images.fingerprint, batches.labels_fingerprint
    find = partial(state.find, config, given, batches.slots, accelerator.device.type)
    saved = on_main(accelerator, find)
    if saved:
        learner.restore(saved)
        batches.sampler.restore(saved.part("timesteps"))
    if saved and learner.step >= config.max_train_steps:
        yield finished_before(config, accelerator, folder, learner, saved, images, should_stop)
        end(accelerator, learner)
        return
    recorder = Recorder(config, accelerator, folder, learner, batches, images, network, saved, should_stop, deadline)
    model, optimizer, scheduler = learner.model, learner.optimizer, learner.scheduler
    q_sample = Noising.of(scheduler, accelerator.device)
    target, objective = target_of(config, q_sample), make_objective(config, scheduler, accelerator.device)

    def learn_from(x0: Tensor, t: Tensor, eps: Tensor, weight: Tensor, *label: Tensor) -> tuple[Tensor, ...]:
        xt = q_sample(x0, eps, t)  # Eq. 4, float32
        with accelerator.autocast():
            output = learner.model(xt, t, *label).sample
        eps_hat, v = objective.split(output.float())  # v is None unless the variance is learned
        error = F.mse_loss(eps_hat, target(x0, eps, t), reduction="none").mean(dim=(1, 2, 3))  # one per image
        loss = objective(error, eps_hat, v, x0, eps, t)  # Eq. 14: L_simple is the error itself
        accelerator.backward((weight * loss).mean())  # the weight is 1 where every t is drawn equally often
        return error.detach(), loss.detach()

    learn = graphed(learn_from, config, accelerator, learner.unet.parameters())  # on a GPU, all kernels at once
    model.train()
    for step in range(learner.step, config.max_train_steps):
        recorder.start_clock()
        learner.set_learning_rate(step)
        errors, losses = [], []
        for x0, t, eps, weight, label in batches.of(step):  # Algorithm 1, lines 2 to 4; label is empty unless learned
            with accelerator.accumulate(model):
                error, loss = learn(x0, t, eps, weight, *label)
                learner.clip_gradients()
                optimizer.step()
                optimizer.zero_grad()
            errors.append(error)
            losses.append(loss)
        learner.average()
        batches.sampler.learn_from(batches.timesteps, losses)
        progress = recorder.record(errors)  # rows, pictures, the model, and last of all the state
        yield progress
        if progress.stopped:
            break
    del model, optimizer
    end(accelerator, learner)


def end(accelerator: Accelerator, learner: Learner) -> None:
    """Let the processes end together."""
    accelerator.wait_for_everyone()
    learner.close()
    trackers.finish(accelerator)
    accelerator.end_training()


def main(config: TrainConfig) -> int:
    """Consume `train` with a progress bar, react to signals, and return the exit status that the README lists."""
    return terminal.run(config, train)


if __name__ == "__main__":
    sys.exit(main(CONFIG))  # pyright: ignore[reportPossiblyUnbound]  set in the first lines
