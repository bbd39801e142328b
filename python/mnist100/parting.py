"""The ink of a number, parted into its two digits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Real = npt.NDArray[np.float32]

_MOST_PIECES = 50  # a broken digit has a few
_SAME_DIGIT = 0.5  # of the narrower one's width: pieces that overlap so far are of one digit
_TALL = 0.6  # of the tallest: a digit, and not a part of one such as the bar of a 5
_EVEN = 0.4  # of the widest gap: digits are as far apart, parts of a broken one are not
_SOLID = 0.7  # of its rectangle: a blot or a dash, not strokes
_NEAR_MIDDLE = 0.2  # of the width, on either side of the middle: where digits that touch are cut
_JOINT = 0.9  # times as wide as high: what one stroke joins is two digits from here on
_TWO = 1.05  # and from here on whatever joins it


class PartingError(ValueError):
    """Ink that is not two digits; the message says what it is."""


class OnePieceError(PartingError):
    """Ink in one piece, not to be cut into two digits: one digit, as far as can be told."""


@dataclass(frozen=True)
class _Part:
    """Pieces of ink: their numbers, and the rows and columns that they lie in."""

    pieces: frozenset[int]
    top: int
    bottom: int
    start: int
    stop: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def with_(self, other: _Part) -> _Part:
        return _Part(
            self.pieces | other.pieces,
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.start, other.start),
            max(self.stop, other.stop),
        )

    def lies_over(self, other: _Part) -> bool:
        """Whether one lies above the other, not beside it."""
        shared = min(self.stop, other.stop) - max(self.start, other.start)
        return shared > _SAME_DIGIT * min(self.stop - self.start, other.stop - other.start)


def part(ink: Real) -> tuple[Real, Real]:
    """Return the ink of the left digit and that of the right one, each in an array of the whole size.

    Pieces that lie one above the other are of one digit. One piece alone is cut where the fewest strokes cross, if it
    is too wide for a digit.

    Parameters
    ----------
    ink
        float32 (height, width), 0 where there is none.

    Raises
    ------
    PartingError
        If it is not two digits: none, one, three or more, or crumbs.
    """
    pieces, count = ndimage.label(ink > 0, np.ones((3, 3)))
    if count > _MOST_PIECES:
        raise PartingError(f"got {count} pieces of ink")
    parts = _beside_each_other(pieces)
    if not parts:
        raise PartingError("got no ink")
    tallest = max(one.height for one in parts)
    tall = [one for one in parts if one.height > _TALL * tallest]
    if len(tall) > 2 and min(_gaps(tall)) > _EVEN * max(_gaps(tall)):
        raise PartingError(f"got {len(tall)} digits")
    while len(parts) > 2:
        gaps = _gaps(parts)
        place = gaps.index(min(gaps))
        parts[place : place + 2] = [parts[place].with_(parts[place + 1])]
    if len(parts) == 1:
        is_left = np.arange(ink.shape[1]) < _cut(ink > 0.5 * ink.max(), parts[0])
        return np.where(is_left, ink, 0), np.where(is_left, 0, ink)
    left, right = (np.isin(pieces, list(one.pieces)) for one in parts)
    return np.where(left, ink, 0), np.where(right, ink, 0)


def _gaps(parts: list[_Part]) -> list[int]:
    return [after.start - before.stop for before, after in itertools.pairwise(parts)]


def _beside_each_other(pieces: npt.NDArray[np.int32]) -> list[_Part]:
    """From left to right, without two that lie one above the other."""
    parts: list[_Part] = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
        new = _Part(frozenset([number]), rows.start, rows.stop, columns.start, columns.stop)
        while over := [one for one in parts if one.lies_over(new)]:
            for one in over:
                parts.remove(one)
                new = new.with_(one)
        parts.append(new)
    return sorted(parts, key=lambda one: one.start + one.stop)


def _cut(ink: npt.NDArray[np.bool_], whole: _Part) -> int:
    """The column before which a piece is cut: near the middle, where the fewest strokes with the least ink cross."""
    width = whole.stop - whole.start
    middle = (whole.start + whole.stop) / 2
    reach = _NEAR_MIDDLE * width
    columns = np.arange(max(int(middle - reach), whole.start + 1), int(middle + reach) + 1)
    solid = np.mean(ink[whole.top : whole.bottom, whole.start : whole.stop]) > _SOLID
    if width < 2 or solid:
        raise OnePieceError("got ink in one piece")
    near = ink[:, columns]
    strokes = np.count_nonzero(np.diff(near.astype(np.int8), axis=0, prepend=0) > 0, axis=0)
    order = np.lexsort((np.abs(columns - middle), near.sum(axis=0), strokes))
    if width <= (_JOINT if strokes[order[0]] == 1 else _TWO) * whole.height:
        raise OnePieceError("got ink in one piece")
    return int(columns[order[0]])
