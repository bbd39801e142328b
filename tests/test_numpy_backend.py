"""The NumPy backend against our kernels: the same numbers, whichever computes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from cases import (
    BLOCK,
    CONV,
    GEMM,
    LINEAR,
    LOGITS,
    POOL,
    SIZES,
    Block,
    Conv,
    Dense,
    Gemm,
    Logits,
    Pool,
)
from mnist100 import functional as F  # noqa: N812
from mnist100 import losses, models, optim
from mnist100.operations import Operations
from mnist100.reference import numpy_backend as B  # noqa: N812
from mnist100.reference import philox
from mnist100.training import backends, train_step
from runs import tiny_recipe, traced
from support import Array, assert_same, assert_sum_close, assert_whole, draws, whole

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_the_module_has_every_operation() -> None:
    operations: Operations = B
    names = [name for name in vars(Operations) if not name.startswith("_")]
    assert len(names) > 15
    assert all(callable(getattr(operations, name)) for name in names)


@DTYPES
@pytest.mark.parametrize("case", CONV, ids=str)
def test_im2col_and_col2im(case: Conv, dtype: npt.DTypeLike) -> None:
    x = draws(case.n, case.c, case.h, case.w, dtype=dtype)
    window = (case.kernel, case.stride, case.padding)
    cols = F.im2col(x, *window)
    assert_same(B.im2col(x, *window), cols)
    dcols = whole(*cols.shape, dtype=dtype)
    shape = (case.n, case.c, case.h, case.w)
    assert_same(np.array(B.col2im(dcols, shape, *window)), F.col2im(dcols, shape, *window))


@DTYPES
@pytest.mark.parametrize("case", CONV, ids=str)
def test_conv2d(case: Conv, dtype: npt.DTypeLike) -> None:
    x = whole(case.n, case.c, case.h, case.w, dtype=dtype)
    w = whole(case.oc, case.c, *case.kernel, seed=1, dtype=dtype)
    b = whole(case.oc, seed=2, dtype=dtype)
    steps = (case.stride, case.padding)
    y = B.conv2d(x, w, b, *steps)
    assert_whole(F.conv2d(x, w, b, *steps), np.array(y))
    assert_whole(F.conv2d(x, w, None, *steps), np.array(B.conv2d(x, w, None, *steps)))
    dy = whole(*y.shape, seed=3, dtype=dtype)
    ours, theirs = F.conv2d_backward(dy, x, w, *steps), B.conv2d_backward(dy, x, w, *steps)
    assert_whole(ours, theirs)
    assert B.conv2d_backward(dy, x, w, *steps, need_dx=False)[0] is None


@DTYPES
@pytest.mark.parametrize("case", POOL, ids=str)
def test_max_pool2d(case: Pool, dtype: npt.DTypeLike) -> None:
    x = whole(case.n, case.c, case.h, case.w, dtype=dtype)  # ties in plenty
    window = (case.kernel, case.stride, case.padding)
    y, argmax = F.max_pool2d(x, *window)
    assert_same(B.max_pool2d(x, *window), (y, argmax))
    dy = whole(*y.shape, seed=1, dtype=dtype)
    shape = (case.n, case.c, case.h, case.w)
    dx = F.max_pool2d_backward(dy, argmax, shape, *window)
    assert_same(B.max_pool2d_backward(dy, argmax, shape, *window), dx)


def test_max_pool2d_of_what_is_no_number() -> None:
    x = draws(1, 2, 4, 4)
    x[0, 0, 1, 1] = x[0, 0, 1, 0] = np.nan
    x[0, 1] = -np.inf
    assert_same(B.max_pool2d(x, 2, padding=1), F.max_pool2d(x, 2, padding=1))


@DTYPES
@pytest.mark.parametrize("case", BLOCK, ids=str)
def test_conv_block(case: Block, dtype: npt.DTypeLike) -> None:
    x = whole(case.n, case.c, case.h, case.w, dtype=dtype)
    w = whole(case.oc, case.c, *case.kernel, seed=1, dtype=dtype)
    b = whole(case.oc, seed=2, dtype=dtype)
    y, cache = F.conv_block(x, w, b)
    our_y, our_cache = B.conv_block(x, w, b)
    assert_same(our_y, y)
    dy = whole(*y.shape, seed=3, dtype=dtype)
    assert_same(B.conv_block_backward(dy, our_cache), F.conv_block_backward(dy, cache))
    assert B.conv_block_backward(dy, our_cache, need_dx=False)[0] is None


@DTYPES
@pytest.mark.parametrize("case", GEMM, ids=str)
def test_gemm(case: Gemm, dtype: npt.DTypeLike) -> None:
    a, b = draws(case.m, case.k, dtype=dtype), draws(case.k, case.n, seed=1, dtype=dtype)
    assert_sum_close(B.gemm(a, b), F.gemm(a, b), case.k)
    out = draws(case.m, case.n, seed=2, dtype=dtype)
    a, b = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
    expected = F.gemm(a, b, trans_a=True, trans_b=True, alpha=0.5, beta=-2.0, out=out.copy())
    actual = B.gemm(a, b, trans_a=True, trans_b=True, alpha=0.5, beta=-2.0, out=out)
    assert actual is out
    assert_sum_close(actual, expected, case.k + 4)


@DTYPES
@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear(case: Dense, dtype: npt.DTypeLike) -> None:
    x = whole(case.n, case.inputs, dtype=dtype)
    w = whole(case.outputs, case.inputs, seed=1, dtype=dtype)
    b = whole(case.outputs, seed=2, dtype=dtype)
    assert_same(B.linear(x, w, b), F.linear(x, w, b))
    assert_same(B.linear(x, w), F.linear(x, w))
    dy = whole(case.n, case.outputs, seed=3, dtype=dtype)
    assert_same(B.linear_backward(dy, x, w), F.linear_backward(dy, x, w))
    assert B.linear_backward(dy, x, w, need_dx=False)[0] is None


@DTYPES
@pytest.mark.parametrize("size", SIZES)
def test_relu_and_dropout(size: int, dtype: npt.DTypeLike) -> None:
    x, dy = draws(size, dtype=dtype), draws(size, seed=1, dtype=dtype)
    y = F.relu(x)
    assert_same(B.relu(x), y)
    assert_same(B.relu_backward(dy, y), F.relu_backward(dy, y))
    for p in (0.0, 0.4, 0.999):
        dropped, mask = F.dropout(x, p, seed=2**40 + 3, step=2**33 + 1)
        assert_same(B.dropout(x, p, seed=2**40 + 3, step=2**33 + 1), (dropped, mask))
        assert_same(B.dropout_backward(dy, mask, p), F.dropout_backward(dy, mask, p))


@DTYPES
@pytest.mark.parametrize("case", LOGITS, ids=str)
def test_softmax_and_its_cross_entropy(case: Logits, dtype: npt.DTypeLike) -> None:
    logits = 20 * draws(case.n, case.classes, dtype=dtype)
    labels = np.arange(case.n) * 7 % case.classes
    # A sum of up to 100 positive terms, exponentials of two libraries: a few dozen roundings.
    tolerance = 64 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(B.softmax(logits), F.softmax(logits), rtol=tolerance, atol=1e-30)
    loss, dlogits = F.softmax_cross_entropy(logits, labels)
    our_loss, our_dlogits = B.softmax_cross_entropy(logits, labels)
    assert math.isclose(our_loss, loss, rel_tol=tolerance, abs_tol=tolerance)
    assert our_dlogits.dtype == dlogits.dtype
    np.testing.assert_allclose(our_dlogits, dlogits, rtol=tolerance, atol=tolerance / case.n)


@DTYPES
def test_updates(dtype: npt.DTypeLike) -> None:
    tolerance = 16 * float(np.finfo(dtype).eps)
    start = [draws(1000, seed=i, dtype=dtype) for i in range(3)]
    ours, theirs = [[*map(np.copy, start), np.abs(start[1])] for _ in range(2)]
    for step in (1, 2, 3):
        grad = draws(1000, seed=10 + step, dtype=dtype)
        for ops, (param, m, velocity, v) in ((F, ours), (B, theirs)):
            ops.adam_step(param, grad, m, v, step=step, lr=1e-2, l2=1e-3, weight_decay=0.5)
            ops.sgd_step(param, grad, velocity, lr=1e-2, momentum=0.9, l2=1e-3)
            ops.ema_update(m, param, 0.9)
    for one, other in zip(theirs, ours, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=4 * tolerance)
    assert math.isclose(B.sum_squares(ours[0]), F.sum_squares(ours[0]), rel_tol=1e-7)


def test_philox_gives_the_published_words() -> None:
    """The known answers of Random123, key and counter all zeros and all ones."""
    zeros = philox.words(np.zeros(1, np.uint64), 0, seed=0, step=0)[:, 0]
    assert [f"{word:08x}" for word in zeros] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    most = 2**64 - 1
    ones = philox.words(np.array([most], np.uint64), 0xFFFF, seed=most, step=most)[:, 0]
    assert [f"{word:08x}" for word in ones] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


AUGMENTATIONS = [
    {},
    {"clip": 3.0},
    {"shift": 2, "contrast": 0.1, "brightness": 0.1, "clip": 3.0},
    {"rotate": 0.17, "scale": 0.12, "shear": 0.2, "translate": 2.0, "clip": 3.0},
    {"elastic": 3.0},
    {"rotate": 0.17, "translate": 2.0, "elastic": 5.0, "shift": 2},
    {"rotate": 3.0, "scale": 0.9, "translate": 28.0, "shift": 56, "contrast": 0.5},
]


@pytest.mark.parametrize("options", AUGMENTATIONS, ids=str)
def test_input_batch(options: dict[str, float]) -> None:
    generator = np.random.default_rng(5)
    digits = generator.integers(0, 256, (30, 28, 28)).astype(np.uint8)
    pairs = generator.integers(0, 30, (50, 2)).astype(np.int32)
    samples = generator.integers(0, 50, 33)
    mean = generator.uniform(0, 1, (28, 56)).astype(np.float32)
    std = generator.uniform(0.1, 1, (28, 56)).astype(np.float32)
    table = (digits, pairs, samples, mean, std)
    ours = F.input_batch(*table, **options, seed=2**40 + 9, step=4)  # type: ignore[arg-type]
    theirs = B.input_batch(*table, **options, seed=2**40 + 9, step=4)  # type: ignore[arg-type]
    assert theirs.dtype == np.float32
    assert theirs.shape == (33, 1, 28, 56)
    # A place in the digit is good to 1e-5 pixels in float32, and a pixel further is up to 1 / std = 10.
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=4e-4)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_steps_agree_in_every_weight(architecture: str) -> None:
    """A few steps in float64 with dropout and L2: the same masks, losses and weights."""
    x, labels = draws(8, 1, 28, 56, dtype=np.float64), np.arange(8) * 12
    runs: list[tuple[list[float], list[Array]]] = []
    ops: Operations
    for ops in (F, B):
        model = models.ARCHITECTURES[architecture](dropout=0.4, seed=3, dtype=np.float64)
        model.use(ops)
        adam = optim.Adam(model.parameters(), lr=1e-3, reg_lambda=1e-2, ops=ops)
        average = optim.ExponentialAverage(model.tensors(), 0.99, ops)
        trace = []
        for _ in range(2):
            trace.append(train_step(model, adam, x, labels))
            average.update()
        runs.append((trace, [t.value for t in model.tensors()] + average.averages))
    (our_trace, ours), (their_trace, theirs) = runs
    np.testing.assert_allclose(their_trace, our_trace, rtol=1e-10)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


def test_a_model_changes_backend_and_back() -> None:
    model = models.cnn(seed=1)
    x = draws(3, 1, 28, 56)
    before = model(x)
    model.use(B)
    assert_sum_close(model(x), before, 3136)
    model.use(F)
    assert_same(model(x), before)


def test_the_loss_takes_a_backend() -> None:
    logits, labels = draws(4, 100), np.arange(4)
    loss, _ = losses.SoftmaxCrossEntropy(B)(logits, labels)
    assert math.isclose(loss, losses.SoftmaxCrossEntropy()(logits, labels)[0], rel_tol=1e-5)


def test_an_epoch_agrees() -> None:
    """The whole recipe: augmentation, dropout, L2 and averaged weights."""
    recipe = tiny_recipe(reg_lambda=0.1)
    ours, our_result, our_trace = traced(recipe)
    theirs, their_result, their_trace = traced(recipe, backend=backends.Numpy())
    assert len(our_trace) == 3
    # Adam divides a gradient by its own size, which magnifies rounding where gradients are tiny.
    np.testing.assert_allclose(their_trace, our_trace, rtol=1e-4)
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        np.testing.assert_allclose(one.value, other.value, atol=1e-3)
    assert their_result.dev_accuracy == pytest.approx(our_result.dev_accuracy, abs=0.1)
