"""A part of a knowledge base: some of its sources, or a share of its documents with or without what is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kard.cli import main
from kard.db import open_store
from kard.knowledge import passages_db
from kard.knowledge.knowledge_base import KnowledgeBase
from kard.knowledge.stored_sources import list_sources
from kard.pipeline.load import store_questions
from kard.records import Passage, Question

COUNT = 20


def kard(folder: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--store", str(folder / "kard.db"), "--quiet"])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a knowledge base of two sources; one document is in both, and one has two passages."""
    for source, numbers in {"rocks": range(12), "rivers": range(11, COUNT)}.items():
        texts = [{"id": f"d{n}", "title": f"T{n}", "text": f"Thing {n} is old." + " So it is." * 80 * (n == 3)}
                 for n in numbers]  # fmt: skip
        file = tmp_path / f"{source}.jsonl"
        file.write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
        kard(tmp_path, "index", str(file), "--name", source)
    return tmp_path / "kard.knowledge"


def part(base: Path, name: str, *words: str, code: int = 0) -> Result:
    return kard(
        base.parent, "index", "--from", str(base), "--knowledge", str(base.parent / name), *words, code=code
    )


def passages(folder: Path) -> list[Passage]:
    kb = KnowledgeBase.open(folder)
    return kb.passages(sorted(kb.passage_ids()))


def documents(folder: Path) -> set[str]:
    return {passage.document for passage in passages(folder)}


def test_a_smaller_share_is_a_part_of_a_larger_one_and_all_of_it_is_the_same_knowledge_base(base: Path) -> None:
    for share in ("0.1", "0.5", "1"):
        part(base, share, "--fraction", share)
    tenth, half, whole = (documents(base.parent / share) for share in ("0.1", "0.5", "1"))
    assert (len(tenth), len(half), len(whole)) == (2, 10, COUNT)
    assert tenth < half < whole
    assert KnowledgeBase.open(base.parent / "1").id == KnowledgeBase.open(base).id
    assert passages(base.parent / "1") == passages(base)
    (found,) = KnowledgeBase.open(base.parent / "0.5").search(f"thing {min(half)[1:]}", 1)
    assert found.passage.document in half
    assert [source.name for source in list_sources(base.parent / "0.1")] == [
        "10% of the documents of kard.knowledge"
    ]


def test_a_part_may_be_some_sources_whole(base: Path) -> None:
    part(base, "rocks", "--only", "rocks")
    part(base, "rivers", "--only", "rivers")
    assert documents(base.parent / "rocks") == {f"d{n}" for n in range(12)}
    assert documents(base.parent / "rivers") == {f"d{n}" for n in range(11, COUNT)}
    assert len([p for p in passages(base.parent / "rocks") if p.document == "d3"]) > 1


def test_what_a_question_needs_stays_where_that_is_asked(base: Path) -> None:
    part(base, "tenth", "--fraction", "0.1")
    plain = documents(base.parent / "tenth")
    needed = min({f"d{n}" for n in range(COUNT)} - plain)
    said = part(base, "kept", "--fraction", "0.1", "--keep-evidence", code=1).stderr
    assert "no question of the store names evidence" in said
    question = Question("q", "test", "Is it old?", ("yes", "no"), "A", evidence=(needed,))
    store_questions(open_store(base.parent / "kard.db"), "tiny", [question])
    part(base, "kept", "--fraction", "0.1", "--keep-evidence")
    assert documents(base.parent / "kept") == plain | {needed}


def test_a_part_has_a_folder_of_its_own_and_names_that_exist(base: Path) -> None:
    for words, code, problem in (
        (("--fraction", "0.5", "--only", "sand"), 1, "no source 'sand'; there are rocks, rivers"),
        (("--fraction", "2"), 2, "2.0 is not in the range"),
    ):
        assert problem in " ".join(part(base, "new", *words, code=code).stderr.split())
    assert not (base.parent / "new").exists()
    before = documents(base)
    assert "make each part in a folder of its own" in part(base, base.name, "--fraction", "0.5", code=1).stderr
    assert documents(base) == before
    part(base, "tenth", "--fraction", "0.1")
    assert "in a folder of its own" in part(base, "tenth", "--fraction", "0.5", code=1).stderr
    said = kard(base.parent, "index", "--fraction", "0.5", "--refresh", code=2).stderr
    assert "add --from" in " ".join(said.split())


def test_what_is_needed_is_kept_of_every_source_and_a_killed_part_is_made_again(base: Path) -> None:
    question = Question("q", "test", "Is it old?", ("yes", "no"), "A", evidence=("d15",))
    store_questions(open_store(base.parent / "kard.db"), "t", [question])
    folder = base.parent / "rocks"
    folder.mkdir()
    passages_db.connect(folder / passages_db.NAME).close()  # what a kill before the first commit leaves
    part(base, "rocks", "--only", "rocks", "--keep-evidence")
    assert documents(folder) == {*(f"d{n}" for n in range(12)), "d15"}
