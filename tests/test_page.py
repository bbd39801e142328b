"""The page that ``mnist100 serve`` opens, in a browser: drawn on with a mouse, as a person would."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnist100
from mnist100.reading import read
from support import PATIENCE, browser, until
from test_serve import serving

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
if not browser():
    pytest.skip("needs a Chromium", allow_module_level=True)

from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

MILLISECONDS = 1000 * PATIENCE
expect.set_options(timeout=MILLISECONDS)
# A browser says that it has sent an event on, not that a page has seen it, so the page counts them.
COUNT_EVENTS = """
    window.eventCounts = { pointerdown: 0, pointerup: 0, keyup: 0, click: 0 };
    for (const kind of Object.keys(eventCounts)) addEventListener(kind, () => (eventCounts[kind] += 1));
"""
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
        opened = driver.chromium.launch(executable_path=browser(), args=FLAGS, timeout=MILLISECONDS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(_saved_once: Path) -> Iterator[str]:
    with serving(_saved_once) as (_, port, _):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def opened_page(chromium: Browser, address: str) -> Iterator[tuple[Page, list[str]]]:
    """The page, and what its scripts write to the console or fail with."""
    with chromium.new_context(viewport={"width": 760, "height": 900}) as context:
        context.set_default_timeout(MILLISECONDS)
        context.add_init_script(COUNT_EVENTS)
        page = context.new_page()
        written: list[str] = []
        page.on("console", lambda message: written.append(message.text))
        page.on("pageerror", lambda error: written.append(str(error)))
        page.goto(address)
        yield page, written


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """The page; nothing that a test does there may write to the console."""
    with opened_page(chromium, address) as (opened, written):
        yield opened
        expect(opened.locator("#answer")).not_to_have_attribute("aria-busy", "true")
        assert written == []


@contextmanager
def events_handled(page: Page, kind: str, times: int = 1) -> Iterator[None]:
    """Wait at the end of the block until the page has handled that many more events of a kind."""

    def count() -> int:
        found: int = page.evaluate(f"eventCounts.{kind}")
        return found

    before = count()
    yield
    page_until(page, lambda: count() == before + times)


def draw(page: Page, *strokes: Stroke) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    with events_handled(page, "pointerup", len(strokes)):
        for stroke in strokes:
            places = [
                (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke
            ]
            page.mouse.move(*places[0])
            page.mouse.down()
            for place in places[1:]:
                page.mouse.move(*place, steps=6)
            page.mouse.up()


def press(page: Page, key: str) -> None:
    with events_handled(page, "keyup", 1 + key.count("+")):
        page.keyboard.press(key)


def click(page: Page, name: str) -> None:
    with events_handled(page, "click"):
        page.get_by_role("button", name=name).click()


def message(page: Page) -> Locator:
    return page.locator("#message")


def pixels_of(page: Page, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What a canvas shows: uint8 (height, width, 4)."""
    url: str = page.evaluate(f"document.getElementById('{name}').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


def ink(page: Page) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The drawing: 0 where there is none, 1 under the pen."""
    return pixels_of(page, "canvas")[..., 3] / 255


def darkness(page: Page) -> float:
    """The part of the drawing that holds ink."""
    return float(ink(page).mean())


def lightest(page: Page) -> int:
    """The lightest shade of the drawing."""
    pixels = pixels_of(page, "canvas")
    return int(pixels[pixels[..., 3] == 255, :3].max(initial=0))


def page_until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for something; the page's content security policy forbids `Page.wait_for_function`."""
    until(holds, lambda seconds: page.wait_for_timeout(1000 * seconds))


def test_a_number_is_read_as_the_model_reads_it(page: Page, saved: Path) -> None:
    expect(page.locator("#chances li")).to_have_count(0)
    draw(page, *LEFT, *RIGHT)
    expect(message(page)).to_contain_text("Read as")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    pixels = pixels_of(page, "seen")[..., 0]
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
    click(page, "Undo")
    one = darkness(page)
    assert 0 < one < both
    press(page, "Control+z")
    assert darkness(page) == 0
    expect(undo).to_be_disabled()
    expect(page.locator("#hint")).to_be_visible()
    draw(page, *LEFT, *RIGHT)
    expect(message(page)).to_contain_text("Read as")
    click(page, "Clear")
    assert darkness(page) == 0
    expect(message(page)).to_have_text("")
    expect(page.locator(".reading")).to_be_hidden()
    draw(page, *LEFT)
    expect(page.locator("#hint")).to_be_hidden()
    press(page, "Escape")
    assert darkness(page) == 0


def test_a_stroke_goes_on_whatever_is_clicked_meanwhile(page: Page) -> None:
    draw(page, *RIGHT)
    before = darkness(page)
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    with events_handled(page, "pointerdown"):
        page.mouse.down()
    for name in ("undo", "clear"):
        page.evaluate(f"document.getElementById('{name}').click()")
        press(page, "Escape")
        page.mouse.move(box["x"] + 90, box["y"] + 90)
    with events_handled(page, "pointerup"):
        page.mouse.up()
    assert darkness(page) > before
    click(page, "Undo")
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
    page_until(page, lambda: bool(held))
    press(page, "Escape")
    expect(message(page)).to_have_text("")
    draw(page, *LEFT)
    for route in held:
        route.continue_()
    expect(message(page)).to_have_text("Now a digit in the right half")
    expect(page.locator(".reading")).to_be_hidden()


def test_an_error_of_the_server_is_told_and_passes(chromium: Browser, address: str) -> None:
    with opened_page(chromium, address) as (page, _):
        draw(page, *LEFT, *RIGHT)
        expect(message(page)).to_contain_text("Read as")
        press(page, "Escape")
        page.route("**/read", lambda route: route.fulfill(status=503, body="busy"))
        draw(page, *LEFT, *RIGHT)
        expect(message(page)).to_have_text("The server answers with error 503")
        expect(page.locator(".reading")).to_be_hidden()  # the number before it was of another sheet
        expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
        page.unroute("**/read")
        draw(page, [(0.26, 0.25), (0.24, 0.85)])
        expect(message(page)).to_contain_text("Read as")


def test_what_is_no_number_is_told(page: Page) -> None:
    draw(page, *([(x, 0.2), (x, 0.8)] for x in (0.2, 0.5, 0.8)))
    expect(message(page)).to_have_text(
        "Not read: got 3 digits, wants two digits with a gap between them"
    )


def test_an_unsure_answer_says_so(page: Page) -> None:
    reason = "42 is the most probable, but only at 30.0 %"
    best = {"label": 42, "probability": 0.3}
    answer = {"state": "unsure", "reason": reason, **best, "topk": [best]}
    answer["seen"] = np.zeros((28, 56), int).tolist()
    page.route(
        "**/read",
        lambda route: route.fulfill(body=json.dumps(answer), content_type="application/json"),
    )
    draw(page, *LEFT, *RIGHT)
    expect(message(page)).to_have_text(f"Not sure: {reason}")
    expect(page.locator("#label")).to_have_text("42")


def test_a_dot_is_ink(page: Page) -> None:
    draw(page, [(0.25, 0.5)])
    assert darkness(page) > 0
    draw(page, [(0.75, 0.5)])
    expect(message(page)).to_contain_text("Read as")


def test_a_drawing_stays_when_the_window_changes(page: Page) -> None:
    draw(page, *LEFT, *RIGHT)
    before = darkness(page)
    page.set_viewport_size({"width": 380, "height": 700})
    page_until(page, lambda: page.evaluate("document.getElementById('canvas').width") < 400)
    assert darkness(page) == pytest.approx(before, rel=0.1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_pen_shows_on_dark_paper_too(page: Page) -> None:
    draw(page, *LEFT)
    page.emulate_media(color_scheme="dark")
    page_until(page, lambda: lightest(page) > 200)


def test_a_server_that_is_gone_is_told(chromium: Browser, saved: Path) -> None:
    with (
        serving(saved) as (process, port, _),
        opened_page(chromium, f"http://127.0.0.1:{port}/") as (page, _),
    ):
        draw(page, *LEFT, *RIGHT)
        expect(message(page)).to_contain_text("Read as")
        process.terminate()
        process.wait(PATIENCE)
        draw(page, *LEFT)
        expect(message(page)).to_contain_text("The server does not answer")
