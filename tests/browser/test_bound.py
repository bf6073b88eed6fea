"""Tab "The bound": terms stream in and add up to what `elbo_terms` says."""

import dataclasses
import re

import pytest
import torch
from harness import Visit, draw
from playwright.sync_api import expect

from ddpm.checkpoint import load
from ddpm.elbo import decoder_floor, elbo_terms

TOTAL = '#bound [data-object="total"] b'
STATUS = "#bound .answer"


def finished(visit: Visit) -> None:
    expect(visit.page.locator(STATUS)).to_contain_text("bits per dimension")


def term(visit: Visit, name: str) -> float:
    number = visit.page.locator(f'#bound [data-object="{name}"] b').inner_text().replace("\u00b710", "e")
    return float(number.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))


def anew(visit: Visit) -> None:
    """Other noise, which no test has asked about before: nothing comes from the store."""
    visit.page.evaluate("ddpm.shared.set('noise', Math.floor(Math.random() * 2 ** 31))")


def of_library(model, pixels: list[int], seed: int, variance_type: str = "fixed_small"):
    checkpoint = load(model)
    schedule = dataclasses.replace(checkpoint.schedule, variance_type=variance_type)
    x0 = (torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 28, 28) / 127.5 - 1).float()
    return elbo_terms(checkpoint.engine(), schedule, x0, generator=torch.Generator().manual_seed(seed), batch_size=64)


@pytest.mark.slow
def test_the_sum_on_the_page_is_that_of_elbo_terms(same, model):
    page = same.back("bound")
    finished(same)
    truth = of_library(model, same.pixels("#bound .pad"), 7)
    for name, value in (
        ("total", truth.total),
        ("kl", truth.kl.sum(1)),
        ("reconstruction", truth.reconstruction),
        ("prior", truth.prior),
    ):
        assert term(same, name) == pytest.approx(value.item(), abs=6e-5, rel=0.05 if name == "prior" else 0), name
    assert float(page.locator(STATUS).inner_text().split("add up to")[1].split()[0]) == pytest.approx(
        truth.total.item(), abs=6e-5
    )
    same.move("bound", 300)
    shown = page.locator('#bound [data-chart="errors"] .now').inner_text()
    assert float(shown) == pytest.approx(truth.eps_mse[0, 299].item(), rel=6e-3)


def test_the_switch_drops_the_weights(same):
    page = same.back("bound")
    finished(same)
    same.move("bound", 2)
    figures = {}
    for loss in ("true", "simple"):
        page.locator(f'#bound [data-value="{loss}"]').click()
        expect(page.locator(f'#bound [data-value="{loss}"]')).to_have_attribute("aria-pressed", "true")
        figures[loss] = [
            page.locator(f'#bound [data-chart="{name}"] .now').inner_text() for name in ("terms", "weights")
        ]
        same.move("bound", 900)
        figures[loss].append(page.locator('#bound [data-chart="weights"] .now').inner_text())
        same.move("bound", 2)
    assert figures["true"][1] != figures["true"][2], "w_t depends on t"
    assert figures["simple"][1] == figures["simple"][2], "and no longer does"
    assert figures["true"][0] != figures["simple"][0]
    assert "Half" in page.locator("#bound .half").inner_text()
    page.locator('#bound [data-value="true"]').click()


