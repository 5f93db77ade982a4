"""The tables of the benchmarks' page say who is faster, by how much, and which goals are met."""

from __future__ import annotations

from typing import Any

import benchmark_tables
import pytest
import scale_tables as scale


@pytest.fixture
def report() -> dict[str, Any]:
    """Return a report of three rounds: kard twice as fast as Lucene, and bm25s twice as fast as kard."""

    def way(*ms: float, **of_quality: float) -> dict[str, Any]:
        return {kind: {"ms": list(ms), **of_quality} for kind in ("question", "rationale")}

    def grounded(milliseconds: float) -> list[dict[str, float]]:
        return [{"cpu_ms": milliseconds, "clock_ms": milliseconds / 2}] * 3

    quality = {"ndcg": 0.4, "kard_is_better_by": -0.01, "margin": 0.005}
    return {
        "passages": 1000,
        "search": {
            "kard": way(1, 1, 1, ndcg=0.39, kard_is_better_by=0, margin=0),
            "kard text": way(2, 4, 2),
            "kard exact": way(3, 3, 3, **quality),
            "lucene": way(4, 4, 40, **quality),
            "bm25s pruned": way(1, 2, 1, **quality),
            "curve 0.1 0": way(1.5, 1.5, 1.5, **quality),
            "curve 0.1 20": {"rationale": way(1.2, 1.2, 1.2, **quality)["rationale"]},
        },
        "memory_mib": {"kard": {"peak": 100}, "bm25s": {"peak": 400}},
        "index_cpu_seconds": {"kard": [1.0, 1.0, 1.0], "lucene": [2.0, 2.0, 2.0], "bm25s": [2.0, 2.0, 2.0]},
        "grounding": {"kard": grounded(1), "lucene": grounded(20)},
    }


def rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table, without its header."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_a_ratio_is_above_one_where_kard_is_better_and_compared_round_by_round(report: dict[str, Any]) -> None:
    table = rows(benchmark_tables.goals(report))
    found = {(what, peer): (ratio, met) for what, peer, _, _, ratio, met in table}
    assert found["rationale search with text", "Lucene"] == ("2.00 (1.00 to 20.0)", "**no**")
    assert found["rationale search with text", "bm25s, pruned"] == ("0.50 (0.50 to 0.50)", "**no**")
    assert found["memory of searching", "bm25s"] == ("4.00 (4.00 to 4.00)", "yes")
    assert found["indexing with text", "Lucene"] == ("2.00 (2.00 to 2.00)", "yes")
    assert found["indexing with text", "bm25s"] == ("2.00 (2.00 to 2.00)", "**no**")
    assert found["grounding a rationale", "Lucene, one at a time"] == ("20.0 (20.0 to 20.0)", "yes")


def test_answers_are_compared_by_processor_time_and_only_peers_have_goals() -> None:
    def engine(texts: int, cpu: float, **more: Any) -> dict[str, Any]:
        seconds = {"cpu_seconds": cpu, "clock_seconds": 2 * cpu}
        return {"texts": texts, "tokens": 20 * texts, **seconds, "greedy": 4, **more}

    engines = {
        "kard": engine(100, 20.0, equal=4, shared=1.0),
        "generate, one by one": engine(10, 20.0, equal=3, shared=0.875),
        "CTranslate2, int8": engine(100, 20.0, equal=0, shared=0.25),
        "kard over torch's int8": engine(100, 10.0, equal=1, shared=0.5),
    }
    assert rows(benchmark_tables.answers({"answers": {"engines": engines}})) == [
        ["kard", "5.00", "2.50", "", "", "", "20.0", "4 of 4", "100%"],
        ["generate, one by one", "0.50", "0.25", "10.0", "12", "**no**", "20.0", "3 of 4", "88%"],
        ["CTranslate2, int8", "5.00", "2.50", "1.00", "1", "yes", "20.0", "0 of 4", "25%"],
        ["kard over torch's int8", "10.0", "5.00", "0.50", "", "", "20.0", "1 of 4", "50%"],
    ]


def test_a_peer_that_was_missing_has_no_row(report: dict[str, Any]) -> None:
    for part in ("search", "memory_mib", "index_cpu_seconds", "grounding"):
        for name in [name for name in report[part] if name.startswith(("lucene", "bm25s"))]:
            del report[part][name]
    assert rows(benchmark_tables.goals(report)) == []
    assert [row[0] for row in rows(benchmark_tables.searches(report))] == [
        "kard, ids only",
        "kard, with the passages' text",
        "kard, every term, ids only",
    ]


def test_the_curve_goes_from_every_term_to_the_fewest(report: dict[str, Any]) -> None:
    table = rows(benchmark_tables.curve(report))
    assert [row[:2] for row in table] == [["100%", "all"], ["10%", "all"], ["10%", "20"], ["5%", "all"]]
    assert table[2][2:] == ["", "", "", "1.20 (1.20 to 1.20)", "0.4000", "+0.0100 ± 0.0050"]
    assert table[3][4] == ""  # kard's own way differs from itself by nothing


def test_a_floor_is_compared_with_that_of_the_first_number_of_workers() -> None:
    def run(floor: float) -> dict[str, Any]:
        disk = {"passages.db": 3 << 20, "tantivy": 1 << 20}
        return {"passages": 1000, "seconds": 10.0, "cpu_seconds": 8.0, "main_thread_seconds": 5.0,
                "floor_seconds": floor, "anonymous_bytes": 100 << 20, "mapped_bytes": 20 << 20,
                "disk_bytes": disk}  # fmt: skip

    measured = {"runs": {"1": run(6.0), "2": run(4.0)}, "ids_equal": True, "queries": 200, "queries_that_differ": 3}
    report = {
        "lines": {"1000": {**measured, "search_ms": {"question": 1.0, "rationale": 2.0}}},
        "dumps": {"a.xml": measured},
    }
    cells = rows(scale.builds(report).strip())
    assert [row[8] for row in cells] == ["1.00", "1.50"] * 2
    assert cells[1] == ["JSON lines", "1,000", "2", "10", "100", "8.0", "5.0", "4.0", "1.50", "100", "20", "4"]
    assert [row[3:] for row in rows(scale.agreement(report).strip())] == [["yes", "197 of 200"]] * 2
    assert rows(scale.searches(report).strip()) == [["1,000", "1.00", "2.00"]]


def test_whole_commands_are_compared_round_by_round_and_a_goal_is_an_upper_bound() -> None:
    seconds = {
        **{f"kard {what}": [1.0, 1.0, 3.0] for what in ("query", "page", "help")},
        **{f"sqlite-utils {what}": [1.0, 1.0, 1.0] for what in ("query", "page", "help")},
        "two evaluate": [4.0, 5.0, 6.0],
        "one evaluates": [2.0, 2.0, 2.0],
        "kard ask": [5.0, 5.5, 7.0],
    }
    report = {"commands": {"store_mib": 1000, "seconds": seconds}}
    table = {row[0]: tuple(row[3:]) for row in rows(benchmark_tables.commands(report))}
    assert table["`kard query`, groups of 1.0 GB"] == ("1.00 and 1.00 CPU s", "1.00 (1.00 to 3.00)", "yes")
    assert table["two `kard evaluate` at once"] == ("5.00 and 2.00 s", "2.50 (2.00 to 3.00)", "**no**")
    assert table["`kard ask`, cold"] == ("5.50 s", "5.50 (5.00 to 7.00)", "yes")
