"""What the browser and other programs send, which may be anything: it is checked, and refused with the range."""

import base64
import math

import numpy as np
import pytest

from ddpm.ui.server.requests import (
    DenoiseRequest,
    InputError,
    PictureRequest,
    SampleRequest,
    check_array,
    check_real,
    check_rows,
    check_whole,
)
from ddpm.ui.server.rows import FAULTS

GOOD = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 2, "seed": 1, "eta": 0}
ONE, OTHER = (np.random.default_rng(i).integers(0, 256, 64).astype(np.uint8) for i in range(2))


@pytest.mark.parametrize("value", [None, True, "5", math.nan, math.inf, -math.inf, 0, 17, 2.5, [], {}, 10**400])
def test_whole_numbers_out_of_range_are_refused(value):
    with pytest.raises(InputError, match="1 to 16"):
        check_whole("num_images", value, 1, 16)


def test_whole_numbers_in_range_pass():
    assert [check_whole("n", value, 1, 16) for value in (1, 16, 7.0)] == [1, 16, 7]
    assert check_real("eta", 1, 0, 1) == 1.0


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.5), ("dpm_solver++", 0.5), ("ddpm", 0.0)])
def test_eta_counts_for_the_samplers_that_take_it(sampler, eta):
    """So that pictures which are the same have the same key."""
    assert SampleRequest.check({**GOOD, "sampler": sampler, "eta": 0.5}, 200, 16).eta == eta


@pytest.mark.parametrize("raw", [None, [], "x", {}, {**GOOD, "sampler": ["ddim"]}, {**GOOD, "sampler": "euler"}])
def test_nonsense_is_refused_and_named(raw):
    with pytest.raises(InputError, match="sampler"):
        SampleRequest.check(raw, 200, 16)


def test_a_value_that_is_no_text_is_refused_in_text():
    with pytest.raises(InputError) as refused:
        SampleRequest.check({**GOOD, "sampler": "\ud800"}, 200, 16)  # as JSON can bring it; Gradio's stream ends at it
    refused.value.fields["value"].encode()


def test_a_long_value_is_quoted_in_short():
    with pytest.raises(InputError) as refused:
        check_whole("seed", "9" * 10_000, 0, 5)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "value", [None, 5, "x", [], {}, [[True] * 3] * 2, [["1"] * 3] * 2, [[10**400] * 3] * 2, [[None] * 3] * 2]
)
def test_what_is_no_array_is_refused(value):
    with pytest.raises(InputError, match="2 x 3"):
        check_array("x", value, (2, 3), 0, 255)


def test_an_array_in_range_passes():
    assert check_array("x", [[0, 255, 1.0]], (1, 3), 0, 255, whole=True).tolist() == [[0, 255, 1]]
    for bad in (-1e-9, 255.001, float("inf")):
        with pytest.raises(InputError, match=r"x\[0, 1\]"):
            check_array("x", [[0, bad, 0]], (1, 3), 0, 255)


@pytest.mark.parametrize("change", [{"x0": None}, {"x0": "!"}, {"x0": "AAAA"}, {"x0": "A" * 10**5}, {"x0": 5}])
def test_what_is_no_picture_is_refused(change):
    good = {"x0": base64.b64encode(bytes([9]) * 784).decode(), "noise_seed": 1}
    PictureRequest.check(good, "predict", (28, 28, 1))
    with pytest.raises(InputError, match="784 bytes"):
        PictureRequest.check({**good, **change}, "predict", (28, 28, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": "AAAA"}, "second: a picture of 64 bytes"),
        ({"x0": None}, "x0: a picture of 64 bytes"),
        ({"t0": 0}, "t0 = 0: a whole number from 1 to 200"),
        ({"t0": 201}, "t0 = 201: a whole number from 1 to 200"),
        ({"t0": 4}, "num_inference_steps = 5: a whole number from 1 to 4"),
        ({"num_images": 1, "second": base64.b64encode(OTHER).decode()}, "num_images = 1: a whole number from 2 to 16"),
        ({"num_images": 17}, "from 1 to 16"),
        ({"noise_seed": -1}, "noise_seed = -1"),
        ({"sampler": "euler"}, "sampler = euler"),
    ],
)
def test_what_cannot_be_denoised_is_named(change, message):
    good = {**GOOD, "x0": base64.b64encode(ONE).decode(), "second": None, "noise_seed": 7, "t0": 120}
    DenoiseRequest.check(good, 200, 16, (8, 8, 1))
    with pytest.raises(InputError, match=message):
        DenoiseRequest.check({**good, **change}, 200, 16, (8, 8, 1))


def test_every_fault_can_be_asked_for_with_any_schedule():
    for fault in FAULTS.values():
        for num_steps in (20, 40, 1000):
            right, wrong = check_rows({"rows": fault.rows(num_steps), "num_images": 1, "seed": 1}, num_steps, 4)
            assert right != wrong
