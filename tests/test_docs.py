"""Generated documents match the code, and what the pages name exists: commands, options, files, tasks."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from xml.etree import ElementTree

import click
import figure
import generate
import pytest
import reliability
import worked_example
from click.testing import CliRunner
from cogapp import Cog
from sqlite_utils import Database

from kard import config, tasks
from kard.cli import main
from kard.db import parameters, query_names, required
from kard.errors import KardError

ROOT = generate.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
STALE = "write it again with: python docs/generate.py"
README_WORDS = 900
DECISION_LINES = 5


def test_every_document_with_generated_parts_is_current() -> None:
    names = {file.name for file in generate.documents()}
    assert {"cli.md", "settings.md", "store.md", "example.md"} <= names
    stale = [f.name for f in generate.documents() if Cog().main(["cog", "--check", str(f)]) != 0]
    assert stale == [], STALE


def test_every_command_and_every_option_has_a_help_text() -> None:
    helpless: list[str] = []
    for path, command, _ in generate.commands():
        if not command.help:
            helpless.append(path)
        helpless += [f"{path} {p.opts[0]}" for p in command.params if isinstance(p, click.Option) and not p.help]
    assert helpless == []


def test_every_command_shows_its_help() -> None:
    for path, _, _ in generate.commands():
        result = CliRunner().invoke(main, [*path.split()[1:], "--help"], prog_name="kard")
        assert result.exit_code == 0, path
        assert result.output.startswith(f"Usage: {path} "), path


def test_every_command_is_in_the_reference() -> None:
    reference = generate.cli_reference()
    for path, command, _ in generate.commands():
        assert re.search(rf"^#+ {path}$", reference, re.M), path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in reference.split(f" {path}\n")[1].partition("\n#")[0]


def test_every_command_is_in_the_readmes_table_of_commands_once() -> None:
    table = README.split("## Commands\n")[1].partition("\n## ")[0].split("|---|---|\n")[1]
    named = re.findall(r"`(\w+)`", table)
    assert sorted(named) == sorted(main.list_commands(click.Context(main)))


def test_the_readme_is_one_page() -> None:
    assert len(README.split()) <= README_WORDS


def test_every_command_line_in_the_pages_can_be_parsed() -> None:
    wrong: list[str] = []
    for page in PAGES:
        if page.name != "cli.md":  # help texts, which have a test of their own
            text = page.read_text(encoding="utf-8")
            wrong += [f"{page.name}: {line}: {why}" for line in command_lines(text) if (why := mistake(line))]
    assert wrong == []


def test_every_query_in_the_pages_runs_and_has_the_parameters_that_it_is_given(store: Database) -> None:
    for page in PAGES:
        for line in command_lines(page.read_text(encoding="utf-8")):
            words = shlex.split(line, comments=True)
            if words[:2] == ["kard", "query"] and "..." not in line and page.name != "cli.md":
                command = main.get_command(click.Context(main), "query")
                assert command is not None
                options, _, _ = command.make_parser(click.Context(command)).parse_args(words[2:])
                statement = options["query"]
                if not isinstance(statement, str) or statement.isupper():
                    continue  # without a query it lists them; NAME stands for one
                given = {name for name, _ in options.get("params", [])}
                if " " in statement:
                    store.execute(f"explain {statement}")
                else:
                    assert statement in query_names(), line
                    assert set(required(statement)) <= given <= set(parameters(statement)), line


def test_every_command_that_a_help_text_names_exists() -> None:
    wrong: list[str] = []
    for path, command, _ in generate.commands():
        helps = [command.help or "", *(p.help or "" for p in command.params if isinstance(p, click.Option))]
        wrong += [f"{path}: {line}" for text in helps for line in inline(text) if mistake(line)]
    assert wrong == []


def test_every_command_that_a_message_names_exists() -> None:
    commands = main.list_commands(click.Context(main))
    wrong: list[str] = []
    for file in sorted((ROOT / "kard").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = re.findall(r"(?:: |`)kard ([a-z]+)(?=[ `]|$)", node.value)
                wrong += [f"{file.name}: kard {name}" for name in named if name not in commands]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("kard index manuals --quiet", ""),
        ("kard train student choice --method kard", ""),
        ("kard train everything choice", "no command kard train everything"),
        ("kard teach choice --wrong", "No such option"),
        ("kard teach --model", ""),
    ],
)
def test_a_wrong_command_line_is_noticed(line: str, why: str) -> None:
    assert why in mistake(line)
    assert bool(mistake(line)) == bool(why)


def test_command_lines_are_found_in_fenced_blocks_and_in_code_spans() -> None:
    page = """\
