"""Labels that samples are asked for, and what a classifier says about them; the bound as a classifier."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ddpm.class_names import NO_LABEL
from ddpm.data import to_float
from ddpm.draws import Purpose, generator
from ddpm.elbo import POSTERIOR_TIMESTEPS, class_posterior_steps
from ddpm.evaluate import quality
from ddpm.evaluate.bound import shuffled, with_variance_type
from ddpm.evaluate.subject import Subject
from ddpm.processes import on_main
from ddpm.schedule import Errors

log = logging.getLogger("evaluate")


class Judge:
    """The tool's own classifier of the images, which answers with the numbers that the model knows the classes by.

    Args:
        network: the classifier, whose classes are those of `images`, in order.
        numbers: (K,), see `Subject.numbers`.
    """

    def __init__(self, network: quality.Classifier, numbers: np.ndarray, device: torch.device | str) -> None:
        self.network, self.numbers, self.device = network, numbers, device

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(N,) int64 for (N, C, H, W) uint8 images; -1 for a class that the model does not know."""
        return self.numbers[quality.classified(self.network, pixels, self.device).argmax(1).numpy()]


def load_judge(subject: Subject, features: quality.Features | None, accelerator: Accelerator) -> Judge | None:
    """The classifier that says which class a picture shows, in the main process; None in the others, and where nobody
    asks: without samples and without --classify, or for a model or images without labels.

    Raises:
        ValueError: the images have only one label, or too many.
    """
    judge = None

    def load() -> None:
        nonlocal judge
        network = features.classifier if features else None
        if network is None:
            network, _ = quality.train_classifier(subject.images, accelerator.device)
        judge = Judge(network, subject.numbers, accelerator.device)

    compared = subject.config.num_samples and subject.config.feature_network != "none"
    wanted = compared or subject.config.classify
    if wanted and subject.model.classes and subject.images.classes:
        try:
            on_main(accelerator, load)
        except ValueError:
            if compared:
                raise
            log.info("No classifier is trained for comparison: the images have one label only, or too many")
    return judge


def asked_labels(subject: Subject) -> np.ndarray:
    """(num_samples,) int64: the number of the class that each sample is asked for, the same at every guidance scale.

    Every class gets its share of the training images, rounded: so samples can be compared with all of them. Classes
    that the model does not know are left out. Without any, the model's own classes take turns.
    """
    count, images = subject.config.num_samples, subject.images
    if not images.classes:
        return np.arange(count) % len(subject.model.classes or [NO_LABEL])
    place = images.class_of(images.train_labels, len(images.train))
    known = np.sort(subject.numbers[place[place >= 0]])
    known = known[known >= 0]
    evenly = known[((np.arange(count) + 0.5) / count * len(known)).astype(int)]
    return generator(subject.config.seed, Purpose.EVALUATION, slot=3).permutation(evenly)


def most_evaluations(subject: Subject) -> int:
    """How often the network is evaluated to find the label of one image, if no label turns out to be hopeless."""
    return min(POSTERIOR_TIMESTEPS, subject.model.schedule.num_steps) * (len(subject.model.classes or ()) + 1)


def measure_classifier(
    subject: Subject, errors: Errors | None, judge: Judge | None, accelerator: Accelerator, bar
) -> dict[str, Any]:
    """The part of the report about the bound as a classifier (see `class_posterior`). The processes share the images.
    The bound is that of all T timesteps, with the variance and the clipping that the options ask for.

    Args:
        errors: of the network, for the optimal variance.
        judge: in the main process, for comparison.
        bar: progress bar, which counts calls of the network per image.
    """
    config, model, images = subject.config, subject.model, subject.images
    assert model.classes
    engine, K = subject.engine(accelerator.device), len(model.classes)
    engine.settle(min(config.batch_size, K + 1))
    schedule = with_variance_type(model.schedule, config.variance_type, errors)
    asked: dict[str, Any] = {"batch_size": config.batch_size, "clip_denoised": config.clip_denoised}
    chosen = shuffled(config.seed, len(images.eval))
    chosen = chosen[subject.held_out_classes[chosen] >= 0][: subject.images_to_classify]
    truth = subject.held_out_classes[chosen]
    found: list[tuple[int, list[tuple[int, int, int]]]] = []  # number of the image; timesteps, evaluations, best label
    for number in range(accelerator.process_index, len(chosen), accelerator.num_processes):
        index = int(chosen[number])
        draw = generator(config.seed, Purpose.EVALUATION, index, slot=4)
        x0, steps = to_float(images.eval[index : index + 1])[0], []
        for state in class_posterior_steps(engine, schedule, x0, K, draw=draw, **asked):
            bar.update(state.evaluations - (steps[-1][1] if steps else 0))
            steps.append((state.timesteps, state.evaluations, int(state.probabilities.argmax())))
        bar.total -= most_evaluations(subject) - steps[-1][1]
        found.append((number, steps))
    found = sorted(gather_object(found))
    timesteps, evaluations, labels = np.array([steps for _, steps in found]).transpose(2, 1, 0)
    right = labels == truth
    figures = {
        "classifier_accuracy": float(right[-1].mean()),
        "classify_images": len(chosen),
        "classify_timesteps": int(timesteps[-1, 0]),
        "classify_network_evaluations": int(evaluations[-1].sum()),
        "classify_by_timesteps": [
            {"timesteps": int(t), "accuracy": float(r.mean()), "network_evaluations": int(e.sum())}
            for t, r, e in zip(timesteps[:, 0], right, evaluations, strict=True)
        ],
    }
    if judge:
        figures["other_classifier_accuracy"] = float(np.mean(judge(images.eval[chosen]) == truth))
    return figures