@pytest.mark.slow
def test_the_variance_is_chosen_without_a_request_and_the_sum_is_that_of_elbo_terms(same, model):
    page = same.back("bound")
    finished(same)
    same.until_quiet()
    before, sums = len(same.requests), {}
    pixels = same.pixels("#bound .pad")
    kinds = page.locator('#bound [data-label="bound.variance"] button')
    assert [each.get_attribute("data-value") for each in kinds.all()] == ["fixed_small", "fixed_large"]
    for kind in ("fixed_large", "fixed_small"):
        page.locator(f'#bound [data-value="{kind}"]').click()
        truth = of_library(model, pixels, 7, kind)
        assert term(same, "total") == pytest.approx(truth.total.item(), abs=6e-5)
        assert f"{truth.total.item():.3f}" in page.locator(STATUS).inner_text()
        same.move("bound", 5)
        sums[kind] = page.locator('#bound [data-chart="weights"] .now').inner_text()
    schedule = load(model).schedule
    assert float(sums["fixed_small"]) == pytest.approx(schedule.kl_weight[4].item(), rel=6e-3)
    assert sums["fixed_large"] != sums["fixed_small"]
    x0 = (torch.tensor(pixels, dtype=torch.float64).reshape(1, 1, 28, 28) / 127.5 - 1).float()
    assert f"{decoder_floor(schedule, x0).item():.4f} bits" in page.locator("#bound .floor").inner_text()
    assert len(same.requests) == before


def test_moving_t_asks_nothing(same):
    page = same.back("bound")
    finished(same)
    same.until_quiet()
    before = len(same.requests)
    seen = set()
    for t in (2, 100, 1000):
        same.move("bound", t)
        seen.add(page.locator('#bound [data-chart="terms"] .now').inner_text())
    assert len(seen) == 3
    assert len(same.requests) == before


@pytest.mark.slow
def test_another_picture_starts_over_and_stop_stops(same):
    page = same.back("bound")
    finished(same)
    first = page.locator(TOTAL).inner_text()
    status, total = same.listen(STATUS), same.listen(TOTAL)
    draw(same, "#bound .pad")
    anew(same)
    same.heard(status, "Term")
    page.locator("#bound .example").nth(5).click()
    same.heard(total, "…")
    finished(same)
    second = page.locator(TOTAL).inner_text()
    assert second != first
    term = r"Number(text.match(/(?:Term|after) (\d+)/)?.[1])"
    same.listen(STATUS, when=f"{term} >= 200", click="#bound .stop")
    anew(same)
    expect(page.locator(STATUS)).to_contain_text("Stopped after")
    stopped = int(page.locator(STATUS).inner_text().split("after")[1].split()[0])
    assert 200 <= stopped < 1000, "what streamed in is kept in its place"
    assert page.locator(TOTAL).inner_text() == "…"
    page.locator("#bound .again").click()
    finished(same)
    assert page.locator(TOTAL).inner_text() not in (first, second)


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_nobodys(same):
    page = same.back("bound")
    finished(same)
    first, held = page.locator(TOTAL).inner_text(), []

    def hold(route):
        if '"reading"' in (route.request.post_data or "") and not held:
            held.append(route)
        else:
            route.continue_()

    page.route(re.compile("/component_server"), hold)
    page.locator("#bound .example").nth(3).click()  # is in the store, but does not arrive
    while not held:
        page.wait_for_timeout(20)
    page.locator("#bound .example").nth(6).click()
    finished(same)
    second, said = page.locator(TOTAL).inner_text(), same.listen(TOTAL)
    late = held[0].request
    with page.expect_event("requestfinished", lambda request: request == late):
        held[0].continue_()
    page.evaluate("fetch(location.href).then((page) => page.text())")  # is answered after it
    page.unroute_all()
    assert page.locator(TOTAL).inner_text() == second != first
    assert said.json_value() == []


@pytest.mark.slow
def test_a_picture_chosen_in_another_tab_waits_until_this_one_is_in_front(same):
    page = same.back("bound")
    finished(same)
    first = page.locator(TOTAL).inner_text()
    page.locator("#tab-forward-button").click()
    same.until_quiet()
    before = len(same.requests)
    page.locator("#forward .example").nth(8).click()
    page.evaluate("new Promise((later) => setTimeout(later, 250))")  # a question is sent after 120 ms
    assert same.requests[before:] == []
    assert page.locator(TOTAL).text_content() == first
    page.locator("#tab-bound-button").click()
    expect(page.locator(TOTAL)).not_to_have_text(first)
    finished(same)
