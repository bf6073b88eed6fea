"""A training that is killed by -9, at any moment, goes on to the same bits. Pushes: tests/hub/test_killed_pushes.py."""

import signal

import pytest
from launch import launch
from tiny import assert_same_run, command

# A function, its how-manieth call, and after how many further calls of any function the process is killed. A remark
# names what the moments below it are in, or what lies on the disk then.
MOMENTS = [
    "ddpm.data.preparing:prepare:1:100",  # preparing
    "ddpm.data.preparing:prepare:1:20000",
    "ddpm.training.folder:RunFolder.begin:1:100",
    "ddpm.metrics:MetricsLog.__init__:1:20",  # train_config.json is there, and no metrics.jsonl
    "ddpm.training.learner:Learner.set_learning_rate:2:400",  # training
    "ddpm.training.learner:Learner.set_learning_rate:8:7000",
    "ddpm.metrics:MetricsLog.append:1:1",
    "ddpm.metrics:MetricsLog.append:2:60",
    "ddpm.validation:Validation.squared_errors:2:7000",  # validating
    "ddpm.sampling:sample:1:1500",  # sampling
    "ddpm.sampling:sample:2:15000",
    "ddpm.checkpoint:save:1:25000",  # saving
    "ddpm.training.state:save:1:5",  # the first model is there, and no state
    "ddpm.training.state:save:2:30",
    "ddpm.training.state:save:3:40000",
    "ddpm.checkpoint:save:4:30000",
    "ddpm.training.state:save:4:5",  # the last model is there, and not its state
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = launch(*command(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path, whole, moment):
    environment = {"DDPM_CACHE": str(tmp_path / "cache")} if "preparing" in moment else {}
    words = command(tmp_path / "run")
    killed = launch("tests/training/killed.py", "SIGKILL", moment, *words, **environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = launch(*words, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"finished: step 12, in {tmp_path / 'run'}. To draw ")
    assert_same_run(tmp_path / "run", whole)
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"], "what the killed one had half written"
