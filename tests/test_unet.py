"""The network that options make, and options that make none."""

import pytest
import torch

from ddpm.checks import check_network
from ddpm.unet import build_unet


@pytest.mark.parametrize(
    ("resolution", "channels", "message"),
    [
        (28, (8, 8, 8, 8), "28 cannot be halved 3 times: take --resolution 24 or 32, or at most 3 widths"),
        (2, (8, 8, 8), "2 cannot be halved twice: take --resolution 4, or at most 2"),
        (8, (8, 12), r"\[12\]: not divisible by norm_num_groups 8"),
    ],
)
def test_networks_that_cannot_be_computed(resolution, channels, message):
    with pytest.raises(ValueError, match=message):
        check_network((resolution, resolution), channels, (), 8)
    with pytest.raises(ValueError, match=message):
        build_unet(resolution, 1, channels)


def test_an_untrained_network_predicts_no_noise():
    unet = build_unet(28, 3, (8, 16, 16), attention_levels=(1,))
    x = torch.randn(2, 3, 28, 28)
    assert torch.equal(unet(x, torch.tensor([0, 999])).sample, torch.zeros_like(x))
