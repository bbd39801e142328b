"""Any number of threads gives the same bits; choice of instruction set; the GIL; fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mnist100
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from mnist100.models import ARCHITECTURES
from mnist100.optim import Adam
from mnist100.training.step import train_step
from support import PATIENCE, Array, assert_same, draws, isa, run_python

THREADS = [2, 3, 7]
N = 37  # images: more than the 32 chunks of a batch, and not a multiple


def conv_block() -> tuple[Any, ...]:
    y, kept = F.conv_block(draws(N, 3, 10, 12), draws(20, 3, 3, 3), draws(20))
    return y, kept.argmax, *F.conv_block_backward(draws(*y.shape, seed=1), kept)


def conv_same() -> tuple[Any, ...]:
    x, w = _core.pad_nhwc(draws(N, 3, 10, 12), (1, 1)), draws(20, 3, 3, 3)
    y = _core.conv_same(x, w, draws(20), True, (1, 1))
    return y, *_core.conv_same_backward(draws(*y.shape, seed=1), x, y, w, (1, 1), False)


def batch_norm() -> tuple[Any, ...]:
    x, gamma, beta = draws(N, 20, 7, 6), draws(20, seed=1), draws(20, seed=2)
    found: tuple[Any, ...] = ()
    for pool in (False, True):
        mean, var = F.batch_norm_stats(x)
        y, kept = F.batch_norm_relu(x, mean, var, gamma, beta, pool=pool)
        back = F.batch_norm_relu_backward(draws(*y.shape, seed=3), kept)
        found += (mean, var, y, kept.argmax, *back)
    return found


def halves() -> tuple[Any, ...]:
    x, scores = draws(N, 3, 4, 10), draws(2 * 97, 10)
    logits = F.pair_logits(scores)
    split = F.split_halves(x)
    return split, F.join_halves(split), logits, F.pair_logits_backward(logits)


def conv_block_of_whole_vectors() -> tuple[Any, ...]:
    y, kept = F.conv_block(draws(N, 16, 10, 12), draws(32, 16, 3, 3), draws(32))
    return y, kept.argmax, *F.conv_block_backward(draws(*y.shape, seed=1), kept)


def conv_same_by_windows() -> tuple[Any, ...]:
    x, w = draws(N, 10, 9, 16), draws(32, 16, 3, 3)
    x[2, 3, 4, 5] = np.nan  # what is done together is done again together
    y = _core.conv_same(x, w, None, False, (1, 1))
    dx, dw, db = _core.conv_same_backward(y, x, None, w, (1, 1), True)
    assert dx is not None
    return y, _core.unpad_nhwc(dx, (1, 1)), dw, db


def conv2d() -> tuple[Any, ...]:
    x, w = draws(N, 3, 9, 8), draws(5, 3, 3, 2)
    y = F.conv2d(x, w, draws(5), 2, 1)
    return y, *F.conv2d_backward(draws(*y.shape, seed=1), x, w, 2, 1)


def max_pool() -> tuple[Any, ...]:
    x = draws(N, 3, 9, 8)
    y, argmax = F.max_pool2d(x, 3, 2, 1)
    return y, argmax, F.max_pool2d_backward(y, argmax, (N, 3, 9, 8), 3, 2, 1)


def max_pool_of_tiles() -> tuple[Any, ...]:
    x = draws(N, 3, 9, 37)
    y, argmax = F.max_pool2d(x, 2)
    return y, argmax, F.max_pool2d_backward(y, argmax, (N, 3, 9, 37), 2)


def layouts() -> tuple[Any, ...]:
    x = draws(N, 19, 5, 7)
    padded = _core.pad_nhwc(x, (1, 2))
    return padded, _core.unpad_nhwc(padded, (1, 2))


def columns() -> tuple[Any, ...]:
    cols = F.im2col(draws(N, 3, 9, 8), 3, 2, 1)
    return cols, F.col2im(cols, (N, 3, 9, 8), 3, 2, 1)


def linear() -> tuple[Any, ...]:
    x, w, dy = draws(300, 200), draws(100, 200), draws(300, 100)
    return F.linear(x, w, draws(100)), *F.linear_backward(dy, x, w)


def linear_block() -> tuple[Any, ...]:
    x, w, dy = draws(300, 200), draws(100, 200), draws(300, 100)
    y = F.linear_block(x, w, draws(100), 0.4, seed=1, step=2)
    few = F.linear(x[:3], w, draws(100))
    return y, few, *F.linear_block_backward(dy, y, x, w, 0.4)


def elementwise() -> tuple[Any, ...]:
    x, dy = draws(50_001), draws(50_001, seed=1)
    y = F.relu(x)
    z, mask = F.dropout(x, 0.4, seed=1, step=2)
    back = F.dropout_backward(dy, mask, 0.4)
    return y, F.relu_backward(dy, y), z, mask, back, F.sum_squares(x)


def loss() -> tuple[Any, ...]:
    logits = draws(200, 100)
    return F.softmax(logits), *F.softmax_cross_entropy(logits, np.arange(200) % 100)


def updates() -> tuple[Any, ...]:
    grad = draws(50_001)
    p, m, v, velocity, average = (draws(50_001, seed=seed) ** 2 for seed in range(1, 6))
    F.adam_step(p, grad, m, v, step=2, lr=0.1, l2=0.1, weight_decay=0.1)
    F.sgd_step(p, grad, velocity, lr=0.1, momentum=0.9)
    F.ema_update(average, p, 0.9)
    return p, m, v, velocity, average


def layout() -> tuple[Any, ...]:
    padded = _core.pad_nhwc(draws(N, 3, 9, 8), (1, 2))
    return padded, _core.unpad_nhwc(padded, (1, 2))


OPERATIONS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "gemm": lambda: (F.gemm(draws(301, 203), draws(203, 307)),),
    "gemm, few long sums": lambda: (F.gemm(draws(9, 5000), draws(5000, 17)),),
    "conv_block": conv_block,
    "conv_block, sparse": conv_block_of_whole_vectors,
    "conv_same": conv_same,
    "conv_same by windows": conv_same_by_windows,
    "batch_norm": batch_norm,
    "halves": halves,
    "conv2d": conv2d,
    "max_pool2d": max_pool,
    "max_pool2d of tiles": max_pool_of_tiles,
    "layouts": layouts,
    "im2col": columns,
    "linear": linear,
    "linear_block": linear_block,
    "elementwise": elementwise,
    "loss": loss,
    "updates": updates,
    "layout": layout,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_do_not_depend_on_threads(variant: str, name: str) -> None:
    mnist100.set_num_threads(1)
    expected = OPERATIONS[name]()
    for threads in THREADS:
        mnist100.set_num_threads(threads)
        for _ in range(2):  # which thread takes which chunk changes from run to run
            assert_same(OPERATIONS[name](), expected)


def three_steps(architecture: str) -> tuple[Any, ...]:
    model = ARCHITECTURES[architecture](seed=3)
    optimizer = Adam(model.parameters(), reg_lambda=0.1)
    labels = np.arange(N) % 100
    losses = [
        train_step(model, optimizer, draws(N, 1, 28, 56, seed=step), labels) for step in range(3)
    ]
    return *losses, *(p.value for p in model.parameters()), *optimizer.m, *optimizer.v


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_does_not_depend_on_threads(variant: str, architecture: str) -> None:
    mnist100.set_num_threads(1)
    expected = three_steps(architecture)
    for threads in THREADS:
        mnist100.set_num_threads(threads)
        assert_same(three_steps(architecture), expected)


def test_set_num_threads() -> None:
    for n in (1, 5, 1024):
        mnist100.set_num_threads(n)
        assert _core.num_threads() == n
    for bad, error in ((0, ValueError), (-1, ValueError), (1025, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match=r"^n: got"):
            mnist100.set_num_threads(bad)  # type: ignore[arg-type]


def test_more_threads_than_cores_or_chunks(variant: str) -> None:
    mnist100.set_num_threads(1)
    expected = OPERATIONS["conv_block"]()
    mnist100.set_num_threads(100)
    assert_same(OPERATIONS["conv_block"](), expected)


def test_set_isa() -> None:
    assert _core.supported_isas()[-1] == "reference"
    assert set(_core.supported_isas()) <= set(_core.isas())
    assert _core.isas()[0] == "baseline"
    before = _core.isa()
    for name in _core.supported_isas():
        with isa(name):
            assert _core.isa() == name
    assert _core.isa() == before
    for name in ["", "v5", "BASELINE", *(set(_core.isas()) - set(_core.supported_isas()))]:
        with pytest.raises(ValueError, match=f"^name: got '{name}', wants one of baseline"):
            _core.set_isa(name)
    assert _core.isa() == before


PRINT_ISA = "import mnist100; from mnist100 import _core; print(_core.isa())"


def test_the_environment_chooses_at_import() -> None:
    best = _core.supported_isas()[-2]
    for wanted, expected in {"": best, "baseline": "baseline", best: best}.items():
        result = run_python(PRINT_ISA, MNIST100_ISA=wanted)
        assert (result.stdout, result.stderr) == (f"{expected}\n", "")


def test_an_impossible_choice_is_a_clear_error() -> None:
    lacking = [name for name in _core.isas() if name not in _core.supported_isas()]
    for name in ["avx9000", "reference", *lacking]:
        result = run_python(PRINT_ISA, MNIST100_ISA=name)
        assert result.returncode == 1
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith(f"ImportError: MNIST100_ISA: got '{name}', wants")


def test_the_gil_is_released() -> None:
    """Another thread runs while a kernel does: without that, `ticks` could not move inside gemm.

    A busy machine may keep the other thread from running during one call, or a hundred, but not for ever.
    """
    a = np.ones((500, 500), np.float64)  # float64 goes to the naive loops: a tenth of a second
    ticks = 0
    # Most ticks during a call; two can fall beside it, between the call and a look at them.
    moved = 0
    end = time.monotonic() + PATIENCE

    def work() -> None:
        nonlocal moved
        while moved < 5 and time.monotonic() < end:
            before = ticks
            F.gemm(a, a)
            moved = max(moved, ticks - before)

    worker = threading.Thread(target=work)
    worker.start()
    while worker.is_alive():
        ticks += 1
        time.sleep(1e-3)
    assert moved >= 5


def test_threads_of_python_share_the_kernels() -> None:
    expected = OPERATIONS["conv_block"]()
    results: list[Any] = []
    workers = [
        threading.Thread(
            target=lambda: results.extend(OPERATIONS["conv_block"]() for _ in range(5))
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 20
    for result in results:
        assert_same(result, expected)


FORK = """
import os, sys, warnings
import numpy as np
import mnist100
from mnist100 import _core, functional as F

