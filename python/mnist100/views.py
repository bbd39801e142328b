"""Images that have moved: what a model's answers can be averaged over, or measured on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]


def shift_images(images: Images, down: int, right: int) -> Images:
    """Images (n, h, w) moved by whole pixels; what is vacated is 0, what leaves is lost."""
    moved = np.zeros_like(images)
    height, width = images.shape[1:]
    if abs(down) < height and abs(right) < width:
        to_rows, from_rows = _slices(down, height)
        to_columns, from_columns = _slices(right, width)
        moved[:, to_rows, to_columns] = images[:, from_rows, from_columns]
    return moved


def shifted_views(images: Images, reach: int) -> Iterator[Images]:
    """Yield images (n, h, w) moved by -reach to reach pixels down and across: (2·reach + 1)² times."""
    steps = range(-reach, reach + 1)
    return (shift_images(images, down, right) for down in steps for right in steps)


def _slices(by: int, size: int) -> tuple[slice, slice]:
    """Where an axis goes to and where it comes from."""
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))
