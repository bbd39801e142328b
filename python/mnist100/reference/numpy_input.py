"""`mnist100.functional.input_batch` in NumPy: the same draws, the same batches but for rounding."""

from __future__ import annotations

import numpy as np

from mnist100._checks import Array
from mnist100.reference import philox


def input_batch(
    digits: Array,
    pairs: Array,
    samples: Array,
    mean: Array,
    std: Array,
    *,
    clip: float = 0.0,
    rotate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    translate: float = 0.0,
    elastic: float = 0.0,
    shift: int = 0,
    contrast: float = 0.0,
    brightness: float = 0.0,
    seed: int = 0,
    step: int = 0,
) -> Array:
    """Standardised, optionally augmented samples of a pair table: float32 (n, 1, 28, 56)."""
    sides = []
    for side in (0, 1):
        images = digits[pairs[samples, side]].astype(np.float32)  # (n, 28, 28)
        if rotate or scale or shear or translate or elastic:
            bits = _blocks(samples, 2, philox.AFFINE[side], seed, step)
            nodes = philox.uniform(_blocks(samples, 25, philox.ELASTIC[side], seed, step), elastic)
            images = warp(
                images,
                angle=philox.uniform(bits[0], rotate),
                scale_y=1 + philox.uniform(bits[1], scale),
                scale_x=1 + philox.uniform(bits[2], scale),
                shear=philox.uniform(bits[3], shear),
                move_y=philox.uniform(bits[4], translate),
                move_x=philox.uniform(bits[5], translate),
                nodes=nodes[:98].T.reshape(-1, 2, 7, 7),
            )
        sides.append(images)
    x = (np.concatenate(sides, axis=2) / 255 - mean) / std  # (n, 28, 56)
    bits = _blocks(samples, 2, philox.JITTER, seed, step)
    if shift:
        # The high half of a product maps a word onto 0..2·shift.
        places = (bits[0] * np.uint64(2 * shift + 1)) >> np.uint64(32)
        x = shift_columns(x, places.astype(np.int64) - shift)
    gain = 1 + contrast * philox.normal(bits[1], bits[2])
    offset = brightness * philox.normal(bits[4], bits[5])
    x = x * gain[:, None, None] + offset[:, None, None]
    if clip:
        x = np.clip(x, -clip, clip)
    return x[:, np.newaxis].astype(np.float32)


def warp(
    images: Array,
    *,
    angle: Array,
    scale_y: Array,
    scale_x: Array,
    shear: Array,
    move_y: Array,
    move_x: Array,
    nodes: Array,
) -> Array:
    """Affine maps of images (n, 28, 28) about their centre, one a row of the draws (n,).

    Each output pixel looks its place up in the input: moved, rotated, sheared and scaled back, then
    displaced by the spline of the nodes (n, 2, 7, 7). Bilinear there, zeros outside.
    """
    angle, scale_y, scale_x, shear, move_y, move_x = (
        draw[:, None, None] for draw in (angle, scale_y, scale_x, shear, move_y, move_x)
    )
    v = np.arange(28)[:, None] - 13.5 - move_y
    u = np.arange(28)[None, :] - 13.5 - move_x
    rv = np.cos(angle) * v - np.sin(angle) * u
    ru = np.sin(angle) * v + np.cos(angle) * u - shear * rv
    spline = _spline()
    bend = np.einsum("iy,naij,jx->anyx", spline, nodes, spline)
    y = rv / scale_y + 13.5 + bend[0]
    x = ru / scale_x + 13.5 + bend[1]
    y0, x0 = np.floor(y), np.floor(x)
    fy, fx = y - y0, x - x0

    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    sample = np.arange(len(images))[:, None, None]

    def pixel(rows: Array, columns: Array) -> Array:
        # Places outside land on the border of zeros.
        inside = (np.clip(at, -1, 28).astype(np.int64) + 1 for at in (rows, columns))
        found: Array = padded[sample, *inside]
        return found

    top = (1 - fx) * pixel(y0, x0) + fx * pixel(y0, x0 + 1)
    bottom = (1 - fx) * pixel(y0 + 1, x0) + fx * pixel(y0 + 1, x0 + 1)
    warped: Array = (1 - fy) * top + fy * bottom
    return warped


def shift_columns(x: Array, shifts: Array) -> Array:
    """Images (n, h, w) moved to the right by whole pixels (n,); vacated columns are 0."""
    width = x.shape[2]
    source = np.arange(width) - shifts[:, None]  # (n, w)
    moved = np.take_along_axis(x, np.clip(source, 0, width - 1)[:, None, :], axis=2)
    return np.where(((source >= 0) & (source < width))[:, None, :], moved, 0)


def _spline() -> Array:
    """Each node's part at each pixel of the cubic B-spline: (7, 28), nodes from pixel -7.5 on."""
    apart = np.abs((np.arange(28) + 0.5) / 7 - np.arange(-1, 6)[:, None])
    tail = np.maximum(2 - apart, 0) ** 3 / 6
    parts: Array = tail - 4 * np.maximum(1 - apart, 0) ** 3 / 6
    return parts


def _blocks(samples: Array, count: int, purpose: int, seed: int, step: int) -> Array:
    """The 4·count words of each sample: uint64 (4·count, n)."""
    index = np.uint64(count) * samples.astype(np.uint64)
    blocks = [
        philox.words(index + np.uint64(i), purpose, seed=seed, step=step) for i in range(count)
    ]
    return np.concatenate(blocks)
