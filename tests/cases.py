"""Shapes that tests run every kernel at: one list an operation (bench/workloads.py has the large ones).

They stand around the edges that the kernels have: vectors of 4, 8 and 16 lanes, register tiles of 6 and
12 rows and two vectors, cache blocks of 24, 64, 96 and 256, depths of 256 and (split) 2048, and 32
chunks of a batch. Nothing here depends on how a kernel is built, only on where one may break.
"""

from __future__ import annotations

from typing import NamedTuple


class Gemm(NamedTuple):
    """C (m, n) = A (m, k) B (k, n)."""

    m: int
    n: int
    k: int


GEMM = [
    Gemm(0, 0, 0),
    Gemm(0, 3, 4),
    Gemm(3, 0, 4),
    Gemm(3, 4, 0),
    Gemm(1, 1, 1),
    Gemm(1, 9, 5),
    Gemm(7, 1, 3),
    Gemm(5, 7, 9),
    Gemm(6, 8, 16),
    Gemm(6, 16, 1),
    Gemm(7, 17, 3),
    Gemm(11, 31, 5),
    Gemm(12, 32, 8),
    Gemm(13, 33, 7),
    Gemm(24, 64, 255),
    Gemm(25, 65, 257),
    Gemm(95, 255, 10),
    Gemm(97, 257, 3),
    Gemm(193, 70, 513),
    Gemm(1, 100, 256),
    Gemm(3, 5, 2047),
    Gemm(3, 5, 2048),
    Gemm(9, 17, 3001),
    Gemm(1, 1, 16500),
    Gemm(1537, 9, 3),
    Gemm(9, 4097, 3),
    # Several panels in a packed block, of unequal widths, and tasks by rows and by columns of whole panels.
    Gemm(300, 145, 33),
    Gemm(129, 1100, 130),
    # Operands of more than 2^22 floats, which are prefetched.
    Gemm(16400, 3, 256),
    Gemm(26, 16400, 257),
]


class Conv(NamedTuple):
    """x (n, c, h, w), w (oc, c, *kernel)."""

    n: int
    c: int
    h: int
    w: int
    oc: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


CONV = [
    Conv(0, 2, 5, 5, 3, (3, 3)),
    Conv(1, 1, 1, 1, 1, (1, 1)),
    Conv(1, 1, 3, 3, 1, (3, 3)),
    Conv(2, 3, 5, 7, 4, (1, 1)),
    Conv(2, 1, 6, 9, 17, (3, 3), (1, 1), (1, 1)),
    Conv(3, 2, 7, 6, 5, (2, 3), (1, 2), (0, 1)),
    Conv(2, 2, 9, 11, 3, (5, 3), (2, 3), (2, 0)),
    Conv(1, 3, 8, 8, 2, (7, 7), (1, 1), (3, 3)),
    Conv(1, 2, 4, 5, 2, (4, 5)),
    Conv(1, 1, 5, 5, 2, (2, 2), (3, 4), (0, 0)),
    Conv(1, 1, 2, 2, 3, (3, 3), (1, 1), (4, 5)),
    Conv(45, 1, 4, 5, 3, (3, 3), (1, 1), (1, 1)),
    Conv(2, 16, 6, 8, 33, (3, 3), (1, 1), (1, 1)),
    Conv(2, 16, 5, 15, 32, (3, 3), (1, 1), (1, 1)),
    Conv(1, 3, 4, 7, 16, (5, 3), (1, 1), (2, 1)),
    Conv(33, 1, 3, 4, 16, (1, 1)),
    # Runs of taps that are moved in fours, and pixels in fours.
    Conv(3, 16, 14, 28, 2, (3, 3), (1, 1), (1, 1)),
    Conv(2, 1, 4, 7, 2, (3, 3), (1, 1), (1, 1)),
    Conv(2, 2, 5, 6, 2, (5, 3), (2, 1), (0, 2)),
    Conv(2, 5, 6, 9, 2, (4, 4), (1, 1), (1, 2)),
    Conv(2, 3, 6, 12, 2, (2, 5), (1, 1), (1, 2)),
    Conv(1, 1, 1, 10, 2, (1, 9), (1, 1), (0, 4)),
    Conv(2, 1, 3, 3, 2, (1, 1)),
    Conv(2, 1, 1, 2, 2, (1, 2)),
]


