"""`kard judge`: a person's word on a passage or a rationale."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import options, show
from kard.db import open_store

if TYPE_CHECKING:
    from kard.evaluation.judgements import Judgement, Word

SHORT = 8  # characters of a passage's id: --passage takes the beginning of one


@click.command()
@click.argument("question", required=False)
@click.argument("verdict", type=click.Choice(["good", "bad"]), required=False)
@click.option("--passage", metavar="ID", help="A passage of the question, or the beginning of its id.")
@click.option("--rationale", metavar="ID", type=int, help="A rationale of the question.")
@click.option("--note", default="", help="Why, in a few words.")
@click.option("--author", default="", envvar="KARD_AUTHOR", help="Who says so. [env: KARD_AUTHOR]")
@click.option("--task", help="The task, where several have a question of that id, or whose judgements to list.")
@click.option("--list", "listing", is_flag=True, help="List what was said, of QUESTION or of all.")
@options.as_json
@options.store
def judge(
    question: str | None,
    verdict: Word | None,
    passage: str | None,
    rationale: int | None,
    note: str,
    author: str,
    task: str | None,
    listing: bool,
    as_json: bool,
    store: Path,
) -> None:
    """Say of a passage that it holds what QUESTION needs (good) or not (bad), or of a rationale that it is right.

    Saying it again replaces what the same author said. Where the data name no evidence, `kard explain` and
    `kard failures` heed it: good passages are needed ones, bad ones are not, a bad rationale is not relied on.
    """
    from kard.evaluation import judgements as judging
    from kard.evaluation.find_question import find_question

    if listing:
        if verdict or passage or rationale is not None:
            raise click.UsageError("--list takes no verdict, --passage or --rationale")
        db = open_store(store, create=False)
        found = judging.judgements(
            db, task=task, question_id=find_question(db, question, task) if question else None
        )
        if as_json:
            show.as_json([asdict(j) for j in found])
        elif found:
            _print(found)
        else:
            click.echo("nothing was judged yet; see what there is to judge with: kard explain QUESTION")
        return
    if question is None or verdict is None or (passage is None) == (rationale is None):
        raise click.UsageError("give QUESTION, good or bad, and one of --passage ID and --rationale ID; or --list")
    db = open_store(store, create=False)
    question_id = find_question(db, question, task)
    replaced = judging.judge(
        db, question_id, verdict, passage=passage, rationale=rationale, note=note, author=author
    )
    thing = f"passage {passage}" if passage is not None else f"rationale {rationale}"
    click.echo(f"{thing}: {verdict}{', in place of what was said before' if replaced else ''}")


def _print(found: list[Judgement]) -> None:
    header = ("question", "passage", "rationale", "verdict", "author", "note", "when")
    body = [
        (j.key, (j.passage_id or "")[:SHORT], j.rationale_id, j.verdict, j.author, j.note, j.created[:10])
        for j in found
    ]
    show.table("", header, body)
