"""variance.json of a network that predicts the variance, on its way to the Hub and back."""

import json

import pytest
from hub_tools import commits, files_of, up
from untrained import make_model

from ddpm import checkpoint
from ddpm.unet import build_unet


@pytest.fixture
def learned(model):
    """A copy of the folder of a finished training, with such a model in it."""
    return make_model(model, 8, 1, 100 + len(str(model)), lowest_log_variance=-12.5)


@pytest.mark.slow
def test_a_push_carries_the_file_and_a_pull_brings_it(client, hub, learned, name, tmp_path):
    client.value("push", directory=str(learned), repo_id=name)
    assert json.loads(up(hub, name)["variance.json"]) == {"lowest_log_variance": -12.5}
    settings = {"cache": str(tmp_path / "cache")}
    pulled = client.value("pull", settings, id_or_dir=name)
    assert pulled["lowest_log_variance"] == -12.5
    assert client.value("plain", settings, model=name) == pulled["weights"], "a plain DDPMPipeline"


def test_a_push_of_a_model_with_a_fixed_variance_deletes_it(lfs, hub, learned, name):
    lfs.value("push", directory=str(learned), repo_id=name)
    checkpoint.save(learned, build_unet(8, 1, (8, 16)), {"num_train_timesteps": 50, "beta_schedule": "linear"})
    lfs.value("push", directory=str(learned), repo_id=name)
    assert "variance.json" not in up(hub, name)
    assert commits(hub, name) == 2
    assert lfs.value("pull", id_or_dir=name)["lowest_log_variance"] is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "variance.json is not readable as JSON"),
        (b'{"lowest_log_variance": 3}', "lowest_log_variance 3: a number from -60 to log beta_1"),
        (b" " * (9 << 20), "variance.json has 9 MiB, more than"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_before_the_weights_come(
    lfs, hub, learned, name, tmp_path, content, words
):
    hub.put(name, files_of(learned) | {"variance.json": content})
    assert words in lfs.error("pull", {"cache": str(tmp_path / "cache")}, id_or_dir=name)
    assert not [path for path in (tmp_path / "cache").rglob("*.safetensors") if path.is_file()]
