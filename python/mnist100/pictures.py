"""Pictures of two-digit numbers, brought to the form of MNIST-100: 28×56 pixels, light on dark.

A picture of just that size is taken as it is. In any other, ink is what differs from the edge; it is parted into two
digits, and each is drawn anew as MNIST's digits were made: 20 pixels at its longer side, its centre of mass at pixel (14, 14),
strokes about as wide as theirs.
"""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from mnist100.data.digits8x8 import centre

Grey = npt.NDArray[np.uint8]
Real = npt.NDArray[np.float32]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 40_000_000
"""Of a picture that is read; a phone's has 12 to 50 million."""

_SIZE = (28, 56)
_BOX = 20
_SIDES = (560, 1120)  # of the longer side, while ink is looked for: 20 times a box, and twice that
_CONTRAST = 40  # of 255 grey levels; less is paper and noise
_INK = (0.25, 0.75)  # of the contrast: from here on it is ink, from there on all of it
_SPECK = 0.02  # of the largest piece of ink: smaller ones are dirt
_STROKE = (2.0, 2.8)  # pixels of the box: the middle half of MNIST's digits
_TWO = 1.1  # times as wide as high: ink in one piece is two digits that touch, not one
_ACROSS = 0.25  # of a piece's width on either side of the middle, where it is cut


class PictureError(ValueError):
    """A picture that cannot be read, or in which there are no two digits."""


