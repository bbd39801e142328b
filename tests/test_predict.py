"""``mnist100 predict``: pictures in, numbers out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnist100
from commands import assert_one_line, mnist, mnist_here
from mnist100.pictures import pair_image
from mnist100.reading import Reading, read
from model_files import trained


def sheet(gap: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Two strokes on paper, dark on light."""
    picture = np.full((200, 400), 230, np.uint8)
    picture[40:160, 90:106] = 20
    picture[40:60, 200 + gap : 320] = 20
    return picture


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A drawing, and a picture that needs no preparation."""
    drawn, exact = tmp_path / "drawn.png", tmp_path / "exact.bmp"
    Image.fromarray(sheet(20)).save(drawn)
    Image.fromarray(pair_image(sheet(60))).save(exact)
    return [drawn, exact]


def test_reads_what_the_model_says_of_the_prepared_picture(
    saved: Path, pictures: list[Path]
) -> None:
    result = mnist("predict", saved, *pictures, "--topk", "2", "--threads", "1", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["model"] == str(saved)
    prepared = np.stack([pair_image(sheet(20)), pair_image(sheet(60))])
    chances = mnist100.load_model(saved).predict_proba(prepared)
    for row, path, chance in zip(found["predictions"], pictures, chances, strict=True):
        best = np.argsort(-chance)[:2]
        assert row["file"] == str(path)
        assert row["label"] == best[0]
        assert row["probability"] == pytest.approx(chance[best[0]])
        assert [one["label"] for one in row["topk"]] == best.tolist()
        assert [one["probability"] for one in row["topk"]] == pytest.approx(chance[best])


def test_tells_people_a_line_a_picture(saved: Path, pictures: list[Path]) -> None:
    result = mnist("predict", saved, *pictures, "--topk", "1", "--backend", "numpy")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    model = mnist100.load_model(saved)
    for line, path, picture in zip(lines, pictures, (sheet(20), sheet(60)), strict=True):
        (reading,) = read(model, [picture])
        ((label, _),) = reading.most_probable(1)
        assert line.startswith(f"{path}: {label:02d} ")
        assert line.endswith("%")


def test_pictures_that_cannot_be_read_do_not_keep_others_from_it(
    saved: Path, pictures: list[Path], tmp_path: Path
) -> None:
    blank, text = tmp_path / "blank.png", tmp_path / "notes.txt"
    Image.fromarray(np.full((200, 400), 230, np.uint8)).save(blank)
    text.write_text("42")
    given = (pictures[0], blank, tmp_path / "no.png", pictures[1], text)
    result = mnist("predict", saved, *given)
    assert result.returncode == 1
    found = result.stdout.splitlines()
    assert [line.split(": ")[0] for line in found] == [str(path) for path in pictures]
    assert result.stderr.splitlines() == [
        f"mnist100: error: {blank}: got no ink, wants two digits",
        f"mnist100: error: {tmp_path / 'no.png'}: No such file or directory",
        f"mnist100: error: {text}: not a picture (PNG, JPEG, WEBP, BMP, GIF)",
    ]
    result = mnist("predict", saved, *given, "--json")
    assert result.returncode == 1
    rows = json.loads(result.stdout)["predictions"]
    assert [row["file"] for row in rows] == [str(path) for path in given]
    assert ["label" in row for row in rows] == [True, False, False, True, False]
    assert rows[1]["error"] == f"{blank}: got no ink, wants two digits"


def test_what_is_wrong_with_the_command_is_told(
    saved: Path, pictures: list[Path], tmp_path: Path
) -> None:
    assert_one_line(mnist_here("predict", saved, tmp_path), 1, f"{tmp_path}: Is a directory")
    assert_one_line(
        mnist_here("predict", tmp_path / "none", *pictures), 1, "none: no such run folder"
    )
    assert_one_line(mnist_here("predict", saved), 2, "PICTURE")


def test_equal_probabilities_come_in_the_order_of_their_labels() -> None:
    chances = np.full(100, 0.005, np.float32)
    chances[[7, 90]] = 0.25
    reading = Reading(np.zeros((28, 56), np.uint8), chances)
    assert [label for label, _ in reading.most_probable(4)] == [7, 90, 0, 1]
    assert reading.as_dict(1) == {
        "state": "unsure",
        "reason": "07 is the most probable, but only at 25.0 %",
        "label": 7,
        "probability": 0.25,
        "topk": [{"label": 7, "probability": 0.25}],
    }


def test_no_picture_is_no_reading() -> None:
    assert read(trained(), []) == []
