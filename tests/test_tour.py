"""The notebook `docs/tour.ipynb` runs whole, and what it shows is what it gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"
CELLS = 10


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> list[str]:
    """Return what a cell printed and gave, as text."""
    return [output.get("text") or output.data["text/plain"] for output in cell.outputs]


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(TOUR, as_version=4)


def test_the_tour_runs_and_shows_what_it_stored_wherever_no_model_decides(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_decoder: Callable[..., Path]
) -> None:
    base = write_decoder(tmp_path / "base", words=["question", "options", "passages", "market", "bell"])
    monkeypatch.setenv("KARD_TOUR_BASE", str(base))
    monkeypatch.setenv("KARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run = nbformat.read(TOUR, as_version=4)
    for cell in code_of(run):
        cell.outputs = []
    NotebookClient(run, timeout=300, record_timing=False, resources={"metadata": {"path": str(tmp_path)}}).execute()
    by_model = 0
    for before, after in zip(code_of(stored), code_of(run), strict=True):
        if "model" in before.metadata.get("tags", []):
            by_model += 1
            assert [sorted(o.get("data", {})) for o in after.outputs] == [
                sorted(o.get("data", {})) for o in before.outputs
            ]
        else:
            assert shown(after) == shown(before), after.source
    assert by_model < len(code_of(stored)) / 2


def test_the_stored_tour_is_a_whole_run_of_at_most_ten_cells_and_names_no_place(stored: Any) -> None:
    cells = code_of(stored)
    assert len(cells) <= CELLS
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    texts = [text for cell in cells for text in shown(cell)]
    assert not [text for text in texts if re.search(r"(?<!\w)/\w+/|[A-Z]:\\", text)]
    assert {output.output_type for cell in cells for output in cell.outputs}.isdisjoint({"error"})
    assert "image/png" in cells[-1].outputs[0].data
