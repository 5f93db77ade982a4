"""What is generated from the code is current, and what the code offers is written down."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import click
import generate as docs
import pytest
import worked_example as worked
from click.testing import CliRunner
from cogapp import Cog
from sqlite_utils import Database

from kard import config, tasks
from kard.cli import main
from kard.db import query_names
from kard.errors import KardError

README = (docs.ROOT / "README.md").read_text(encoding="utf-8")
AGAIN = "write it again with: python docs/generate.py"


def test_every_document_with_generated_parts_is_current() -> None:
    names = {file.name for file in docs.documents()}
    assert {"cli.md", "settings.md", "store.md", "example.md"} <= names
    stale = [f.name for f in docs.documents() if Cog().main(["cog", "--check", str(f)]) != 0]
    assert stale == [], AGAIN


def test_every_command_has_help_and_every_option_too() -> None:
    bare: list[str] = []
    for path, command, _ in docs.commands():
        if not command.help:
            bare.append(path)
        bare += [f"{path} {p.opts[0]}" for p in command.params if isinstance(p, click.Option) and not p.help]
    assert bare == []


def test_every_command_shows_its_help() -> None:
    for path, _, _ in docs.commands():
        done = CliRunner().invoke(main, [*path.split()[1:], "--help"], prog_name="kard")
        assert done.exit_code == 0, path
        assert done.output.startswith(f"Usage: {path} "), path


def test_every_command_is_in_the_reference() -> None:
    reference = docs.cli_reference()
    for path, command, _ in docs.commands():
        assert re.search(rf"^#+ {path}$", reference, re.M), path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in reference.split(f" {path}\n")[1].partition("\n#")[0]


def test_every_command_is_named_in_the_readme() -> None:
    typed = [path for path, command, _ in docs.commands() if not isinstance(command, click.Group)]
    assert [path for path in typed if not re.search(rf"\b{path}\b", README)] == []


def test_the_readme_names_no_command_that_is_not_there() -> None:
    known = set(main.list_commands(click.Context(main)))
    named = re.findall(r"(?:^|`|\$ |&& )kard ([a-z]+)", README, re.M)
    assert named
    assert set(named) - known == set()


def test_every_setting_is_in_the_table_with_the_default_that_it_has() -> None:
    table = docs.settings_table()
    classes = [c for c in vars(config).values() if isinstance(c, type) and is_dataclass(c)]
    for settings in classes:
        for field in fields(settings):
            if field.default is MISSING:
                continue
            part = table.split(f"### {settings.__name__}\n")[1].partition("\n### ")[0]
            row = re.search(rf"^\| `{field.name}` \| `(.*?)` \|", part, re.M)
            assert row, f"{settings.__name__}.{field.name}"
            assert eval(row[1], dict(vars(config))) == field.default


def test_every_table_view_and_column_is_in_the_reference_with_what_it_means(store: Database) -> None:
    reference = docs.store_reference()
    for name in [n for n in store.table_names() if "sqlite" not in n and "_fts" not in n] + store.view_names():
        part = reference.split(f"### {name}\n")[1].partition("\n### ")[0]
        for column in store[name].columns:
            assert re.search(rf"^\| `{column.name}` \| \w* \| \S.*\|$", part, re.M), f"{name}.{column.name}"


def test_every_canned_query_is_in_the_reference_and_its_link_leads_to_it() -> None:
    reference = docs.query_reference()
    for name in query_names():
        assert f"[`{name}`](../store/queries/{name}.sql)" in reference
        assert (docs.ROOT / "store" / "queries" / f"{name}.sql").exists()
    assert re.search(r"`disagreements`.*\| `one` `other` \|$", reference, re.M)  # needed ones bare
    assert re.search(r"`accuracy`.*\| \[`split`\] \[`task`\] \|$", reference, re.M)  # others in brackets


def test_the_worked_example_stops_at_a_command_that_fails_and_leaves_the_folder_that_it_was_in() -> None:
    before = Path.cwd()
    with pytest.raises(RuntimeError, match="kard load nothing: "):
        worked.transcript("load nothing")
    assert Path.cwd() == before
    assert "3 questions added" in worked.transcript("load choice questions.csv")


def test_every_task_is_in_the_table_and_in_the_readme() -> None:
    table = docs.task_table()
    for name in tasks.names():
        assert f"| `{name}` | {tasks.load(name).about} |" in table
        assert name in README


def test_the_tree_of_errors_that_is_drawn_is_the_one_that_is_there() -> None:
    import kard.errors

    drawn = re.findall(r"[├└]── (\w+)", kard.errors.__doc__ or "")
    assert drawn == [c.__name__ for c in KardError.__subclasses__() if c.__module__ == "kard.errors"]


@pytest.mark.parametrize("name", ["CHANGELOG.md", "SECURITY.md", "LICENSE", "README.md"])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    text = (docs.ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (docs.ROOT / target).exists(), target


def test_the_newest_entry_of_the_changelog_is_the_version_that_is_built() -> None:
    import tomllib

    project = tomllib.loads((docs.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)\]?", (docs.ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert newest[1] == project["version"]
