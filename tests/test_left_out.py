"""Files of a folder that bring nothing are named, and one that cannot be read can be left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pypdf import PdfWriter

from kard.cli import main

Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a text, an empty one, a workbook, a hidden file and a PDF of pictures alone."""
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "a.txt").write_text("Iron rusts in water.")
    (folder / "more" / "empty.md").write_text("  \n")
    (folder / "plan.xlsx").write_bytes(b"PK")
    (folder / ".hidden.xlsx").write_bytes(b"PK")
    scan = PdfWriter()
    scan.add_blank_page(100, 100)
    scan.write(folder / "scan.pdf")
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Run:
    return lambda *words: CliRunner().invoke(
        main, ["index", *map(str, words), "--store", str(tmp_path / "kard.db"), "--quiet"]
    )


LEFT_OUT = (
    "3 files left out: more/empty.md (no text), plan.xlsx (not of a kind that is read), "
    "scan.pdf (no text; pictures of text need OCR first)"
)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_files_that_bring_nothing_are_named_with_the_reason(
    folder: Path, index: Run, workers: tuple[str, ...]
) -> None:
    result = index(folder, *workers)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [LEFT_OUT]
    assert result.stdout.startswith("1 passage added")


def test_a_folder_of_pictures_alone_is_told_what_it_needs(folder: Path, index: Run) -> None:
    (folder / "a.txt").unlink()
    result = index(folder)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "holds no document with any text; pictures of text need OCR first" in result.output


def test_a_file_that_cannot_be_read_stops_or_is_left_out_now_and_when_sources_are_read_again(
    folder: Path, index: Run
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (folder / "old.txt").write_bytes("Zürich".encode("latin-1"))
    refused = index(folder)
    assert refused.exit_code == 1
    assert refused.output.count("\n") == 1, "and not a word of the reader's own"
    assert "broken.pdf: cannot be read as PDF" in refused.output
    assert "leave such files out with: --skip-bad" in refused.output
    result = index(folder, "--skip-bad")
    assert result.exit_code == 0
    assert "5 files left out: broken.pdf (cannot be read as PDF" in result.stderr
    assert "old.txt (byte 0xfc is not UTF-8" in result.stderr
    assert index("--refresh").exit_code == 0
    alone = index(folder / "broken.pdf")
    assert alone.exit_code == 1
    assert "--skip-bad" not in alone.output


def test_rows_and_data_sets_name_no_files(tmp_path: Path, index: Run) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "corpus.jsonl").write_text('{"id": "a", "title": "", "text": "Iron rusts."}')
    (tmp_path / "set" / "README.md").write_text("A data set.")
    assert index(tmp_path / "set").stderr == ""
    assert index(tmp_path / "set" / "corpus.jsonl").stderr == ""
