"""Nothing leaves the machine, nothing is left in the user's cache, and torch does not fight over two cores."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def data_cache(tmp_path_factory):
    """Prepared images, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["DDPM_CACHE"] = str(folder)
    return folder
