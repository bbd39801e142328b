"""Pictures of two-digit numbers, brought to the form of MNIST-100: 28×56 pixels, light on dark.

A picture of just that size is taken as it is. In any other, ink is what differs from the edge; it is parted into two
digits, and each is drawn anew as MNIST's digits were made: 20 pixels at its longer side, its centre of mass at pixel (14, 14),
strokes about as wide as theirs.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageStat, UnidentifiedImageError
from scipy import ndimage

from mnist100 import _checks as check
from mnist100.data.digits8x8 import centre
from mnist100.parting import OnePieceError, PartingError, part

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
_MOST_INK = 0.5  # of the picture

# By the number in a photograph's settings: what brings it upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


NoNumber: TypeAlias = Literal["incomplete", "no number"]


class PictureError(ValueError):
    """A picture that cannot be read, or in which there are no two digits."""


class PictureTooLargeError(PictureError):
    """A picture of more than `MOST_PIXELS`."""


class NoNumberError(PictureError):
    """A picture like any other, but without a number of two digits.

    Parameters
    ----------
    reason
        What was found instead, and what is wanted.
    state
        "incomplete" if there is one digit so far, "no number" if there is none or what there is are not two digits.
    """

    def __init__(self, reason: str, state: NoNumber) -> None:
        super().__init__(f"picture: {reason}")
        self.reason = reason
        self.state = state


def read_picture(source: str | os.PathLike[str] | bytes) -> Grey:
    """Read a picture as uint8 (height, width); what is transparent takes the colour that contrasts with the rest.

    Parameters
    ----------
    source
        A file, or the bytes of one, in one of `FORMATS`.

    Raises
    ------
    PictureError
        If it is no such picture or damaged; `PictureTooLargeError` if it has more than `MOST_PIXELS`.
    OSError
        If the file cannot be read.
    """
    name = "picture" if isinstance(source, bytes) else os.fspath(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        with warnings.catch_warnings():
            # Of what Pillow can do without, such as camera settings.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=FORMATS)
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            return _grey(_upright(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PictureTooLargeError(f"{name}: wants at most {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name}: not a picture ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # what Pillow raises for damaged files is not documented
        raise PictureError(f"{name}: damaged picture ({error})") from None


def read_pair(path: str | os.PathLike[str]) -> Grey:
    """Read a picture and bring it to MNIST-100's form, uint8 (28, 56): see `read_picture` and `pair_image`."""
    picture = read_picture(path)
    try:
        return pair_image(picture)
    except NoNumberError as error:
        raise PictureError(f"{os.fspath(path)}: {error.reason}") from None


def pair_image(picture: Grey) -> Grey:
    """Bring a picture to MNIST-100's form, uint8 (28, 56).

    See `mnist100.parting.part` for what the digits are.

    Parameters
    ----------
    picture
        uint8 (height, width), light ink on dark or dark on light.

    Raises
    ------
    NoNumberError
        If there are not two digits.
    TypeError, ValueError
        If `picture` is no such array.
    """
    wants = "uint8 pixels of shape (height, width)"
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        raise check.fail_type("picture", check.describe(picture), wants)
    if picture.ndim != 2 or not picture.size:
        raise check.fail("picture", check.describe(picture), wants)
    if np.ptp(picture) < _CONTRAST:
        raise NoNumberError("got no ink, wants two digits", "no number")
    if picture.shape == _SIZE:
        if any(np.ptp(half) < _CONTRAST for half in np.split(picture, 2, axis=1)):
            raise NoNumberError("got ink in one half, wants two digits", "incomplete")
        return picture if _background(picture) < 128 else 255 - picture
    ink = _ink_of(_resized(picture))
    if np.mean(ink > 0.5) > _MOST_INK:
        reason = "got more ink than paper, wants two digits on plain paper"
        raise NoNumberError(reason, "no number")
    try:
        halves = part(ink)
    except PartingError as error:
        state: NoNumber = "incomplete" if isinstance(error, OnePieceError) else "no number"
        reason = f"{error}, wants two digits with a gap between them"
        raise NoNumberError(reason, state) from None
    return np.concatenate([_drawn(half) for half in halves], axis=1)


def _upright(image: Image.Image) -> Image.Image:
    """A photograph turned as its camera says; camera settings that cannot be read say nothing."""
    image.load()
    orientation = None
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _grey(image: Image.Image) -> Grey:
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    grey, alpha = image.convert("LA").split()
    light = bool(alpha.getextrema()[1]) and ImageStat.Stat(grey, mask=alpha).mean[0] > 127.5
    paper = Image.new("L", image.size, 0 if light else 255)
    paper.paste(grey, mask=alpha)
    return np.asarray(paper)


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
    if np.count_nonzero(away < -_CONTRAST) > np.count_nonzero(away > _CONTRAST):
        away = -away
    far = away[away > _CONTRAST]
    if not far.size:
        return np.zeros_like(away)
    # Not the largest of all, which may be a speck's.
    contrast = np.percentile(far, 90)
    ink = np.clip((away / contrast - _INK[0]) / (_INK[1] - _INK[0]), 0, 1)
    pieces, count = ndimage.label(ink > 0, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), weights=ink.ravel(), minlength=count + 1)
    kept = sizes >= _SPECK * sizes.max()
    return np.where(kept[pieces], ink, 0).astype(np.float32)


def _drawn(ink: Real) -> Grey:
    """A digit's ink as MNIST has it: uint8 (28, 28)."""
    digit = _cropped(ink > 0.5 * ink.max())
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
    # None gets less than half as wide: along the middle of a stroke, distances are half its width.
    middle = digit & (distance >= ndimage.maximum_filter(distance, 3))
    wider = max(wider, -0.5 * float(np.percentile(distance[middle], 10)))
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
