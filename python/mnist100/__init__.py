"""Two-digit handwriting recognition with hand-written C++ kernels.

>>> from mnist100 import functional as F      # NumPy in, NumPy out
>>> model = mnist100.load_model("runs/cnn-1")
>>> model.predict(images)                     # uint8 (N, 28, 56) -> labels 0..99
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._openmp import short_spin

try:
    with short_spin():
        # `from . import _core` would hide which module is missing.
        importlib.import_module("._core", __name__)
except ModuleNotFoundError as error:
    if error.name != f"{__name__}._core":
        raise
    raise ImportError(
        "mnist100._core is missing: did you forget to compile? Run `pip install .` in the project "
        "folder, and import mnist100 from outside python/"
    ) from error

from . import _core

if TYPE_CHECKING:
    from . import (
        data,
        evaluation,
        export,
        functional,
        layers,
        losses,
        models,
        optim,
        search,
        training,
    )
    from ._config import set_num_threads, show_config
    from .estimator import MNIST100Classifier
    from .modelfile import load_model

__version__ = _core.version

__all__ = [
    "MNIST100Classifier",
    "__version__",
    "data",
    "evaluation",
    "export",
    "functional",
    "layers",
    "load_model",
    "losses",
    "models",
    "optim",
    "search",
    "set_num_threads",
    "show_config",
    "training",
]


_HOMES = {
    "MNIST100Classifier": ".estimator",
    "load_model": ".modelfile",
    "set_num_threads": "._config",
    "show_config": "._config",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Everything loads at first use, NumPy with it: `import mnist100` and `mnist100 --help` stay fast.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
