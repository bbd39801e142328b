"""How well a model reads numbers that are drawn on a sheet, at other sizes and places than MNIST's and with other pens.

python bench/drawing.py runs/mine      # digits of the test set, drawn by a computer: one minute
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from scipy import ndimage

import mnist100
from mnist100.data import DigitSet, load_source
from mnist100.pictures import PictureError, pair_image
from results import table

Grey = npt.NDArray[np.uint8]

SHEET = (280, 560)
FULL = 10  # times as large as in MNIST, 20 pixels, a digit's longer side is 200 of the sheet's 280
TRIALS = (
    # What, times the full size, pixels added to a stroke's either side, pixels between the digits or None: anywhere
    ("full size", 1.0, 0, None),
    ("0.6 of it", 0.6, 0, None),
    ("1.3 of it", 1.3, 0, None),
    ("0.6 of it, strokes 8 px wider", 0.6, 4, None),
    ("full size, strokes 8 px narrower", 1.0, -4, None),
    ("0.9 of it, digits that just touch", 0.9, 0, 0),
    ("0.9 of it, digits that overlap by 10 px", 0.9, 0, -10),
)


def drawn(digit: Grey, size: float, wider: int) -> Grey:
    """A digit's ink, enlarged, its strokes wider or narrower by so many pixels on either side."""
    side = round(FULL * size * len(digit))
    image = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.pad(np.asarray(image), 8) > 127
    distance = np.where(
        ink, ndimage.distance_transform_edt(ink) - 0.5, 0.5 - ndimage.distance_transform_edt(~ink)
    )
    ink = distance + wider > 0
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return np.where(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 255, 0).astype(
        np.uint8
    )


def sheet(left: Grey, right: Grey, gap: int | None, rng: np.random.Generator) -> Grey:
    """Two digits on a sheet: each somewhere in its half, or side by side with a gap."""
    paper = np.zeros(SHEET, np.uint8)
    half = SHEET[1] // 2
    if gap is None:
        starts = [rng.integers(0, max(half - one.shape[1], 0) + 1) for one in (left, right)]
        starts[1] += half
    else:
        start = (SHEET[1] - left.shape[1] - right.shape[1] - gap) // 2
        starts = [start, start + left.shape[1] + gap]
    for digit, start in zip((left, right), starts, strict=True):
        top = rng.integers(0, max(SHEET[0] - len(digit), 0) + 1)
        place = paper[top : top + len(digit), start : start + digit.shape[1]]
        np.maximum(place, digit[: place.shape[0], : place.shape[1]], out=place)
    return paper


def rows(model: mnist100.models.Model, digits: DigitSet, count: int) -> Iterator[list[str]]:
    """What is read right of the same `count` pairs, as they are and drawn."""
    pairs = np.random.default_rng(0).integers(0, len(digits), (count, 2))
    labels = 10 * digits.labels[pairs[:, 0]].astype(int) + digits.labels[pairs[:, 1]]
    plain = np.concatenate([digits.images[pairs[:, 0]], digits.images[pairs[:, 1]]], axis=2)
    yield ["as they are", f"{100 * np.mean(model.predict(plain) == labels):.1f} %", ""]
    for name, size, wider, gap in TRIALS:
        rng = np.random.default_rng(1)
        right = refused = 0
        for pair, label in zip(pairs, labels, strict=True):
            left_ink, right_ink = (drawn(one, size, wider) for one in digits.images[pair])
            try:
                seen = pair_image(sheet(left_ink, right_ink, gap, rng))
            except PictureError:
                refused += 1
                continue
            right += int(model.predict(seen)[0] == label)
        yield [name, f"{100 * right / count:.1f} %", f"{100 * refused / count:.1f} %"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="run folder or model file")
    parser.add_argument("--dataset", default="mnist", help="(default: mnist)")
    parser.add_argument("--count", type=int, default=1000, help="of pairs (default: 1,000)")
    chosen = parser.parse_args()
    model = mnist100.load_model(Path(chosen.model))
    digits = load_source(chosen.dataset).test
    if not isinstance(digits, DigitSet):
        parser.error(f"--dataset: got {chosen.dataset}, finished pairs; wants digits")
    lines = table(["drawn", "read right", "refused"], list(rows(model, digits, chosen.count)))
    Console().print("\n".join(lines), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
