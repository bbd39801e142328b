"""With what a run was made: what its ``config.toml`` says beside the recipe."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

from mnist100._config import config
from mnist100.data import Splits, Table, checksum


def environment(backend: str) -> dict[str, str | int]:
    """Return versions, platform, compiler, instruction set and threads of this process."""
    facts = config()
    versions = {name: importlib.metadata.version(name) for name in ("mnist100", "numpy")}
    if backend == "torch":
        versions["torch"] = importlib.metadata.version("torch")
    return {
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "compiler": facts["compiler"],
        "isa": facts["isa"],
        "threads": facts["threads"],
    }


def data_checksums(splits: Splits) -> dict[str, str]:
    """Return the SHA-256 of each split's table (`mnist100.data.checksum`), by name."""
    return table_checksums({"train": splits.train, "dev": splits.dev, "test": splits.test})


def table_checksums(tables: Mapping[str, Table | None]) -> dict[str, str]:
    """Return the SHA-256 of some tables, by name; those that are None are left out."""
    return {
        f"{name}_sha256": checksum(table) for name, table in tables.items() if table is not None
    }
