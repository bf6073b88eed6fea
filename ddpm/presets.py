"""The presets of train.py: options that go together, and the held-out loss that they reach. It loads nothing heavy."""

from __future__ import annotations

from typing import Any

_MNIST = {
    "dataset_name": "ylecun/mnist",
    "block_out_channels": (24, 48, 96),
    "train_batch_size": 64,
    "max_train_steps": 14_000,
    "learning_rate": 2e-3,
    "lr_warmup_steps": 200,
    "ema_half_life_images": 50_000,
    "mixed_precision": "bf16",
    "validation_steps": 1000,
    "checkpointing_steps": 500,
}

# Google's pictures of emoji, 64x64 with transparency, and how to get them.
EMOJI_FOLDER = "package/img/google/64"
GET_EMOJI = (
    "npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz package/emoji.json "
    f"{EMOJI_FOLDER}"
)

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"dataset_name": "digits"},  # TrainConfig's own defaults
    "mnist": _MNIST,
    # Without a label it is a little worse than mnist after as many steps, so mnist itself stays without labels.
    "mnist_labels": {**_MNIST, "class_conditional": True, "label_dropout": 0.2},
    # Trained for the bound, with a network that is wide at full resolution. Under this schedule every w_t of Eq. 12 is
    # the same: with a small variance, w = (exp(16 / 999) - 1) / 2 = 0.00807. So L_simple is the sum of the KL terms in
    # nats per dimension, divided by T w. With vlb_weight = ln(2) / (T w), L_0 is divided by the same number.
    "mnist_bound": {
        **_MNIST,
        "block_out_channels": (48, 64, 64),
        "train_batch_size": 256,
        "max_train_steps": 2000,
        "learning_rate": 3e-3,
        "ema_half_life_images": 200_000,
        "validation_steps": 250,
        "checkpointing_steps": 100,
        "beta_schedule": "log_snr",
        "log_snr_max": 10.0,
        "log_snr_min": -6.0,
        "variance_type": "learned_range",
        "vlb_weight": 0.0859,
        "first_timestep_share": 0.0625,
        "mixed_precision": "no",
    },
    "fashion_mnist": {**_MNIST, "dataset_name": "zalando-datasets/fashion_mnist"},
    # There are few pictures for so many subjects: dropout keeps the network from memorising them.
    "emoji": {
        "dataset_name": EMOJI_FOLDER,
        "resolution": 32,
        "channels": 3,
        "block_out_channels": (32, 48, 96, 96),
        "attention_levels": (2,),
        "dropout": 0.1,
        "class_conditional": True,
        "label_dropout": 0.2,
        "train_batch_size": 64,
        "max_train_steps": 8000,
        "learning_rate": 2e-3,
        "lr_warmup_steps": 200,
        "ema_half_life_images": 50_000,
        "validation_steps": 500,
        "checkpointing_steps": 250,
    },
    # The network and settings of section 4 and appendix B: 35.7 M parameters.
    "cifar10": {
        "dataset_name": "uoft-cs/cifar10",
        "random_flip": True,
        "block_out_channels": (128, 256, 256, 256),
        "layers_per_block": 2,
        "attention_levels": (1,),
        "norm_num_groups": 32,
        "dropout": 0.1,
        "variance_type": "fixed_large",
        "train_batch_size": 128,
        "max_train_steps": 800_000,
        "learning_rate": 2e-4,
        "lr_warmup_steps": 5000,
        "lr_schedule": "constant",
        "adam_beta2": 0.999,
        "ema_half_life_images": 887_000,  # a decay of 0.9999 a step of 128
        "mixed_precision": "bf16",
        "compile": False,
        "logging_steps": 100,
        "validation_steps": 10_000,
        "checkpointing_steps": 5000,
        "num_samples": 64,
    },
}


# The first digits of the fingerprints of public datasets, by name.
FINGERPRINTS = {"digits": "b41ca9fd33", "ylecun/mnist": "a413357c81"}
# By preset: the held-out loss of the averaged weights at the end of its training.
REFERENCE_VAL_LOSS = {"digits": 0.0772, "mnist": 0.0218}


def public_dataset(preset: str, fingerprint: str) -> str | None:
    """The name of a preset's own dataset, if these are its images, read from wherever; else None."""
    name = PRESETS[preset]["dataset_name"]
    start = FINGERPRINTS.get(name)
    return name if start and fingerprint.startswith(start) else None


def reference_val_loss(preset: str, fingerprint: str) -> float | None:
    """Held-out loss that a preset reaches on its own dataset; None if `fingerprint` is that of another dataset."""
    return REFERENCE_VAL_LOSS.get(preset) if public_dataset(preset, fingerprint) else None