Run `kard status choice`, not kard or `kard`.

```
pip install -e . && kard demo
$ kard query "select 1
  from questions" --csv     # two lines
kard load choice a.csv \\
    --quiet
Next: kard run choice
for seed in 1 2; do
  kard rebuild teach choice
done
```
"""
    assert list(command_lines(page)) == [
        "kard demo",
        'kard query "select 1\n  from questions" --csv     # two lines',
        "kard load choice a.csv     --quiet",
        "kard rebuild teach choice",
        "kard status choice",
    ]


def command_lines(page: str) -> Iterator[str]:
    """Yield the command lines of kard in a Markdown page: of fenced blocks first, then of code spans."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page, re.M | re.S):
        lines = block.replace("\\\n", "").splitlines()
        while lines:
            start = re.match(r"\s*(?:\$ )?(?:.*&& |for .*; do )?(kard .*)", lines.pop(0))
            if start is not None:
                line = start[1].removesuffix("; done")
                while lines and not _closed(line):
                    line += "\n" + lines.pop(0)
                yield line
    yield from inline(re.sub(r"^```.*?^```", "", page, flags=re.M | re.S))


def _closed(line: str) -> bool:
    """Return whether every quotation mark of a command line has its partner."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def inline(text: str) -> list[str]:
    """Return the command lines of kard in the code spans of a text."""
    return [" ".join(span.split()) for span in re.findall(r"`(kard\s+[a-z][^`]*)`", text)]


def mistake(line: str) -> str:
    """Return what is wrong with a command line of kard: a command or an option that does not exist; else ''."""
    words = shlex.split(line, comments=True)
    command: click.Command = main
    path = words.pop(0)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        path += f" {words[0]}"
        context = click.Context(command)
        child = command.get_command(context, words[0])
        if child is None:  # a group may have a command that need not be named
            child = command.get_command(context, getattr(command, "default", ""))
        else:
            words.pop(0)
        if child is None:
            return f"no command {path}"
        command = child
    try:
        command.make_parser(click.Context(command)).parse_args(words)
    except click.NoSuchOption as error:
        return error.format_message()
    except click.BadOptionUsage:  # a page that mentions an option without its value
        pass
    return ""


def test_the_readmes_figure_is_a_picture_that_stands_alone() -> None:
    sources = re.findall(r'<img src="([^"]+)"[^>]* alt="[^"]+"', README)
    assert sources == ["docs/demo.svg"]
    root = ElementTree.fromstring((ROOT / sources[0]).read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = ElementTree.tostring(root, encoding="unicode")
    assert "var(" not in text
    assert set(re.findall(r"https?://[^\"\s]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_figure_that_is_taken_out_of_a_report_keeps_its_shapes_and_has_the_colours_of_both_themes() -> None:
    page = """<style>:root { --paper: #fff; --ink: #111; }
@media (prefers-color-scheme: dark) { :root { --paper: #000; --ink: #eee; } }</style>
<svg viewBox="0 0 30 10"><title id="a-title">A</title><desc>d</desc><path d="M 0 0" stroke="var(--ink)" /></svg>"""
    root = ElementTree.fromstring(figure.standalone(page, "a"))
    names = [element.tag.rpartition("}")[2] for element in root]
    assert names == ["title", "desc", "style", "rect", "path"]
    assert root.attrib["viewBox"] == "-8 -8 46 26"
    assert root[4].attrib == {"d": "M 0 0", "stroke": "#111"}
    assert root[3].attrib["fill"] == "#fff"
    assert (
        root[2].text == '@media (prefers-color-scheme: dark){[fill="#fff"]{fill:#000}[stroke="#111"]{stroke:#eee}}'
    )
    with pytest.raises(LookupError, match="no figure b"):
        figure.standalone(page, "b")


def test_decisions_are_dated_newest_first_and_short() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    dates = re.findall(r"^## (\d{4}-\d{2}-\d{2})$", text, re.M)
    assert dates
    assert dates == sorted(set(dates), reverse=True)
    decisions = [part for part in text.split("\n\n") if part.startswith("**")]
    assert [decision.splitlines()[0] for decision in decisions if decision.count("\n") >= DECISION_LINES] == []


def test_the_suites_that_the_page_of_promises_runs_exist_and_are_all_that_were_recorded() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^for suite in (.*); do$", page, re.M)
    suites = {
        file.stem for file in (ROOT / "benchmarks" / "reliability").glob("*.py") if "--json" in file.read_text()
    }
    assert set(listed.split()) == suites >= set(json.loads(reliability.RECORDED.read_text(encoding="utf-8")))


def test_every_setting_is_in_the_table_with_its_default() -> None:
    table = generate.settings_table()
    classes = [c for c in vars(config).values() if isinstance(c, type) and is_dataclass(c)]
    for settings in classes:
        for field in fields(settings):
            if field.default is MISSING:
                continue
            part = table.split(f"### {settings.__name__}\n")[1].partition("\n### ")[0]
            row = re.search(rf"^\| `{field.name}` \| `(.*?)` \|", part, re.M)
            assert row, f"{settings.__name__}.{field.name}"
            assert eval(row[1], dict(vars(config))) == field.default


def test_every_table_view_and_column_is_in_the_reference_with_its_meaning(store: Database) -> None:
    reference = generate.store_reference()
    for name in [n for n in store.table_names() if "sqlite" not in n and "_fts" not in n] + store.view_names():
        part = reference.split(f"### {name}\n")[1].partition("\n### ")[0]
        for column in store[name].columns:
            assert re.search(rf"^\| `{column.name}` \| \w* \| \S.*\|$", part, re.M), f"{name}.{column.name}"


def test_every_canned_query_is_in_the_reference_and_its_link_leads_to_it() -> None:
    reference = generate.query_reference()
    for name in query_names():
        assert f"[`{name}`](../store/queries/{name}.sql)" in reference
        assert (ROOT / "store" / "queries" / f"{name}.sql").exists()
    assert re.search(r"`disagreements`.*\| `one` `other` \|$", reference, re.M)  # required ones without brackets
    assert re.search(r"`accuracy`.*\| \[`split`\] \[`task`\] \|$", reference, re.M)  # optional ones in brackets


def test_the_worked_example_stops_at_a_command_that_fails_and_goes_back_to_its_folder() -> None:
    before = Path.cwd()
    with pytest.raises(RuntimeError, match="kard load nothing: "):
        worked_example.transcript("load nothing")
    assert Path.cwd() == before
    assert "3 questions added" in worked_example.transcript("load choice questions.csv")


def test_every_task_is_in_the_table_and_in_the_readme() -> None:
    table = generate.task_table()
    for name in tasks.names():
        assert f"| `{name}` | {tasks.load(name).about} |" in table
        assert name in README


def test_the_drawn_tree_of_errors_has_every_error() -> None:
    import kard.errors

    names = re.findall(r"[├└]── (\w+)", kard.errors.__doc__ or "")
    assert names == [c.__name__ for c in KardError.__subclasses__() if c.__module__ == "kard.errors"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    rooms = {folder.name for base in (ROOT, ROOT / "kard") for folder in base.iterdir() if folder.is_dir()}
    for name in re.findall(r"`([\w.]+/[\w./]*)`", page.read_text(encoding="utf-8")):
        if name.partition("/")[0] in rooms and "NAME" not in name:
            places = [base / f"{name}{suffix}" for base in (ROOT, ROOT / "kard") for suffix in ("", ".py")]
            assert any(place.exists() for place in places), name


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"}
    assert {name for name in pages if f"({name})" not in contents} == set()


def test_the_newest_entry_of_the_changelog_is_the_version_that_is_built() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## (?:Unreleased: )?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert newest[1] == project["version"]
