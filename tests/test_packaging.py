"""The package installs everything that it imports, under one name, and declares its dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = {"kard": ROOT / "kard", "kard.programs": ROOT / "programs", "kard.store": ROOT / "store"}


def packages_on_disk() -> set[str]:
    """Return every folder with an __init__.py, by its name once installed."""
    return {
        ".".join([room, *init.parent.relative_to(folder).parts])
        for room, folder in ROOMS.items()
        for init in folder.rglob("__init__.py")
    }


def sources() -> list[Path]:
    return sorted(file for folder in ROOMS.values() for file in folder.rglob("*.py"))


def normal(requirement: str) -> str:
    """Return the normal spelling of a distribution's name."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(file: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_every_package_on_disk_is_installed() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_every_folder_with_code_is_a_package() -> None:
    assert [str(f) for f in sources() if not (f.parent / "__init__.py").exists()] == []


def test_every_other_kind_of_file_is_installed() -> None:
    kinds = {
        file.suffix or file.name
        for folder in ROOMS.values()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert kinds <= {".py", ".sql", ".typed", ".html", ".css", ".js", ".jinja"}
    assert "*.sql" in PROJECT["tool"]["setuptools"]["package-data"]["*"]
    installed = {
        file
        for package, names in PROJECT["tool"]["setuptools"]["package-data"].items()
        for name in names
        if package != "*"
        for file in (ROOT / package.replace(".", "/")).glob(name)
    }
    assert {
        file for kind in ("html", "css", "js", "jinja") for file in (ROOT / "kard").rglob(f"*.{kind}")
    } <= installed


def test_every_import_is_a_declared_dependency() -> None:
    optional = PROJECT["project"]["optional-dependencies"]
    declared = {
        normal(r) for r in [*PROJECT["project"]["dependencies"], *(r for e in optional.values() for r in e)]
    }
    # dspy-ai installs dspy, and transformers its tokenizers and hub client.
    declared |= {"dspy", "tokenizers", "huggingface-hub"}
    owners = packages_distributions()
    undeclared: dict[str, str] = {}
    for file in sources():
        for name in imported(file) - sys.stdlib_module_names - {"kard"}:
            if not {normal(owner) for owner in owners.get(name, [name])} & declared:
                undeclared[name] = str(file.relative_to(ROOT))
    assert undeclared == {}


def test_optional_dependencies_are_imported_inside_functions_only() -> None:
    extras = {"pyarrow", "cogapp", "matplotlib"}
    at_the_top: list[str] = []
    for file in sources():
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for node in body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            at_the_top += [f"{file.name}: {n}" for n in names if n.partition(".")[0] in extras]
    assert at_the_top == []


def test_torch_is_older_than_the_release_that_installs_gigabytes() -> None:
    assert [r for r in PROJECT["project"]["dependencies"] if normal(r) == "torch"] == ["torch>=2.7,<2.14"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the names in a wheel, built without network from a copy of the checkout."""
    import shutil

    try:
        recent = int(version("setuptools").partition(".")[0]) >= 80
    except PackageNotFoundError:
        recent = False
    if not recent:
        pytest.skip("setuptools>=80 is not in this environment; .ci/run builds the wheel in one of its own")
    copy = tmp_path_factory.mktemp("build") / "checkout"
    copy.mkdir()
    for name in ("kard", "programs", "store"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(copy / "dist"),
        str(copy),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    (built,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_adds_one_name_to_site_packages(wheel: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"kard"}


def test_the_wheel_holds_every_source_and_every_query(wheel: list[str]) -> None:
    sources = {
        "/".join([*room.split("."), *file.relative_to(folder).parts])
        for room, folder in ROOMS.items()
        for kind in ("*.py", "*.sql", "*.html", "*.css", "*.jinja", "py.typed")
        for file in folder.rglob(kind)
    }
    assert "kard/store/tables.sql" in sources
    assert sources - set(wheel) == set()


def test_no_source_reads_pickles_or_runs_code_of_models() -> None:
    forbidden = re.compile(r"\b(?:import pickle|pickle\.load|torch\.load|joblib|trust_remote_code\s*=\s*True)\b")
    assert [str(f.relative_to(ROOT)) for f in sources() if forbidden.search(f.read_text(encoding="utf-8"))] == []