class Pool(NamedTuple):
    """x (n, c, h, w)."""

    n: int
    c: int
    h: int
    w: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


POOL = [
    Pool(0, 3, 4, 4, (2, 2), (2, 2)),
    Pool(1, 1, 1, 1, (1, 1), (1, 1)),
    Pool(2, 3, 4, 6, (2, 2), (2, 2)),
    Pool(2, 3, 5, 7, (2, 2), (2, 2)),
    Pool(1, 2, 7, 9, (3, 3), (1, 1)),
    Pool(1, 2, 7, 9, (3, 3), (2, 2), (1, 1)),
    Pool(2, 1, 9, 8, (2, 2), (3, 4)),
    Pool(1, 2, 6, 5, (4, 2), (1, 3), (2, 1)),
    Pool(1, 1, 5, 6, (5, 6), (5, 6)),
    Pool(1, 1, 2, 3, (2, 3), (1, 1), (1, 1)),
    Pool(3, 17, 4, 4, (2, 2), (2, 2)),
    # 2x2 tiles: rows below, at and above a vector of windows, odd edges, chunks of 32 planes and one more.
    Pool(3, 11, 14, 28, (2, 2), (2, 2)),
    Pool(2, 17, 5, 15, (2, 2), (2, 2)),
    Pool(1, 33, 3, 32, (2, 2), (2, 2)),
    Pool(2, 5, 7, 67, (2, 2), (2, 2)),
    Pool(1, 40, 1, 5, (1, 2), (2, 2)),
    Pool(65, 1, 2, 2, (2, 2), (2, 2)),
    Pool(2, 20, 6, 40, (3, 3), (1, 1), (1, 1)),
    Pool(2, 3, 9, 70, (3, 3), (2, 2), (1, 1)),
    Pool(1, 2, 3, 5, (1, 9), (1, 1), (0, 4)),
]


class Layout(NamedTuple):
    """x (n, c, h, w), moved between NCHW and NHWC."""

    n: int
    c: int
    h: int
    w: int


# Blocks of as many pixels and channels as a vector has lanes; one channel goes by rows.
LAYOUT = [
    Layout(0, 2, 3, 3),
    Layout(3, 5, 4, 7),
    Layout(2, 1, 5, 9),
    Layout(2, 16, 3, 5),
    Layout(2, 32, 7, 14),
    Layout(1, 33, 4, 4),
    Layout(2, 20, 2, 9),
    Layout(1, 4, 2, 2),
    Layout(1, 8, 1, 67),
]


class Block(NamedTuple):
    """x (n, c, h, w), w (oc, c, *kernel); stride 1, "same" padding, then ReLU and 2x2 max-pool."""

    n: int
    c: int
    h: int
    w: int
    oc: int
    kernel: tuple[int, int] = (3, 3)


BLOCK = [
    Block(0, 3, 4, 4, 5),
    Block(1, 1, 2, 2, 1, (1, 1)),
    Block(1, 1, 2, 2, 1),
    Block(2, 1, 28, 56, 16),
    Block(2, 16, 14, 28, 32),
    Block(1, 1, 3, 5, 8),
    Block(2, 3, 5, 4, 17),
    Block(1, 17, 7, 9, 33),
    Block(1, 16, 4, 25, 16, (1, 1)),
    Block(2, 3, 6, 27, 8, (5, 5)),
    Block(1, 4, 5, 13, 100, (3, 5)),
    Block(1, 2, 9, 12, 31, (5, 1)),
    Block(1, 32, 2, 3, 15),
    Block(1, 1, 2, 2, 3, (7, 7)),
    Block(31, 1, 4, 4, 4),
    Block(32, 2, 4, 4, 4),
    Block(33, 1, 2, 6, 9),
    Block(77, 1, 3, 2, 2),
    Block(3, 1, 9, 13, 16),
    Block(1, 1, 6, 8, 48),
    Block(2, 32, 5, 29, 16),
    Block(1, 48, 4, 31, 80),
]


