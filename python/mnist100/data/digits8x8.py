"""The 1,797 handwritten digits that scikit-learn ships, made to look like MNIST.

They are 8×8 pixels of 0 to 16. As MNIST itself was made, each is brought to a 20×20 box and placed
in 28×28 by its centre of mass. All of it is integer arithmetic, so that every machine gets the same
bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist100.data.pairs import DIGIT_SHAPE, DigitSet
from mnist100.data.splits import divide

TEST_SIZE = 300
DEV_SIZE = 300
REPEATS = 10
"""Permutations a split is paired in: there are few digits, so each is seen with several others."""

_BOX = 20
_CENTRE = 14
# Box pixel i lies at 0.4·i - 0.3 of the 8×8 grid: tenths, whose cubic weights are 2000ths.
_WEIGHT_UNIT = 2000


def load_digits() -> tuple[DigitSet, DigitSet]:
    """Return 1,497 training and 300 test digits, divided by the published split seed."""
    # Imported here because scikit-learn takes a second to load and only this source needs it.
    from sklearn.datasets import load_digits as load

    bunch = load()
    small = bunch.images.astype(np.int64)
    digits = DigitSet(centre(enlarge(small)), bunch.target.astype(np.uint8))
    test, train = divide(len(digits), TEST_SIZE)
    return digits.take(train), digits.take(test)


def enlarge(small: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Enlarge (N, 8, 8) values of 0 to 16 to uint8 (N, 20, 20) by cubic interpolation."""
    weights = _cubic_weights()
    scaled = weights @ small @ weights.T * 255
    unit = 16 * _WEIGHT_UNIT**2
    # The cubic overshoots at edges, hence the clip. Halves are rounded up.
    rounded: NDArray[np.int64] = (2 * scaled + unit) // (2 * unit)
    return np.clip(rounded, 0, 255).astype(np.uint8)


def centre(boxes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Place (N, 20, 20) boxes in (N, 28, 28) so that the centre of mass is at pixel (14, 14)."""
    room = DIGIT_SHAPE[0] - _BOX
    mass = boxes.sum(axis=(1, 2), dtype=np.int64)
    place = np.arange(_BOX)
    offsets = []
    for axis in (1, 2):
        moment = boxes.sum(axis=3 - axis, dtype=np.int64) @ place
        # round(14 - moment / mass) in integers; an empty box has no mass and goes to the middle.
        nearest = (2 * (_CENTRE * mass - moment) + mass) // np.maximum(2 * mass, 1)
        offsets.append(np.clip(np.where(mass > 0, nearest, room // 2), 0, room))
    images = np.zeros((len(boxes), *DIGIT_SHAPE), dtype=np.uint8)
    for image, box, top, left in zip(images, boxes, *offsets, strict=True):
        image[top : top + _BOX, left : left + _BOX] = box
    return images


def _cubic_weights() -> NDArray[np.int64]:
    """Weights (20, 8) of the cubic convolution kernel (a = -1/2), in 2000ths; beyond the edge is 0.

    w(t) = 3/2·t³ - 5/2·t² + 1 for t ≤ 1, and -1/2·t³ + 5/2·t² - 4·t + 2 for 1 < t < 2, with
    t = n/10 the distance.
    """
    n = np.abs((4 * np.arange(_BOX) - 3)[:, None] - 10 * np.arange(8)[None, :])
    near = 3 * n**3 - 50 * n**2 + 2000
    far = -(n**3) + 50 * n**2 - 800 * n + 4000
    weights: NDArray[np.int64] = np.where(n <= 10, near, np.where(n < 20, far, 0))
    return weights