def read_picture(source: str | os.PathLike[str] | bytes) -> Grey:
    """Read a picture as uint8 (height, width); what is transparent takes the colour that contrasts with the rest.

    Parameters
    ----------
    source
        A file, or the bytes of one, in one of `FORMATS`.

    Raises
    ------
    PictureError
        If it is no such picture, damaged, or has more than `MOST_PIXELS`.
    OSError
        If the file cannot be read.
    """
    name = "picture" if isinstance(source, bytes) else os.fspath(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    too_large = PictureError(f"{name}: wants at most {MOST_PIXELS:,} pixels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise too_large
        return _grey(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise too_large from None
    except UnidentifiedImageError:
        raise PictureError(f"{name}: not a picture ({', '.join(FORMATS)})") from None
    except (OSError, SyntaxError, ValueError) as error:
        if error is too_large:
            raise
        raise PictureError(f"{name}: damaged picture ({error})") from None


def read_pair(path: str | os.PathLike[str]) -> Grey:
    """Read a picture and bring it to MNIST-100's form, uint8 (28, 56): see `read_picture` and `pair_image`."""
    picture = read_picture(path)
    try:
        return pair_image(picture)
    except PictureError as error:
        raise PictureError(f"{os.fspath(path)}: {str(error).removeprefix('picture: ')}") from None


def pair_image(picture: Grey) -> Grey:
    """Bring a picture to MNIST-100's form, uint8 (28, 56).

    A picture twice as wide as high is parted in its middle, any other in the middle of its ink; a piece of ink belongs to
    the side that its own middle lies on, and one that lies across is cut where it is thinnest.

    Parameters
    ----------
    picture
        uint8 (height, width), light ink on dark or dark on light.

    Raises
    ------
    PictureError
        If there is no ink on one side.
    """
    if picture.shape == _SIZE:
        return picture if _background(picture) < 128 else 255 - picture
    ink = _ink_of(_resized(picture))
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise PictureError("picture: got no ink, wants two digits")
    wide = picture.shape[1] == 2 * picture.shape[0]
    middle = ink.shape[1] / 2 if wide else (columns[0] + columns[-1] + 1) / 2
    left, right = _parted(ink, middle, can_cut=bool(np.ptp(columns) > _TWO * np.ptp(rows)))
    for side, half in (("left", left), ("right", right)):
        if not half.any():
            found = f"got no ink in the {side} half" if wide else "got one digit"
            raise PictureError(f"picture: {found}, wants two digits side by side")
    return np.concatenate([_drawn(left), _drawn(right)], axis=1)


def _grey(image: Image.Image) -> Grey:
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    grey, alpha = np.moveaxis(np.asarray(image.convert("LA"), np.float32), 2, 0)
    alpha = alpha / 255
    light = (grey * alpha).sum() > 127.5 * alpha.sum()
    result: Grey = np.rint(grey * alpha + (0 if light else 255) * (1 - alpha)).astype(np.uint8)
    return result


def _background(picture: Grey) -> float:
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    return float(np.median(np.concatenate(edges)))


def _resized(picture: Grey) -> Grey:
    longer = max(picture.shape)
    wanted = min(max(longer, _SIDES[0]), _SIDES[1])
    if wanted == longer:
        return picture
    height, width = (max(1, round(side * wanted / longer)) for side in picture.shape)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _ink_of(picture: Grey) -> Real:
    """Ink, 0 to 1, of a picture in which the edge shows the paper; without specks."""
    away = picture.astype(np.float32) - _background(picture)
    if -away.min() > away.max():
        away = -away
    contrast = away.max()
    if contrast < _CONTRAST:
        return np.zeros_like(away)
    ink = np.clip((away / contrast - _INK[0]) / (_INK[1] - _INK[0]), 0, 1)
    pieces, count = ndimage.label(ink > 0, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), weights=ink.ravel(), minlength=count + 1)
    kept = sizes >= _SPECK * sizes.max()
    kept[0] = False
    return np.where(kept[pieces], ink, 0).astype(np.float32)


def _parted(ink: Real, middle: float, *, can_cut: bool) -> tuple[Real, Real]:
    """The left and the right digit's ink, each in an array of the whole size."""
    pieces, _ = ndimage.label(ink > 0, np.ones((3, 3)))
    belongs_left = np.zeros(pieces.max() + 1, bool)
    across = []
    for number, (_, columns) in enumerate(ndimage.find_objects(pieces), start=1):
        start, stop = columns.start, columns.stop
        belongs_left[number] = (start + stop) / 2 < middle
        if min(middle - start, stop - middle) > _ACROSS * (stop - start):
            across.append(number)
    is_left = belongs_left[pieces]
    one_sided = not (ink[is_left].any() and ink[~is_left].any())
    if one_sided and across and can_cut:
        piece = np.isin(pieces, across)
        is_left[piece] = np.nonzero(piece)[1] < _thinnest(np.where(piece, ink, 0), middle)
    return np.where(is_left, ink, 0), np.where(is_left, 0, ink)


def _thinnest(ink: Real, middle: float) -> int:
    """The column near the middle that has the least ink, of several the one nearest to it."""
    columns = np.flatnonzero(ink.any(axis=0))
    reach = _ACROSS * np.ptp(columns) / 2
    near = np.arange(int(middle - reach), int(middle + reach) + 1)
    mass = ink[:, near].sum(axis=0)
    return int(min(near[mass <= mass.min() + 0.5], key=lambda column: abs(column - middle)))


def _drawn(ink: Real) -> Grey:
    """A digit's ink as MNIST has it: uint8 (28, 28)."""
    solid = ink > 0.5
    digit = _cropped(solid if solid.any() else ink > 0)
    length = max(digit.shape)
    room = max(length // 4, 2)  # for strokes that get wider
    digit = np.pad(digit, room)
    inside = ndimage.distance_transform_edt(digit)
    outside = ndimage.distance_transform_edt(~digit)
    # From the edge, which lies between two pixels; positive inside.
    distance = np.where(digit, inside - 0.5, 0.5 - outside)
    # Across a stroke of width w, distances go from 0 to w/2 and back: their mean is w/4.
    width = 4 * float(distance[digit].mean())
    # Strokes widened by r on both sides, w + 2r, are to be this share of the digit's length, l + 2r.
    share = min(max(width / length, _STROKE[0] / _BOX), _STROKE[1] / _BOX)
    wider = (share * length - width) / (2 * (1 - share))
    # At most to half as wide, and never to nothing.
    thinnest = max(-width / 4, 0.5 - distance.max())
    wider = min(max(wider, thinnest), room - 1)
    drawn = np.clip(distance + wider + 0.5, 0, 1).astype(np.float32)
    placed: Grey = centre(_boxed(_cropped(drawn, 0.5))[np.newaxis])[0]
    return placed


def _cropped(digit: npt.NDArray[Any], above: float = 0) -> npt.NDArray[Any]:
    """The part that holds all that is above a level."""
    rows, columns = (np.flatnonzero((digit > above).any(axis=axis)) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _boxed(drawn: Real) -> Grey:
    """A digit in a box of 20×20, its longer side the box's."""
    scale = _BOX / max(drawn.shape)
    height, width = (max(1, round(side * scale)) for side in drawn.shape)
    image = Image.fromarray(drawn).resize((width, height), Image.Resampling.BICUBIC)
    box = np.zeros((_BOX, _BOX), np.uint8)
    top, left = (_BOX - height) // 2, (_BOX - width) // 2
    box[top : top + height, left : left + width] = np.rint(255 * np.clip(np.asarray(image), 0, 1))
    return box
