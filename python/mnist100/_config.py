"""What the installed extension is and what it runs on."""

from __future__ import annotations

import sys
from typing import Any

from . import _checks as check
from . import _core

_OF_NO_CPU = ("cuda", "cuda_tf32", "cuda_bf16", "reference")  # kernels that are no instruction set


def config() -> dict[str, Any]:
    """The facts of `show_config`, as plain JSON-ready values."""
    return {
        "version": _core.version,
        "compiler": _core.compiler(),
        "flags": _core.flags,
        "isas_built": [name for name in _core.isas() if name not in _OF_NO_CPU],
        "isas_supported": [name for name in _core.supported_isas() if name not in _OF_NO_CPU],
        "isa": _core.isa(),
        "openmp": _core.has_openmp(),
        "threads": _core.num_threads(),
        "gpu": _core.device_name() if "cuda" in _core.supported_isas() else None,
        "cuda": "cuda" in _core.isas(),
    }


def _cuda(facts: dict[str, Any]) -> str:
    if not facts["cuda"]:
        return "no"
    return facts["gpu"] or "built, but no GPU was found"


def show_config() -> None:
    """Print version, compiler, flags, instruction sets built and active, threads, OpenMP and CUDA."""
    facts = config()
    openmp = "yes" if facts["openmp"] else "no (serial build: one thread)"
    lines = [
        ("mnist100", facts["version"]),
        ("compiler", facts["compiler"]),
        ("flags", facts["flags"]),
        ("instruction sets", f"built {', '.join(facts['isas_built'])}; active {facts['isa']}"),
        ("OpenMP", openmp),
        ("threads", facts["threads"]),
        ("CUDA", _cuda(facts)),
    ]
    sys.stdout.writelines(f"{name + ':':<18}{value}\n" for name, value in lines)


def set_num_threads(n: int) -> None:
    """Use n threads in every kernel from now on; n may exceed the number of cores.

    Results do not depend on it. A forked child always runs on one.
    """
    _core.set_num_threads(check.integer("n", n, 1, 1024))
