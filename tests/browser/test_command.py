"""`python app.py`: exit statuses and messages, and the server's own bounds."""

import http.client
import subprocess
import sys

import pytest
from harness import ROOT, make_model

import app


def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "app.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_model_that_is_none_is_one_clear_line(tmp_path):
    ended = run("--model", str(tmp_path))
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "model_index.json" in ended.stderr
    assert str(tmp_path) in ended.stderr


@pytest.mark.parametrize("flags", [["--port", "70000"], ["--port", "x"], ["--nonsense"], ["--revision", "main"]])
def test_wrong_usage_is_status_2(flags):
    ended = run(*flags)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("environment", "host", "model"),
    [
        ({}, "127.0.0.1", None),
        ({"SPACE_ID": "someone/ddpm", "DDPM_MODEL": "someone/model"}, "0.0.0.0", "someone/model"),
        ({"GRADIO_SERVER_NAME": "::1", "DDPM_MODEL": ""}, "::1", None),
    ],
)
def test_the_environment_of_a_space_stands_in_for_flags(monkeypatch, environment, host, model):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "DDPM_MODEL", "DDPM_REVISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    chosen = app.parse([])
    assert (chosen.host, chosen.port, chosen.model) == (host, 7860, model)
    assert app.parse(["--model", "here", "--host", "localhost"]).host == "localhost"


def test_a_taken_port_is_one_clear_line(url, tmp_path):
    port = url.rstrip("/").rsplit(":", 1)[1]
    ended = run("--model", str(make_model(tmp_path / "model", 8, 1, 20)), "--port", port)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert port in ended.stderr


def test_an_oversized_body_is_refused_before_it_is_read(url):
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rstrip("/").rsplit(":", 1)[1]), timeout=20)
    connection.putrequest("POST", "/gradio_api/queue/join")
    connection.putheader("Content-Length", str(2**20))
    connection.endheaders()  # and no body: the answer must not wait for it
    assert connection.getresponse().status == 413
    connection.close()
