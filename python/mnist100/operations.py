"""What a network and its training compute with: `functional`, or a module with the same functions."""

from __future__ import annotations

from typing import Any, Protocol

from ._checks import Array, IntOrPair


class Operations(Protocol):
    """The functions of a backend, with the contracts that `functional` documents."""

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
    ) -> Array: ...

    def conv2d_backward(
        self,
        dy: Array,
        x: Array,
        w: Array,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        *,
        need_dx: bool = True,
    ) -> tuple[Array | None, Array, Array]: ...

    def max_pool2d(
        self,
        x: Array,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
    ) -> tuple[Array, Array]: ...

    def max_pool2d_backward(
        self,
        dy: Array,
        argmax: Array,
        x_shape: tuple[int, int, int, int],
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
    ) -> Array: ...

    def conv_block(self, x: Array, w: Array, b: Array) -> tuple[Array, Any]: ...

    def conv_block_backward(
        self, dy: Array, cache: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Array, Array]: ...

    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]: ...

    def batch_norm_relu(
        self,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        *,
        pool: bool = False,
        eps: float = 1e-5,
    ) -> tuple[Array, Any]: ...

    def batch_norm_relu_backward(self, dy: Array, cache: Any) -> tuple[Array, Array, Array]: ...

    def split_halves(self, x: Array) -> Array: ...

    def join_halves(self, halves: Array) -> Array: ...

    def pair_logits(self, scores: Array) -> Array: ...

    def pair_logits_backward(self, dz: Array) -> Array: ...

    def linear(self, x: Array, w: Array, b: Array | None = None) -> Array: ...

    def linear_backward(
        self, dy: Array, x: Array, w: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, Array, Array]: ...

    def linear_block(
        self, x: Array, w: Array, b: Array, p: float, *, seed: int, step: int
    ) -> Array: ...

    def linear_block_backward(
        self, dy: Array, y: Array, x: Array, w: Array, p: float, *, need_dx: bool = True
    ) -> tuple[Array | None, Array, Array]: ...

    def relu(self, x: Array) -> Array: ...

    def relu_backward(self, dy: Array, y: Array) -> Array: ...

    def dropout(self, x: Array, p: float, *, seed: int, step: int) -> tuple[Array, Array]: ...

    def dropout_backward(self, dy: Array, mask: Array, p: float) -> Array: ...

    def softmax(self, x: Array) -> Array: ...

    def softmax_cross_entropy(self, logits: Array, labels: Array) -> tuple[float, Array]: ...

    def adam_step(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        *,
        step: int,
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        l2: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None: ...

    def sgd_step(
        self,
        param: Array,
        grad: Array,
        velocity: Array,
        *,
        lr: float,
        momentum: float = 0.0,
        l2: float = 0.0,
    ) -> None: ...

    def ema_update(self, average: Array, param: Array, decay: float) -> None: ...

    def sum_squares(self, x: Array) -> float: ...

    def input_batch(
        self,
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
    ) -> Array: ...