warnings.simplefilter("ignore", DeprecationWarning)  # of os.fork beside threads: the point here
mnist100.set_num_threads(4)
a = np.arange(90000, dtype=np.float32).reshape(300, 300) / 90000
expected = F.gemm(a, a)  # a pool of threads exists from here on
child = os.fork()
if child == 0:
    same = np.array_equal(F.gemm(a, a), expected) and _core.num_threads() == 1
    mnist100.set_num_threads(4)
    same = same and np.array_equal(F.gemm(a, a), expected) and _core.num_threads() == 1
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if np.array_equal(F.gemm(a, a), expected) else 1)
    same = same and os.waitpid(grandchild, 0)[1] == 0
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
same = np.array_equal(F.gemm(a, a), expected) and _core.num_threads() == 4
sys.exit(status or not same)
"""

POOL = """
import multiprocessing, warnings
import numpy as np
import mnist100
from mnist100 import functional as F

warnings.simplefilter("ignore", DeprecationWarning)
a = np.ones((300, 300), np.float32)

def run(i):
    return float(F.gemm(a, a).sum()) + i

if __name__ == "__main__":
    mnist100.set_num_threads(3)
    first = run(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(run, range(4)) == [first + i for i in range(4)]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("code", [FORK, POOL], ids=["fork", "multiprocessing"])
def test_forked_children_run_kernels(code: str) -> None:
    result = run_python(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_default_threads_follow_the_environment() -> None:
    code = "from mnist100 import _core; print(_core.num_threads(), _core.has_openmp())"
    result = run_python(code, OMP_NUM_THREADS="3")
    assert result.stdout.split() in (["3", "True"], ["1", "False"])


def test_results_have_memory_of_their_own() -> None:
    x: Array = draws(4, 4)
    assert not np.shares_memory(F.relu(x), x)
    assert not np.shares_memory(F.dropout(x, 0.0, seed=0, step=0)[0], x)
