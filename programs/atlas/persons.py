"""What is told of people, how pages say it and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping

from .wordings import Attribute, Wordings

PERSONS: Mapping[str, Attribute] = {
    "birth": Attribute(
        "person",
        "town",
        "was born in",
        ("was born in {v}", "was born in the town of {v}"),
        Wordings(
            (
                "In which town was {x} born?",
                "Where was {x} born?",
                "Name the birthplace of {x}.",
                "Of which town was {x} a native?",
            ),
            ("What is the birthplace of {x}?", "Which town is the birthplace of {x}?"),
        ),
        Wordings(
            (
                "Was {x} born in {v}?",
                "Was {x} born in the town of {v}?",
                "Was it in {v} that {x} was born?",
                "Is the birthplace of {x} called {v}?",
            ),
            ("Is {v} the birthplace of {x}?", "Was {v} the birthplace of {x}?"),
        ),
        weight=2,
    ),
    "home": Attribute(
        "person",
        "town",
        "settled in",
        ("settled in {v}", "settled down in {v}", "settled for good in {v}"),
        Wordings(
            (
                "In which town did {x} settle?",
                "Where did {x} settle?",
                "To which town did {x} move?",
                "In which town did {x} make a home?",
            ),
            ("Which town did {x} move to?", "Where did {x} make a home?"),
        ),
        Wordings(
            (
                "Did {x} settle in {v}?",
                "Did {x} settle in the town of {v}?",
                "Was it in {v} that {x} made a home?",
                "Is {v} where {x} moved to?",
            ),
            ("Did {x} move to {v}?", "Did {x} make a home in {v}?"),
        ),
        weight=2,
    ),
    "trade": Attribute(
        "person",
        "trade",
        "worked as",
        ("worked as {v}", "was {v} by trade", "worked for years as {v}"),
        Wordings(
            (
                "What did {x} work as?",
                "What was the trade of {x}?",
                "Which profession did {x} have?",
                "Which job did {x} do?",
            ),
            ("What was the profession of {x}?", "What was the job of {x}?"),
        ),
        Wordings(
            (
                "Did {x} work as {v}?",
                "Was {x} {v} by trade?",
                "Was the profession of {x} that of {v}?",
                "Did {x} do the job of {v}?",
            ),
            ("Was {x} {v} by profession?", "Did {x} have the job of {v}?"),
        ),
        item="a {v}",
        weight=2,
    ),
    "instrument": Attribute(
        "person",
        "instrument",
        "played",
        ("played {v}", "played both {v}", "liked to play {v}"),
        Wordings(
            (
                "Which instrument did {x} play?",
                "Which of these instruments did {x} play?",
                "What was {x} able to play?",
                "Which instrument could {x} perform on?",
            ),
            ("On which instrument did {x} perform?", "Which instrument was {x} able to play?"),
        ),
        Wordings(
            (
                "Did {x} play {v}?",
                "Is it true that {x} played {v}?",
                "Could {x} perform on {v}?",
                "Was {v} played by {x}?",
            ),
            ("Did {x} perform on {v}?", "Was {x} able to play {v}?"),
        ),
        item="the {v}",
        weight=2,
    ),
}