# Stride 1 and "same" padding without a pool; channels of whole vectors, and not; tiles of 6 and 14 pixels.
SAME = [
    Block(0, 16, 4, 4, 16),
    Block(1, 1, 1, 1, 1, (1, 1)),
    Block(2, 16, 14, 14, 16),
    Block(1, 32, 3, 15, 32),
    Block(2, 16, 7, 7, 48),
    Block(33, 16, 7, 7, 32),
    Block(20, 32, 14, 13, 16),
    Block(9, 16, 5, 11, 16),
    Block(17, 16, 4, 6, 32),
    Block(1, 48, 2, 2, 16),
    Block(3, 16, 2, 61, 32),
    Block(1, 32, 1, 9, 16),
    Block(1, 16, 9, 1, 16),
    Block(1, 8, 2, 29, 48, (3, 5)),
    Block(2, 3, 5, 7, 5),
    Block(33, 4, 2, 3, 4),
    Block(1, 1, 6, 13, 16),
    Block(1, 17, 4, 8, 33, (5, 3)),
]


class Norm(NamedTuple):
    """x (n, c, h, w), normalised by channel; pooled where h and w are at least 2."""

    n: int
    c: int
    h: int
    w: int


# Channels of one, two and four vectors of 4, 8 and 16 lanes, of several such blocks, and of parts of a
# vector; odd rows and columns that no window covers.
NORM = [
    Norm(1, 1, 1, 1),
    Norm(3, 1, 5, 4),
    Norm(2, 16, 6, 8),
    Norm(33, 32, 3, 2),
    Norm(2, 64, 7, 7),
    Norm(3, 80, 4, 5),
    Norm(2, 17, 5, 5),
    Norm(2, 15, 2, 9),
    Norm(1, 124, 3, 3),
    Norm(5, 4, 1, 13),
    Norm(2, 8, 9, 1),
    Norm(2, 3, 28, 28),
]


class Dense(NamedTuple):
    """x (n, inputs), w (outputs, inputs)."""

    n: int
    inputs: int
    outputs: int


LINEAR = [
    Dense(0, 3, 4),
    Dense(2, 0, 4),
    Dense(2, 3, 0),
    Dense(1, 1, 1),
    Dense(1, 65, 100),
    Dense(5, 7, 9),
    Dense(64, 17, 33),
    Dense(65, 129, 65),
    Dense(3, 2049, 10),
    Dense(2100, 6, 5),
    Dense(8, 33, 5),
    Dense(9, 40, 37),
    Dense(300, 1100, 130),
]

SLOW_IN_EMULATION = (
    Gemm(16400, 3, 256),
    Gemm(26, 16400, 257),
    Dense(300, 1100, 130),
    Block(20, 32, 14, 13, 16),
)
"""Shapes that take seconds each on the emulated GPU. They are large for the caches or the chunks of CPUs; on a GPU they
repeat what smaller ones do, so `.ci/run` leaves them to `.ci/full` there."""
assert {*SLOW_IN_EMULATION} <= {*GEMM, *LINEAR, *SAME}

# Elementwise kernels: around vectors, Philox blocks of 4 and chunks of 16,384 elements.
SIZES = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 16383, 16384, 16385, 40001]


class Logits(NamedTuple):
    """logits (n, classes); rows go in chunks of 16."""

    n: int
    classes: int


LOGITS = [
    Logits(1, 1),
    Logits(1, 2),
    Logits(3, 7),
    Logits(15, 16),
    Logits(5, 17),
    Logits(2, 31),
    Logits(33, 33),
    Logits(17, 100),
    Logits(256, 100),
]
