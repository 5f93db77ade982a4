"""Write the generated parts of the documents: `python docs/generate.py`, or `--check` to compare without writing.

Generated are the blocks between `[[[cog` and `[[[end]]]` in the pages. A block calls a function of this file, of
`worked_example.py`, of `reliability.py` or of `kard`.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from cogapp import Cog

from kard import config, tasks
from kard.cli import main
from kard.db import open_store
from kard.pipeline.parts import parts_of
from kard.schema import queries, relations

WIDTH = 100  # columns of the help texts
ROOT = Path(__file__).parents[1]  # of a checkout: an installed kard has no documents to write


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command and subcommand, as it is typed, with its context; in the order of `kard --help`."""

    def below(
        name: str, command: click.Command, parent: click.Context | None
    ) -> Iterator[tuple[str, click.Command, click.Context]]:
        context = click.Context(
            command,
            info_name=name,
            parent=parent,
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            # click passes these too; without them a help text would depend on whether the command ran before.
            **command.context_settings,
        )
        yield context.command_path, command, context
        if isinstance(command, click.Group):
            for child_name in command.list_commands(context):
                if child := command.get_command(context, child_name):
                    yield from below(child_name, child, context)

    return below("kard", main, None)


def cli_reference() -> str:
    """Return Markdown with the help of every command."""
    parts: list[str] = []
    for path, command, context in commands():
        level = "#" * min(2 + path.count(" "), 4)
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"{level} {path}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def store_reference() -> str:
    """Return Markdown with every table and view, its columns and their meaning."""
    with TemporaryDirectory() as folder:
        db = open_store(Path(folder, "kard.db"))
        all_relations = relations(db.conn)
        db.close()
    parts: list[str] = []
    for title, views in (("Tables", False), ("Views", True)):
        parts.append(f"## {title}\n")
        for relation in all_relations:
            if relation.is_view == views:
                rows = [(f"`{c.name}`", c.type, c.meaning) for c in relation.columns]
                header = ("column", "type", "meaning")
                parts.append(f"### {relation.name}\n\n{relation.meaning}\n\n{_table(header, rows)}")
    return "\n".join(parts)


def query_reference() -> str:
    """Return a Markdown table of the canned queries: meaning and parameters, optional ones in brackets."""
    rows = [
        (
            f"[`{query.name}`](../store/queries/{query.name}.sql)",
            query.meaning,
            " ".join([*(f"`{p}`" for p in query.required), *(f"[`{p}`]" for p in query.optional)]),
        )
        for query in queries()
    ]
    return _table(("query", "what it shows", "parameters"), rows)


def settings_table() -> str:
    """Return Markdown with the fields of each class of kard.config: default, and the comment beside the field."""
    source = inspect.getsource(config)
    comments = _comments(source)
    parts: list[str] = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        rows = [
            (f"`{field.target.id}`", f"`{ast.unparse(field.value)}`", comments.get(field.lineno, ""))
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value
        ]
        if rows:
            about = (ast.get_docstring(node) or "").splitlines()[0]
            parts.append(f"### {node.name}\n\n{about}\n\n" + _table(("setting", "default", "meaning"), rows))
    return "\n".join(parts)


def parts_table() -> str:
    """Return a Markdown table of what each row of `kard ablate` changes where an epoch takes three rationales."""
    settings = config.TaskSettings(student=config.StudentTraining(rationales=3))
    changes = {part: [f"`{name}={value}`" for name, value in of.items()] for part, of in parts_of(settings).items()}
    return _table(("row", "changes"), [(part, ", ".join(of) or "nothing") for part, of in changes.items()])


def task_table() -> str:
    """Return a Markdown table of the tasks that come with kard."""
    rows: list[tuple[str, str, str]] = []
    for name in tasks.names():
        task = tasks.load(name)
        students = ", ".join(f"{size} (`{base}`)" for size, base in task.students.items())
        rows.append((f"`{name}`", task.about, students))
    return _table(("task", "what it is", "students"), rows)


def _comments(source: str) -> dict[int, str]:
    """Return the comment on each line that has one, by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def documents() -> list[Path]:
    """Return the pages that hold cog blocks."""
    pages = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md"]
    return [page for page in pages if re.search(r"^<!-- \[\[\[cog", page.read_text(encoding="utf-8"), re.M)]


def write() -> None:
    """Write the output of every cog block."""
    for page in documents():
        Cog().callable_main(["cog", "-r", str(page)])


def outdated() -> list[str]:
    """Return the names of the pages that differ from what the code would write."""
    return [page.name for page in documents() if Cog().main(["cog", "--check", str(page)]) != 0]


if __name__ == "__main__":
    if "--check" not in sys.argv:
        write()
    elif names := outdated():
        sys.exit(f"{', '.join(names)}: not what the code says; write again with: python docs/generate.py")
