"""Imports run downwards and in no circle; SQL stands in store/queries; kard/ names no task; modules are short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS: tuple[tuple[str, ...], ...] = (  # top to bottom; a module may import its own folder and lower layers
    ("__init__", "__main__"),
    ("cli",),
    ("serve",),
    ("pipeline", "ui"),
    ("evaluation.page",),
    ("evaluation",),
    ("api",),
    ("publish", "retrieval"),
    ("reranker", "teacher", "student.training", "student.generation"),
    ("student",),
    ("encoders",),
    ("models", "knowledge"),
    ("work",),
    ("answers", "metrics"),
    (
        "acceptance",
        "config",
        "methods",
        "db",
        "errors",
        "files",
        "outgoing",
        "passages",
        "processes",
        "progress",
        "questions",
        "reading",
        "recipes",
        "records",
        "schema",
        "tasks",
        "version",
    ),
)
OF_PROGRAMS = {"kard.config", "kard.errors", "kard.files", "kard.records", "kard.tasks"}
LONGEST = 400  # lines of a module
SQL = re.compile(r"\s*(select|insert (or \w+ )?into|delete from|update \w+\s+set|with (recursive )?\w+ (\(|as))\s")


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def module_of(file: Path) -> str:
    """Return the dotted name: kard/cli/run.py is kard.cli.run and kard/cli/__init__.py is kard.cli."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES: Mapping[str, Path] = {module_of(file): file for file in files("kard")}


def names_imported(file: Path) -> Iterator[str]:
    """Yield what a file imports anywhere in it: at the top, in functions, under TYPE_CHECKING, by import_module."""
    package = list(file.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("import_module", "files"):
            for argument in node.args[:1]:
                first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value.rstrip(".")  # f"kard.cli.{name}" counts as kard.cli


def imports(file: Path) -> set[str]:
    """Return the modules of kard/ that a file imports: `kard.tasks.load` is the module kard.tasks."""
    modules: set[str] = set()
    for name in names_imported(file):
        if name.startswith(("kard.programs", "kard.store")):  # folders of their own, beside kard/
            continue
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        modules.add(name)
    return modules - {"", module_of(file)}


def layer_of(module: str) -> tuple[int, str]:
    """Return the layer's number, 0 at the top, and the folder or file of the table that the module belongs to."""
    inside = "__init__" if module == "kard" else module.removeprefix("kard.")
    for length in (2, 1):
        room = ".".join(inside.split(".")[:length])
        for number, rooms in enumerate(LAYERS):
            if room in rooms:
                return number, room
    raise AssertionError(f"{module} is in no layer; add its folder to LAYERS")


def test_imports_form_no_circle() -> None:
    try:
        TopologicalSorter({module: imports(file) for module, file in MODULES.items()}).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_imports_run_downwards() -> None:
    upward: list[str] = []
    vocabulary = len(LAYERS) - 1
    for module, file in MODULES.items():
        number, room = layer_of(module)
        for other in sorted(imports(file)):
            below, room_below = layer_of(other)
            if not (below > number or room_below == room or below == number == vocabulary):
                upward.append(f"{module} imports {other}")
    assert not upward, "\n".join(upward)


def test_the_folders_and_files_of_the_package_stand_on_few_floors() -> None:
    """A folder or file of kard/ stands one floor above the highest of those that it imports."""
    rooms: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        room = ".".join(module.split(".")[:2])
        below = {".".join(other.split(".")[:2]) for other in imports(file)}
        rooms[room] = rooms.get(room, set()) | below - {room}
    floors: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        floors[room] = 1 + max((floors[below] for below in rooms[room]), default=0)
    assert len(rooms) <= 36
    assert max(floors.values()) <= 11


def test_programs_import_the_vocabulary_alone() -> None:
    assert {f"{f.name}: {m}" for f in files("programs") for m in imports(f) - OF_PROGRAMS} == set()


def test_programs_and_the_store_are_each_read_by_one_module() -> None:
    for folder, door in (("kard.programs", "kard.tasks"), ("kard.store", "kard.db")):
        names = {module: set(names_imported(file)) for module, file in MODULES.items()}
        assert {m for m in names if any(f"{name}.".startswith(f"{folder}.") for name in names[m])} == {door}


def test_no_task_is_named_in_the_package() -> None:
    names = {f.stem for f in (ROOT / "programs").glob("[a-z]*.py")} | {
        f.parent.name for f in (ROOT / "programs").glob("[a-z]*/__init__.py")
    }
    assert "strategyqa" in names
    # `choice` is also an English word, and click's name for one.
    words = re.compile(rf"\b(?:{'|'.join(sorted(names - {'choice'}))})\b", re.I)
    assert [str(f.relative_to(ROOT)) for f in files("kard") if words.search(f.read_text(encoding="utf-8"))] == []


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for folder in ("kard", "programs", "store")
        for file in files(folder)
    }
    assert {file: lines for file, lines in lengths.items() if lines > LONGEST} == {}


def test_statements_of_several_lines_stand_in_files_of_their_own() -> None:
    """The knowledge base is a database of its own, without store/queries."""
    inline: list[str] = []
    for module, file in MODULES.items():
        if module.startswith("kard.knowledge") or module == "kard.db":
            continue
        tree = tree_of(file)
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            lines = (getattr(node, "end_lineno", 0), getattr(node, "lineno", 0))
            if id(node) not in documentation and lines[0] > lines[1] and SQL.match(text):
                inline.append(f"{file.relative_to(ROOT)}:{lines[1]}")
    assert not inline, "\n".join(inline)


def test_every_statement_that_is_not_listed_to_people_is_run() -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in MODULES.values())
    run = re.findall(r'"internal/(\w+)("|\{)', sources)  # f"internal/read_{source}" runs every read_*
    files = {file.stem for file in (ROOT / "store" / "queries" / "internal").glob("*.sql")}
    names = {name for name, end in run if end == '"'}
    assert {file for file in files - names if not any(file.startswith(n) for n, end in run if end == "{")} == set()
    assert names - files == set()
