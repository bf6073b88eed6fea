"""In which order the examples of several models are drawn."""

import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from ddpm.ui.server.drawing import LATER, PARTS, Examples, Turns


@pytest.fixture
def drawn(monkeypatch):
    """Examples whose parts take no time, and wait for `go` each; what was drawn is in `order`."""
    order, go = [], threading.Semaphore(0)

    def parts(examples):
        def draw(part):
            assert go.acquire(timeout=20)
            order.append((examples._service.name, part))
            examples.row_keys[part] = [part]

        return {part: lambda part=part: draw(part) for part in PARTS}

    monkeypatch.setattr(Examples, "_parts", parts)
    turns, made = Turns(), []

    def make(name):
        service = SimpleNamespace(name=name, fault=None, in_use=nullcontext, limits=SimpleNamespace(retry_s=0.01))
        made.append(Examples(service, turns))
        return made[-1]

    def more(count):
        """Let so many more parts be drawn, and wait until they are."""
        before = len(order)
        go.release(count)
        until = time.monotonic() + 20
        while len(order) < before + count:
            assert time.monotonic() < until, order
            time.sleep(0.005)
        time.sleep(0.05)  # for the thread that comes next to take its turn

    yield SimpleNamespace(order=order, make=make, more=more)
    for examples in made:
        examples.stop()
    go.release(100)
    for examples in made:
        examples.close()
        assert not examples.drawing


def test_all_parts_in_the_order_of_the_tabs_and_the_long_ones_when_asked(drawn):
    examples = drawn.make("a")
    examples.start()
    usual = [part for part in PARTS if part not in LATER]
    drawn.more(len(usual))
    assert [part for _, part in drawn.order] == usual
    examples.ask("invert")
    drawn.more(1)
    examples.ask("nothing of the kind")
    assert drawn.order[-1] == ("a", "invert")
    assert len(drawn.order) == len(usual) + 1


def test_what_somebody_waits_for_comes_next(drawn):
    examples = drawn.make("a")
    examples.start()
    examples.ask("wrong")
    drawn.more(2)
    examples.ask("fill")  # while `predict` is drawn already
    drawn.more(3)
    assert [part for _, part in drawn.order] == ["example", "wrong", "predict", "several", "fill"], (
        "each after its needs"
    )


def test_the_model_that_somebody_waits_for_comes_next(drawn):
    first, second, third = (drawn.make(name) for name in "abc")
    first.start()
    time.sleep(0.1)
    for examples in (second, third):
        examples.start()
    drawn.more(1)  # `example` of the first one, which nobody asked for; then the one that came first
    third.ask("example")
    drawn.more(3)
    second.ask("compare")
    drawn.more(3)
    assert drawn.order[0] == ("a", "example")
    names = [name for name, _ in drawn.order]
    assert names[2:4] == ["c", "c"], "one part was begun before anybody asked"
    assert names[5:7] == ["b", "b"]
    assert ("b", "compare") in drawn.order[4:7]


def test_a_part_that_fails_is_tried_again_after_the_others(drawn, monkeypatch):
    examples, failures = drawn.make("a"), [1, 1]
    parts = Examples._parts

    def failing(self):
        made = parts(self)
        good = made["predict"]
        made["predict"] = lambda: failures.pop() / 0 if failures else good()
        return made

    monkeypatch.setattr(Examples, "_parts", failing)
    examples.start()
    usual = [part for part in PARTS if part not in LATER]
    drawn.more(len(usual))
    assert [part for _, part in drawn.order] == [part for part in usual if part != "predict"] + ["predict"]
    assert not failures


def test_the_end_of_the_page_does_not_wait_for_questions(drawn):
    """Also where it comes while the thread is between two looks."""
    examples = drawn.make("a")
    clear = examples._new.clear

    def clear_late():
        examples.stop()
        clear()

    examples._new.clear = clear_late
    examples.start()
    examples._thread.join(5)
    assert not examples.drawing
