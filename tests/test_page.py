"""The page that ``mnist100 serve`` opens, in a browser: drawn on with a mouse, as a person would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

import mnist100
from mnist100.reading import read
from support import browser
from test_serve import serving

FLAGS = (
    "--no-sandbox",  # Chromium refuses root otherwise
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
)
Stroke = Sequence[tuple[float, float]]  # places in units of the canvas's width and height
LEFT: tuple[Stroke, ...] = ([(0.16, 0.2), (0.10, 0.55), (0.30, 0.55)], [(0.26, 0.25), (0.24, 0.85)])
RIGHT: tuple[Stroke, ...] = ([(0.62, 0.3), (0.70, 0.18), (0.80, 0.3), (0.6, 0.8), (0.86, 0.8)],)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(_saved_once: Path) -> Iterator[str]:
    with serving(_saved_once) as (_, port, _):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """The page, whose scripts may not fail nor ask for what it forbids."""
    context = chromium.new_context(viewport={"width": 760, "height": 900})
    opened = context.new_page()
    faults: list[str] = []
    opened.on(
        "console", lambda message: faults.append(message.text) if message.type == "error" else None
    )
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.goto(address)
    yield opened
    context.close()
    assert faults == []


def draw(page: Page, *strokes: Stroke) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=6)
        page.mouse.up()


def message(page: Page) -> Locator:
    return page.locator("#message")


def ink(page: Page) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The drawing: 0 where there is none, 1 under the pen."""
    values, width = page.evaluate(
        """() => {
            const { width, height } = document.getElementById("canvas");
            const data = document.getElementById("canvas").getContext("2d").getImageData(0, 0, width, height).data;
            return [[...data].filter((_, i) => i % 4 == 3), width];
        }"""
    )
    return np.array(values).reshape(-1, width) / 255


def darkness(page: Page) -> float:
    """The part of the drawing that holds ink."""
    return float(ink(page).mean())


def lightest(page: Page) -> int:
    """The lightest shade of the drawing."""
    found: int = page.evaluate(
        """() => {
            const { width, height } = document.getElementById("canvas");
            const pixels = document.getElementById("canvas").getContext("2d").getImageData(0, 0, width, height).data;
            return pixels.reduce((most, value, i) => i % 4 != 3 && pixels[i | 3] == 255 ? Math.max(most, value) : most, 0);
        }"""
    )
    return found


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for something for ten seconds; the page's rules forbid Playwright's own way."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def seen(page: Page) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pixels that the page says the network saw."""
    values = page.evaluate(
        """() => [...document.getElementById("seen").getContext("2d").getImageData(0, 0, 56, 28).data]"""
    )
    return np.array(values, np.uint8).reshape(28, 56, 4)[..., 0]


def test_a_number_is_read_as_the_model_reads_it(page: Page, saved: Path) -> None:
    expect(page.locator("#chances li")).to_have_count(0)
    draw(page, *LEFT, *RIGHT)
    expect(message(page)).to_contain_text("Read as")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    pixels = seen(page)
    assert pixels[:, :28].max() > 200
    assert pixels[:, 28:].max() > 200
    (reading,) = read(mnist100.load_model(saved), [pixels])
    rows = page.locator("#chances li")
    expect(rows).to_have_count(5)
    expected = [(f"{label:02d}", f"{100 * p:.1f} %") for label, p in reading.most_probable(5)]
    found = [tuple(rows.nth(place).inner_text().split("\n")) for place in range(5)]
    assert [tuple(filter(None, row)) for row in found] == expected
    expect(message(page)).to_have_text(f"Read as {expected[0][0]}")
    expect(page.locator("#label")).to_have_text(expected[0][0])
    expect(page.locator("#certainty")).to_have_text(f"{expected[0][1]} sure")


def test_half_a_number_asks_for_the_other_half(page: Page) -> None:
    draw(page, *RIGHT)
    expect(message(page)).to_have_text("Now a digit in the left half")
    expect(page.locator(".reading")).to_be_hidden()
    draw(page, *LEFT)
    expect(message(page)).to_contain_text("Read as")
    expect(page.locator(".reading")).to_be_visible()


