"""What functional refuses, in which words, and what it takes without a copy."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from calls import call_with, refused, valid
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, draws, whole

# The arrays of floats that each function takes, written-to ones apart.
READ = [
    (name, argument)
    for name, (_, arguments) in valid().items()
    for argument, value in arguments.items()
    if isinstance(value, np.ndarray)
    and value.dtype == np.float32
    and argument not in ("out", "param", "m", "v", "velocity", "average")
]
WRITTEN = [
    ("gemm", "out"),
    ("adam_step", "param"),
    ("adam_step", "m"),
    ("adam_step", "v"),
    ("sgd_step", "param"),
    ("sgd_step", "velocity"),
    ("ema_update", "average"),
]


@pytest.mark.parametrize("name", valid())
def test_the_good_calls_are_good(variant: str, name: str) -> None:
    call_with(name)


@pytest.mark.parametrize(("name", "argument"), READ + WRITTEN)
def test_dtypes(name: str, argument: str) -> None:
    good: Array = valid()[name][1][argument]
    for dtype in ("float16", "int32", "int64", "bool", "complex64", "object", "longdouble"):
        if np.dtype(dtype) not in (np.float32, np.float64):  # longdouble is, on some machines
            refused(name, argument, good.astype(dtype), TypeError, str(np.dtype(dtype)))
    swapped = good.astype(good.dtype.newbyteorder())
    refused(name, argument, swapped, TypeError, str(swapped.dtype))
    for other in (good.tolist() * 100, 1.0, None, "x"):
        optional = other is None and (name, argument) in {
            ("gemm", "out"),
            ("conv2d", "b"),
            ("linear", "b"),
        }
        if not optional:
            refused(name, argument, other, TypeError, type(other).__name__)


@pytest.mark.parametrize(("name", "argument"), READ + WRITTEN)
def test_float32_and_float64_do_not_mix(name: str, argument: str) -> None:
    arrays = [v for v in valid()[name][1].values() if isinstance(v, np.ndarray)]
    if sum(a.dtype == np.float32 for a in arrays) > 1:
        with pytest.raises(TypeError, match=r"float(32|64), like the other arguments"):
            call_with(name, **{argument: valid()[name][1][argument].astype(np.float64)})


@pytest.mark.parametrize(("name", "argument"), READ + WRITTEN)
def test_layouts(variant: str, name: str, argument: str) -> None:
    """Copied once if only read; refused, unchanged, if written to."""
    good: Array = valid()[name][1][argument]
    unaligned = np.empty(good.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(good.shape)
    spread = np.empty((*good.shape[:-1], 2 * good.shape[-1]), np.float32)[..., ::2]
    backwards = np.empty_like(good)[..., ::-1]
    for odd in (unaligned, spread, backwards, np.asfortranarray(good)):
        odd[...] = good
        if (name, argument) in WRITTEN:
            refused(name, argument, odd, ValueError, "contiguous")
        else:
            assert_same(plain(call_with(name, **{argument: odd})), plain(call_with(name)))
        assert_same(np.array(odd), np.array(good))
    if (name, argument) in WRITTEN:
        good.flags.writeable = False
        refused(name, argument, good, ValueError, "read-only")


def plain(result: object) -> object:
    """A result in arrays only."""
    if isinstance(result, tuple):
        return tuple(plain(part) for part in result)
    if isinstance(result, F.BlockCache):
        return result.x, result.y, result.argmax, result.w
    if isinstance(result, F.NormCache):
        return result.x, result.argmax, result.mean, result.inv_std, result.gamma, result.beta
    return result


@pytest.mark.parametrize(("name", "argument"), READ)
def test_inputs_are_never_modified(variant: str, name: str, argument: str) -> None:
    function, arguments = valid()[name]
    arguments[argument].flags.writeable = False
    before = arguments[argument].copy()
    function(**arguments)
    assert_same(arguments[argument], before)


OVERLAPS = [
    ("gemm", "out", "a", (5, 3)),
    ("gemm", "out", "b", (5, 3)),
    ("adam_step", "param", "grad", (5, 7)),
    ("adam_step", "param", "m", (5, 7)),
    ("adam_step", "m", "v", (5, 7)),
    ("adam_step", "v", "grad", (5, 7)),
    ("sgd_step", "param", "velocity", (5, 7)),
    ("sgd_step", "velocity", "grad", (5, 7)),
    ("ema_update", "average", "param", (5, 7)),
]


@pytest.mark.parametrize(("name", "written", "other", "shape"), OVERLAPS)
def test_overlap(name: str, written: str, other: str, shape: tuple[int, int]) -> None:
    memory = draws(100)
    rows = valid()[name][1][other].shape
    changes = {
        written: memory[: shape[0] * shape[1]].reshape(shape),
        other: memory[10 : 10 + rows[0] * rows[1]].reshape(rows),
    }
    before = memory.copy()
    with pytest.raises(ValueError, match=f"^({written}|{other}): got memory that overlaps"):
        call_with(name, **changes)
    assert_same(memory, before)


def test_neighbours_do_not_overlap() -> None:
    memory = whole(75)
    a, b, out = memory[:35], memory[35:56], memory[56:71]
    F.gemm(a.reshape(5, 7), b.reshape(7, 3), out=out.reshape(5, 3))
    assert_same(out, (a.reshape(5, 7) @ b.reshape(7, 3)).ravel())


SHAPES: list[tuple[str, str, tuple[int, ...]]] = [
    ("gemm", "a", (7,)),
    ("gemm", "b", (8, 3)),
    ("gemm", "out", (3, 5)),
    ("im2col", "x", (3, 6, 6)),
    ("im2col", "x", (2, 0, 6, 6)),
    ("col2im", "cols", (32, 28)),
    ("col2im", "cols", (31, 27)),
    ("conv2d", "x", (2, 3, 6)),
    ("conv2d", "w", (4, 2, 3, 3)),
    ("conv2d", "w", (0, 3, 3, 3)),
    ("conv2d", "b", (3,)),
    ("conv2d", "b", (4, 1)),
    ("conv2d_backward", "dy", (2, 4, 4, 5)),
    ("max_pool2d", "x", (2, 3, 36)),
    ("max_pool2d_backward", "dy", (2, 3, 3, 4)),
    ("conv_block", "w", (4, 3, 2, 3)),
    ("conv_block", "x", (2, 3, 1, 6)),
    ("conv_block", "b", (5,)),
    ("conv_block_backward", "dy", (2, 4, 3, 2)),
    ("batch_norm_stats", "x", (3, 6, 6)),
    ("batch_norm_stats", "x", (0, 3, 6, 6)),
    ("batch_norm_relu", "x", (2, 3, 1, 6)),
    ("batch_norm_relu", "mean", (4,)),
    ("batch_norm_relu", "var", (3, 1)),
    ("batch_norm_relu", "gamma", (1,)),
    ("batch_norm_relu", "beta", (2,)),
    ("batch_norm_relu_backward", "dy", (2, 3, 6, 6)),
    ("split_halves", "x", (2, 3, 6, 5)),
    ("split_halves", "x", (3, 6, 6)),
    ("join_halves", "halves", (3, 3, 6, 6)),
    ("pair_logits", "scores", (3, 5)),
    ("pair_logits", "scores", (4, 0)),
    ("pair_logits_backward", "dz", (4, 8)),
    ("pair_logits_backward", "dz", (4, 0)),
    ("linear", "x", (2, 5, 7)),
    ("linear", "w", (3, 8)),
    ("linear", "b", (4,)),
    ("linear_backward", "dy", (5, 4)),
    ("relu_backward", "dy", (7, 5)),
    ("softmax", "x", (5,)),
    ("softmax", "x", (5, 0)),
    ("softmax_cross_entropy", "logits", (0, 7)),
    ("adam_step", "m", (35,)),
    ("adam_step", "v", (5, 8)),
    ("sgd_step", "velocity", (7, 5)),
    ("ema_update", "average", (5, 6)),
]


@pytest.mark.parametrize(("name", "argument", "shape"), SHAPES)
def test_shapes(name: str, argument: str, shape: tuple[int, ...]) -> None:
    refused(name, argument, np.zeros(shape, np.float32), ValueError, str(shape)[:-1])


VALUES: list[tuple[str, str, object, type[Exception]]] = [
    ("gemm", "alpha", float("nan"), ValueError),
    ("gemm", "alpha", 10**400, ValueError),
    ("gemm", "beta", float("inf"), ValueError),
    ("gemm", "beta", "1", TypeError),
    ("im2col", "kernel_size", 0, ValueError),
    ("im2col", "kernel_size", 7, ValueError),
    ("im2col", "kernel_size", (3, 3, 3), ValueError),
    ("im2col", "kernel_size", np.array([3, 3]), TypeError),
    ("im2col", "kernel_size", 3.0, TypeError),
    ("im2col", "kernel_size", True, TypeError),
    ("im2col", "stride", 0, ValueError),
    ("im2col", "stride", 2**64, ValueError),
    ("im2col", "padding", -1, ValueError),
    ("im2col", "padding", 2**31 - 1, ValueError),
    ("conv2d", "padding", 2**63 - 1, ValueError),
    ("conv2d", "stride", (1, -1), ValueError),
    ("col2im", "x_shape", (2, 3, 6), ValueError),
    ("col2im", "x_shape", (2, 3, 6, 2**62), ValueError),
    ("col2im", "x_shape", (-1, 3, 6, 6), ValueError),
    ("max_pool2d", "padding", 2, ValueError),
    ("max_pool2d", "stride", (0, 1), ValueError),
    ("max_pool2d_backward", "argmax", np.full((2, 3, 3, 3), 36), ValueError),
    ("max_pool2d_backward", "argmax", np.full((2, 3, 3, 3), -1), ValueError),
    ("max_pool2d_backward", "argmax", np.zeros((2, 3, 3, 4), np.int32), ValueError),
    ("max_pool2d_backward", "argmax", np.zeros((2, 3, 3, 3)), TypeError),
    ("batch_norm_relu", "var", np.full(3, -0.1, np.float32), ValueError),
    ("batch_norm_relu", "var", np.full(3, np.nan, np.float32), ValueError),
    ("batch_norm_relu", "eps", -1.0, ValueError),
    ("batch_norm_relu", "eps", float("inf"), ValueError),
    ("dropout", "p", 1.0, ValueError),
    ("dropout", "p", -0.1, ValueError),
    ("dropout", "p", float("nan"), ValueError),
    ("dropout", "seed", -1, ValueError),
    ("dropout", "seed", 1.0, TypeError),
    ("dropout", "step", 2**64, ValueError),
    ("dropout_backward", "p", 1.0, ValueError),
    ("dropout_backward", "mask", np.ones((5, 7), bool), TypeError),
    ("dropout_backward", "mask", np.ones((5, 8), np.uint8), ValueError),
    ("softmax_cross_entropy", "labels", np.arange(4), ValueError),
    ("softmax_cross_entropy", "labels", np.full(5, 7), ValueError),
    ("softmax_cross_entropy", "labels", np.full(5, -1), ValueError),
    ("softmax_cross_entropy", "labels", np.full(5, 2**63, np.uint64), ValueError),
    ("softmax_cross_entropy", "labels", np.zeros(5), TypeError),
    ("softmax_cross_entropy", "labels", np.zeros((5, 1), int), ValueError),
    ("adam_step", "step", 0, ValueError),
    ("adam_step", "step", 1.0, TypeError),
    ("adam_step", "lr", float("inf"), ValueError),
    ("adam_step", "lr", -1.0, ValueError),
    ("adam_step", "beta1", 1.0, ValueError),
    ("adam_step", "beta2", -0.1, ValueError),
    ("adam_step", "eps", float("nan"), ValueError),
    ("adam_step", "l2", None, TypeError),
    ("adam_step", "weight_decay", -0.1, ValueError),
    ("sgd_step", "momentum", 1.0, ValueError),
    ("ema_update", "decay", 1.1, ValueError),
]


@pytest.mark.parametrize(("name", "argument", "value", "error"), VALUES)
def test_values(name: str, argument: str, value: object, error: type[Exception]) -> None:
    refused(name, argument, value, error)


def test_gemm_needs_out_for_beta() -> None:
    with pytest.raises(
        ValueError, match=r"^out: got None, wants a \(2, 2\) array, since beta is 1"
    ):
        F.gemm(draws(2, 2), draws(2, 2), beta=1.0)


@pytest.mark.parametrize("n", [-1, 1.5])
def test_permutation_length(n: int) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^n: got"):
        F.permutation(n, seed=0)


def test_contiguous_float32_passes_without_a_copy() -> None:
    a, b, out = (np.ones((500, 500), np.float32) for _ in range(3))
    F.gemm(a, b, out=out)  # scratch memory is kept by the thread
    tracemalloc.start()
    try:
        F.gemm(a, b, out=out)
        F.adam_step(a, b, out, np.ones_like(a), step=1, lr=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * a.nbytes  # np.ones_like above is one


# What the bindings themselves refuse, so that no caller of theirs can harm memory.
def test_the_bindings_guard_memory() -> None:
    x = np.zeros((1, 1, 1, 1), np.float32)
    for padding in ((2**31, 2**31), (2**63 - 1, 0), (-1, 0)):
        with pytest.raises(ValueError, match=r"^mnist100._core: "):
            _core.im2col(x, (2, 2), (1, 1), padding)
    with pytest.raises(ValueError, match=r"^argmax: got the index 1, wants 0 to 0"):
        _core.max_pool2d_backward(
            x, np.ones(x.shape, np.int32), (1, 1, 1, 1), (1, 1), (1, 1), (0, 0)
        )
    with pytest.raises(ValueError, match=r"^labels: got the index 2, wants 0 to 1"):
        _core.softmax_cross_entropy(np.zeros((1, 2), np.float32), np.array([2]))
    for bad in (x.astype(np.float16), np.zeros((1, 1, 4, 4), np.float32)[..., ::2], x.tolist()):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _core.pad_nhwc(bad, (1, 1))
