"""The package as installed: what it imports, prints, exports and declares."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
from pathlib import Path

import numpy as np
import pytest

import mnist100
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from mnist100._config import config
from support import run_python

PACKAGE = Path(mnist100.__file__).parent

HEAVY = ["matplotlib", "sklearn", "scipy", "pooch", "torch", "rich", "tomli_w", "optuna"]


def loaded_by(statement: str) -> set[str]:
    result = run_python(f"{statement}\nimport sys; print(*sys.modules)")
    assert result.stderr == ""
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import mnist100",
        "from mnist100 import functional, layers, losses, models, optim, modelfile",
    ],
)
def test_imports_are_light(statement: str) -> None:
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_nothing_imports_torch() -> None:
    statement = "import mnist100; [getattr(mnist100, name) for name in mnist100.__all__]"
    assert "torch" not in loaded_by(statement)


def test_what_it_exports() -> None:
    for name in mnist100.__all__:
        assert getattr(mnist100, name) is not None
    assert sorted(mnist100.__all__) == mnist100.__all__ == dir(mnist100)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mnist100.nothing
    assert len(set(F.__all__)) == len(F.__all__)
    for name in F.__all__:
        assert inspect.getdoc(getattr(F, name)), name


def test_version() -> None:
    assert mnist100.__version__ == _core.version == importlib.metadata.version("mnist100")


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    mnist100.set_num_threads(3)
    mnist100.show_config()
    printed = capsys.readouterr().out
    facts = config()
    for word in ("mnist100:", "compiler:", "flags:", "OpenMP:", "threads:", "CUDA:"):
        assert f"\n{word}" in f"\n{printed}"
    for key in ("version", "compiler", "flags", "isa", "threads"):
        assert str(facts[key]) in printed
    for name in facts["isas_built"]:
        assert name in printed
    assert "reference" not in printed
    assert facts["threads"] == 3
    assert facts["isa"] in facts["isas_supported"]
    assert set(facts["isas_supported"]) <= set(facts["isas_built"])


def test_the_stubs_name_what_the_extension_has() -> None:
    tree = ast.parse((PACKAGE / "_core.pyi").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    constants = {
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    present = {name for name in dir(_core) if not name.startswith("__")}
    stubs = {*functions, *classes, *(name for name in constants if not name.startswith("_"))}
    of_a_gpu = {*classes, "device_name", "dlpack_device"}
    assert present == (stubs if "cuda" in _core.isas() else stubs - of_a_gpu)
    for name, node in functions.items():
        if name not in present:
            continue
        # pybind11 puts the signature into the docstring, once for each overload.
        doc = getattr(_core, name).__doc__
        for argument in node.args.args:
            assert f"{argument.arg}: " in doc, (name, argument.arg)


def test_the_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()


def test_a_missing_extension_is_explained(tmp_path: Path) -> None:
    package = tmp_path / "mnist100"
    package.mkdir()
    for path in PACKAGE.glob("*.py"):
        (package / path.name).write_text(path.read_text())
    # Without site-packages: an editable installation would find the extension all the same.
    result = run_python("import mnist100", "-S", cwd=tmp_path)
    assert result.returncode == 1
    assert "ImportError: mnist100._core is missing: did you forget to compile?" in result.stderr


@pytest.mark.parametrize("module", ["functional", "layers", "losses", "optim", "models"])
def test_public_functions_have_docstrings(module: str) -> None:
    found = importlib.import_module(f"mnist100.{module}")
    for name, value in vars(found).items():
        is_own = getattr(value, "__module__", "").startswith("mnist100")
        if not name.startswith("_") and is_own and inspect.isroutine(value):
            assert inspect.getdoc(value), name


def test_arrays_that_come_back_can_be_written_to() -> None:
    y = F.relu(np.ones((2, 2), np.float32))
    y[0, 0] = 5
    assert y.flags.carray