def test_undo_and_clear_by_button_and_by_key(page: Page) -> None:
    undo, clear = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Clear")
    expect(undo).to_be_disabled()
    expect(clear).to_be_disabled()
    draw(page, *LEFT)
    both = darkness(page)
    undo.click()
    one = darkness(page)
    assert 0 < one < both
    page.keyboard.press("Control+z")
    assert darkness(page) == 0
    expect(undo).to_be_disabled()
    expect(page.locator("#hint")).to_be_visible()
    draw(page, *LEFT, *RIGHT)
    expect(message(page)).to_contain_text("Read as")
    clear.click()
    assert darkness(page) == 0
    expect(message(page)).to_have_text("")
    expect(page.locator(".reading")).to_be_hidden()
    draw(page, *LEFT)
    expect(page.locator("#hint")).to_be_hidden()
    page.keyboard.press("Escape")
    assert darkness(page) == 0


def test_a_stroke_goes_on_whatever_is_clicked_meanwhile(page: Page) -> None:
    draw(page, *RIGHT)
    before = darkness(page)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    for name in ("undo", "clear"):
        page.evaluate(f"document.getElementById('{name}').click()")
        page.keyboard.press("Escape")
        page.mouse.move(box["x"] + 90, box["y"] + 90)
    page.mouse.up()
    assert darkness(page) > before
    page.get_by_role("button", name="Undo").click()
    assert darkness(page) == pytest.approx(before)


def test_ink_lies_where_the_pen_was(page: Page) -> None:
    draw(page, *LEFT)
    drawn = ink(page) > 0.5
    rows, columns = np.nonzero(drawn)
    height, width = drawn.shape
    places = np.array([place for stroke in LEFT for place in stroke])
    pen = 0.02 * width  # half of it
    low, high = places.min(axis=0), places.max(axis=0)
    assert columns.min() == pytest.approx(low[0] * width - pen, abs=3)
    assert columns.max() == pytest.approx(high[0] * width + pen, abs=3)
    assert rows.min() == pytest.approx(low[1] * height - pen, abs=3)
    assert rows.max() == pytest.approx(high[1] * height + pen, abs=3)


def test_an_answer_about_what_was_cleared_is_not_shown(page: Page) -> None:
    held: list[Route] = []
    page.route("**/read", lambda route: held.append(route))
    draw(page, *LEFT, *RIGHT)
    until(page, lambda: bool(held))
    page.keyboard.press("Escape")
    expect(message(page)).to_have_text("")
    draw(page, *LEFT)
    for route in held:
        route.continue_()
    expect(message(page)).to_have_text("Now a digit in the right half")
    expect(page.locator(".reading")).to_be_hidden()


def test_an_error_of_the_server_is_told_and_passes(chromium: Browser, address: str) -> None:
    page = chromium.new_page()
    page.goto(address)
    page.route("**/read", lambda route: route.fulfill(status=503, body="busy"))
    draw(page, *LEFT, *RIGHT)
    expect(message(page)).to_have_text("The server answers with error 503")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    page.unroute("**/read")
    draw(page, [(0.26, 0.25), (0.24, 0.85)])
    expect(message(page)).to_contain_text("Read as")
    page.close()


def test_a_dot_is_ink(page: Page) -> None:
    draw(page, [(0.25, 0.5)])
    assert darkness(page) > 0
    draw(page, [(0.75, 0.5)])
    expect(message(page)).to_contain_text("Read as")


def test_a_drawing_stays_when_the_window_changes(page: Page) -> None:
    draw(page, *LEFT, *RIGHT)
    before = darkness(page)
    page.set_viewport_size({"width": 380, "height": 700})
    until(page, lambda: page.evaluate("document.getElementById('canvas').width") < 400)
    assert darkness(page) == pytest.approx(before, rel=0.1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_pen_shows_on_dark_paper_too(page: Page) -> None:
    draw(page, *LEFT)
    page.emulate_media(color_scheme="dark")
    until(page, lambda: lightest(page) > 200)


def test_a_server_that_is_gone_is_told(chromium: Browser, saved: Path) -> None:
    with serving(saved) as (process, port, _):
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        draw(page, *LEFT, *RIGHT)
        expect(message(page)).to_contain_text("Read as")
        process.terminate()
        process.wait(30)
        draw(page, *LEFT)
        expect(message(page)).to_contain_text("The server does not answer")
        page.close()
