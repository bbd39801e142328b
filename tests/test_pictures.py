"""Pictures of numbers: what is read of files, and how a drawing gets MNIST-100's form."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist100 import pictures
from mnist100.data import digits8x8
from mnist100.pictures import Grey, PictureError, pair_image, read_picture
from mnist100.views import shifted_views

DIGITS = digits8x8.load_digits()[1].images[:40]


def encoded(image: Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def ink_of(digit: Grey) -> Grey:
    """The part of a digit that holds its ink."""
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def enlarged(digit: Grey, factor: float) -> Grey:
    box = ink_of(digit)
    height, width = (round(factor * side) for side in box.shape)
    return np.asarray(Image.fromarray(box).resize((width, height), Image.Resampling.BICUBIC))


def on_paper(size: tuple[int, int], *placed: tuple[Grey, int, int]) -> Grey:
    """Light ink on a dark sheet: pieces, each with the row and column of its corner."""
    sheet = np.zeros(size, np.uint8)
    for piece, top, left in placed:
        height, width = piece.shape
        place = sheet[top : top + height, left : left + width]
        np.maximum(place, piece, out=place)
    return sheet


def bar(height: int, width: int) -> Grey:
    return np.full((height, width), 255, np.uint8)


def likeness(one: Grey, other: Grey) -> float:
    """The correlation of two images, or of the first one moved by a pixel: centres are rounded to whole ones."""
    views = shifted_views(one[np.newaxis], 1)
    return max(float(np.corrcoef(view.ravel(), other.ravel())[0, 1]) for view in views)


@pytest.mark.parametrize("dark_ink", [False, True])
def test_a_picture_of_the_right_size_is_taken_as_it_is(dark_ink: bool) -> None:
    pair = np.concatenate([DIGITS[0], DIGITS[1]], axis=1)
    given = 255 - pair if dark_ink else pair
    np.testing.assert_array_equal(pair_image(given), pair)


def drawn_anywhere(left: Grey, right: Grey, factor: float, rng: np.random.Generator) -> Grey:
    """A sheet with two digits, enlarged, each somewhere in its half."""
    side = round(25 * factor)
    halves = []
    for digit in (left, right):
        drawn = enlarged(digit, factor)
        top, across = (rng.integers(1, side - size) for size in drawn.shape)
        halves.append(on_paper((side, side), (drawn, top, across)))
    return np.concatenate(halves, axis=1)


@pytest.mark.parametrize("factor", [1.5, 4.0, 9.0, 15.0])
def test_a_digit_drawn_at_any_size_and_place_is_brought_back(factor: float) -> None:
    rng = np.random.default_rng(3)
    for left, right in zip(DIGITS[::2], DIGITS[1::2], strict=True):
        seen = pair_image(drawn_anywhere(left, right, factor, rng))
        same = pair_image(drawn_anywhere(left, right, 11, rng))
        for half in (np.s_[:, :28], np.s_[:, 28:]):
            assert likeness(seen[half], same[half]) > 0.85
        # Their strokes are wider than MNIST's and get thinner: alike, and not the same.
        assert likeness(seen, np.concatenate([left, right], axis=1)) > 0.7


def test_digits_get_the_size_and_the_centre_of_mnists() -> None:
    tall, wide = enlarged(DIGITS[0], 7), bar(30, 200)
    seen = pair_image(on_paper((300, 600), (tall, 10, 20), (wide, 250, 390)))
    for half in (seen[:, :28], seen[:, 28:]):
        assert max(ink_of(np.where(half > 60, half, 0)).shape) in (19, 20)
        mass = half / half.sum()
        assert abs((mass.sum(axis=1) @ np.arange(28)) - 14) < 0.6
        assert abs((mass.sum(axis=0) @ np.arange(28)) - 14) < 0.6


@pytest.mark.parametrize("pen", [2, 8, 24, 60])
def test_any_pen_gives_strokes_as_wide_as_mnists(pen: int) -> None:
    seen = pair_image(on_paper((280, 560), (bar(200, pen), 40, 100), (bar(200, pen), 40, 400)))
    rows = seen[10:18].sum(axis=1) / 255
    assert np.all(rows / 2 > 1.7)
    # What is wide keeps half of its width, as it may be a blot and no stroke.
    assert np.all(rows / 2 < max(3.2, 0.7 * pen / 10))


def test_ink_and_paper_may_be_of_any_two_shades() -> None:
    sheet = on_paper(
        (280, 560), (enlarged(DIGITS[0], 8), 20, 50), (enlarged(DIGITS[1], 8), 60, 350)
    )
    expected = pair_image(sheet)
    np.testing.assert_array_equal(pair_image(255 - sheet), expected)
    grey = (200 - sheet.astype(np.float64) * 120 / 255).round().astype(np.uint8)
    assert likeness(pair_image(grey), expected) > 0.95


def test_a_bar_over_a_digit_belongs_to_it() -> None:
    # It reaches into the left half, and over the gap between the two strokes.
    whole = [(bar(160, 20), 80, 80), (bar(160, 20), 80, 400)]
    seen = pair_image(on_paper((280, 560), *whole, (bar(20, 200), 40, 260)))
    alone = pair_image(on_paper((280, 560), *whole, (bar(20, 200), 40, 300)))
    assert likeness(seen[:, :28], alone[:, :28]) > 0.99
    assert ink_of(seen[:, 28:]).shape[1] >= 19


@pytest.mark.parametrize("left", [10, 150, 600])
@pytest.mark.parametrize("size", [(280, 900), (450, 900)])
def test_it_does_not_matter_where_on_the_sheet_a_number_is(
    left: int, size: tuple[int, int]
) -> None:
    digits = (enlarged(DIGITS[4], 5), 30, left), (enlarged(DIGITS[5], 5), 30, left + 120)
    seen = pair_image(on_paper(size, *digits))
    for half, digit in ((seen[:, :28], DIGITS[4]), (seen[:, 28:], DIGITS[5])):
        assert likeness(half, digit) > 0.8


def ring(side: int, pen: int) -> Grey:
    return np.pad(np.zeros((side - 2 * pen, side - 2 * pen), np.uint8), pen, constant_values=255)


def test_digits_that_touch_are_cut_where_one_stroke_joins_them() -> None:
    # In the middle lies the inside of the left ring, where two strokes cross, one of them thin.
    rings = [(ring(170, 16), 40, 60), (ring(90, 16), 40, 236), (bar(16, 30), 100, 218)]
    seen = pair_image(on_paper((280, 560), *rings))
    apart = pair_image(on_paper((280, 560), *rings[:2]))
    assert likeness(seen[:, :28], apart[:, :28]) > 0.9
    assert likeness(seen[:, 28:], apart[:, 28:]) > 0.7


def test_a_broken_digit_is_one() -> None:
    # The right one is two strokes as high as the left one, beside each other, and a dot.
    broken = [
        (bar(200, 20), 40, 60),
        (bar(200, 20), 40, 400),
        (bar(200, 20), 40, 440),
        (bar(20, 20), 60, 480),
    ]
    whole = pair_image(on_paper((280, 560), *broken, (bar(20, 100), 40, 400)))
    seen = pair_image(on_paper((280, 560), *broken))
    np.testing.assert_array_equal(seen[:, :28], whole[:, :28])
    assert likeness(seen[:, 28:], whole[:, 28:]) > 0.8


def test_digits_that_lean_over_each_other_are_not_cut() -> None:
    # Two strokes from bottom left to top right; each begins left of where the other one ends.
    slant = np.zeros((160, 100), np.uint8)
    for row in range(160):
        column = 80 - row // 2
        slant[row, column : column + 20] = 255
    seen = pair_image(on_paper((280, 560), (slant, 60, 100), (slant, 60, 160)))
    np.testing.assert_array_equal(seen[:, :28], seen[:, 28:])


def test_specks_are_no_ink() -> None:
    digits = (enlarged(DIGITS[0], 8), 20, 50), (enlarged(DIGITS[1], 8), 60, 350)
    clean = on_paper((280, 560), *digits)
    dirty = clean.copy()
    dirty[270:273, 5:8] = 255
    dirty[4, 300] = 255
    np.testing.assert_array_equal(pair_image(dirty), pair_image(clean))


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.full((280, 560), 255, np.uint8), "got no ink"),
        (np.full((1, 1), 7, np.uint8), "got no ink"),
        (on_paper((280, 560), (bar(200, 20), 40, 100)), "got ink in one piece"),
        (on_paper((280, 300), (ring(150, 20), 40, 100)), "got ink in one piece"),
        (on_paper((280, 560), *[(bar(200, 20), 40, 100 * i) for i in (1, 2, 3)]), "got 3 digits"),
        (on_paper((280, 560), *[(bar(200, 20), 40, 100 * i) for i in range(1, 6)]), "got 5 digits"),
        (on_paper((100, 200), (bar(90, 190), 5, 5)), "got more ink than paper"),
        (np.full((28, 56), 99, np.uint8), "got no ink"),
        (on_paper((280, 560), (bar(22, 22), 100, 200)), "got ink in one piece"),
        (on_paper((280, 560), (bar(10, 100), 100, 200)), "got ink in one piece"),
        (on_paper((560, 1120), (bar(1, 1), 100, 200)), "got ink in one piece"),
        (on_paper((560, 1120), (bar(1, 2), 100, 200)), "got ink in one piece"),
        (
            on_paper(
                (560, 1120), *[(bar(4, 4), 9 * i, 9 * j) for i in range(60) for j in range(90)]
            ),
            "got 5400 pieces",
        ),
    ],
)
def test_what_is_no_number_is_refused(picture: Grey, words: str) -> None:
    with pytest.raises(PictureError, match=f"^picture: .*{words}.*, wants two digits"):
        pair_image(picture)


def test_thin_strokes_of_a_thick_digit_stay() -> None:
    # A 7 in bold type: a bar of 20 pixels on a stem of 100.
    seven = on_paper((380, 300), (bar(20, 290), 0, 0), (bar(360, 100), 20, 190))
    seen = pair_image(on_paper((560, 1120), (seven, 90, 100), (seven, 90, 600)))
    assert seen[:, :28].any(axis=0).sum() >= 14


def test_a_speck_darker_than_the_ink_is_none() -> None:
    pencil = 240 - on_paper((280, 560), (bar(150, 12), 60, 100), (bar(150, 12), 60, 400)) // 4
    pencil = pencil.astype(np.uint8)
    expected = pair_image(pencil)
    pencil[20:23, 300:303] = 0
    np.testing.assert_array_equal(pair_image(pencil), expected)


def test_a_fainter_digit_is_as_whole() -> None:
    strong, faint = enlarged(DIGITS[0], 8), (enlarged(DIGITS[1], 8) * 0.55).astype(np.uint8)
    seen = pair_image(on_paper((280, 560), (strong, 20, 50), (faint, 60, 350)))
    even = pair_image(on_paper((280, 560), (strong, 20, 50), (enlarged(DIGITS[1], 8), 60, 350)))
    assert likeness(seen[:, 28:], even[:, 28:]) > 0.8


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        (np.zeros((28, 56), np.float32), TypeError, "float32"),
        ([[0, 255]], TypeError, "list"),
        (np.zeros((280, 560, 3), np.uint8), ValueError, "(280, 560, 3)"),
        (np.zeros((0, 5), np.uint8), ValueError, "(0, 5)"),
    ],
)
def test_what_is_no_array_of_pixels_is_named(
    picture: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)) as caught:
        pair_image(picture)
    assert str(caught.value).startswith("picture: ")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_dots_are_drawn_too(size: int) -> None:
    dots = on_paper((560, 1120), (bar(size, size), 9, 9), (bar(size, size), 500, 900))
    seen = pair_image(dots)
    assert seen[:, :28].any()
    assert seen[:, 28:].any()


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_refused_or_read_but_never_fails(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    noise = (rng.random((height, width)) ** rng.integers(1, 9) * 255).astype(np.uint8)
    try:
        seen = pair_image(noise)
    except PictureError:
        return
    assert seen.shape == (28, 56)
    assert seen.dtype == np.uint8


GREY = np.add.outer(np.arange(20), 3 * np.arange(30)).astype(np.uint8)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF"])
def test_files_that_keep_every_pixel(form: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(Image.fromarray(GREY), form))
    np.testing.assert_array_equal(read_picture(path), GREY)
    np.testing.assert_array_equal(read_picture(path.read_bytes()), GREY)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_files_that_keep_nearly_every_pixel(form: str) -> None:
    found = read_picture(encoded(Image.fromarray(GREY), form, quality=95))
    np.testing.assert_allclose(found, GREY, atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_kind_of_pixel(mode: str) -> None:
    black_and_white = np.where(GREY > 60, 255, 0).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(black_and_white.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(black_and_white).convert(mode)
    np.testing.assert_array_equal(read_picture(encoded(image)), black_and_white)


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0), (60, 255), (200, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_contrasts_with_the_ink(mode: str, ink: int, paper: int) -> None:
    drawn = GREY > 70
    values = np.where(drawn, ink, 99).astype(np.uint8)
    alpha = np.where(drawn, 255, 0).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(np.where(drawn, 1, 0).astype(np.uint8), mode="L").convert("P")
        image.putpalette([99, 99, 99, ink, ink, ink])
        data = encoded(image, transparency=0)
    else:
        image = Image.merge("LA", [Image.fromarray(values), Image.fromarray(alpha)])
        data = encoded(image.convert(mode))
    np.testing.assert_array_equal(read_picture(data), np.where(drawn, ink, paper))


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    image = Image.fromarray(GREY)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: to be turned by a quarter, clockwise
    found = read_picture(encoded(image, "JPEG", quality=95, exif=turned))
    np.testing.assert_allclose(found, np.rot90(GREY, -1), atol=6)


def test_damaged_camera_settings_are_passed_over() -> None:
    image = Image.fromarray(GREY)
    exif = Image.Exif()
    exif[0x0112] = 6
    # The type of the one entry, a number, becomes one that there is not.
    damaged = exif.tobytes().replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x63")
    damaged = damaged.replace(b"\x12\x01\x03\x00", b"\x12\x01\x63\x00")
    assert damaged != exif.tobytes()
    found = read_picture(encoded(image, "JPEG", quality=95, exif=damaged))
    assert found.shape in (GREY.shape, GREY.T.shape)
    for cut in range(8, len(damaged)):
        read_picture(encoded(image, "JPEG", exif=damaged[:cut]))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("42")
    with pytest.raises(PictureError, match=rf"^{path}: not a picture \(PNG, JPEG"):
        read_picture(path)
    with pytest.raises(PictureError, match=r"^picture: not a picture"):
        read_picture(b"")
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_half_a_picture_is_refused(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), form)
    with pytest.raises(PictureError, match=r"^picture: (damaged|not a) picture"):
        read_picture(data[: len(data) // 2])


@pytest.mark.parametrize("side", [7_000, 10_000, 40_000])
def test_a_picture_that_would_fill_memory_is_refused_unread(side: int) -> None:
    # The header alone says how large it is.
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(PictureError, match=f"wants at most {pictures.MOST_PIXELS:,} pixels"):
        read_picture(bytes(data))


def test_a_pair_read_from_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(encoded(Image.fromarray(on_paper((280, 560), (bar(200, 20), 40, 100)))))
    with pytest.raises(PictureError, match=f"^{path}: got ink in one piece"):
        pictures.read_pair(path)
