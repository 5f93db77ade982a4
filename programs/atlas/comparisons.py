"""The questions that need two pages, with their wordings and conclusions."""

from __future__ import annotations

from .wordings import Pairing, Wordings

YES_NO: tuple[Pairing, ...] = (
    Pairing(
        "birth",
        "birth",
        Wordings(
            (
                "Were {a} and {b} born in the same town?",
                "Was {a} born in the same town as {b}?",
                "Is the birthplace of {a} the same as that of {b}?",
            ),
            ("Do {a} and {b} share a birthplace?", "Is the birthplace of {a} also that of {b}?"),
        ),
        ("This is the same town", "Both were born in {v}"),
        ("These are different towns", "The two towns are not the same"),
    ),
    Pairing(
        "trade",
        "trade",
        Wordings(
            (
                "Did {a} and {b} have the same trade?",
                "Did {a} have the same trade as {b}?",
                "Is the profession of {a} the same as that of {b}?",
            ),
            ("Did {a} and {b} share a profession?", "Is the profession of {a} also that of {b}?"),
        ),
        ("This is the same trade", "Both worked as {v}"),
        ("These are different trades", "The two trades are not the same"),
    ),
    Pairing(
        "seat",
        "seat",
        Wordings(
            (
                "Were {a} and {b} founded in the same town?",
                "Was {a} founded in the same town as {b}?",
                "Did {a} start in the same place as {b}?",
            ),
            ("Did {a} and {b} both start in one place?", "Were {a} and {b} established in one town?"),
        ),
        ("This is the same town", "Both were founded in {v}"),
        ("These are different towns", "The two towns are not the same"),
    ),
    Pairing(
        "seat",
        "birth",
        Wordings(
            (
                "Was {a} founded in the town where {b} was born?",
                "Was {b} born in the town where {a} was founded?",
                "Is the birthplace of {b} the town where {a} was established?",
            ),
            ("Did {a} start in the birthplace of {b}?", "Was {a} established in the birthplace of {b}?"),
        ),
        ("This is the same town", "Both happened in {v}"),
        ("These are different towns", "The two towns are not the same"),
    ),
    Pairing(
        "passes",
        "birth",
        Wordings(
            (
                "Does {a} flow through the town where {b} was born?",
                "Was {b} born in a town on {a}?",
                "Does the birthplace of {b} stand on the banks of {a}?",
            ),
            ("Does {a} run past the birthplace of {b}?", "Is the birthplace of {b} on the banks of {a}?"),
        ),
        ("{v} is among these towns", "It flows through {v}"),
        ("{w} is not among these towns", "It does not flow through {w}"),
    ),
    Pairing(
        "region",
        "region",
        Wordings(
            (
                "Do {a} and {b} live in a common region?",
                "Do {a} and {b} live in the same region anywhere?",
                "Is one region home to {a} and also to {b}?",
            ),
            ("Is any region home to both {a} and {b}?", "Can {a} and {b} be found in one region?"),
        ),
        ("Both live in {v}", "They have {v} in common"),
        ("They have no region in common", "These regions are all different"),
    ),
)

FOUR_OPTIONS: tuple[Pairing, ...] = (
    Pairing(
        "trade",
        "trade",
        Wordings(
            (
                "What did {a} and {b} work as?",
                "What were the trades of {a} and of {b}?",
                "Which professions did {a} and {b} have?",
                "Which jobs did {a} and {b} do?",
            ),
            ("What were the professions of {a} and {b}?", "What were the jobs of {a} and {b}?"),
        ),
    ),
    Pairing(
        "birth",
        "birth",
        Wordings(
            (
                "In which towns were {a} and {b} born?",
                "Where were {a} and {b} born?",
                "Name the birthplaces of {a} and {b}.",
            ),
            ("What are the birthplaces of {a} and {b}?", "Which towns are the birthplaces of {a} and {b}?"),
        ),
    ),
    Pairing(
        "home",
        "home",
        Wordings(
            (
                "In which towns did {a} and {b} settle?",
                "To which towns did {a} and {b} move?",
                "In which towns did {a} and {b} make their homes?",
            ),
            ("Which towns did {a} and {b} move to?", "Where did {a} and {b} make their homes?"),
        ),
    ),
    Pairing(
        "seat",
        "seat",
        Wordings(
            (
                "In which towns were {a} and {b} founded?",
                "In which towns were {a} and {b} established?",
                "Where did {a} and {b} start?",
            ),
            ("In which towns did {a} and {b} start?", "Where were {a} and {b} established?"),
        ),
    ),
    Pairing(
        "food",
        "food",
        Wordings(
            (
                "What do {a} and {b} feed on?",
                "What do {a} and {b} eat?",
                "Of what are the diets of {a} and {b} made up?",
            ),
            ("What are the diets of {a} and {b}?", "What is eaten by {a} and by {b}?"),
        ),
    ),
    Pairing(
        "stands",
        "stands",
        Wordings(
            (
                "In which towns do {a} and {b} stand?",
                "Where can one visit {a} and {b}?",
                "In which towns are {a} and {b} to be found?",
            ),
            ("Which towns have {a} and {b}?", "In which towns can one visit {a} and {b}?"),
        ),
    ),
    Pairing(
        "fish",
        "fish",
        Wordings(
            (
                "Which fish are {a} and {b} rich in?",
                "What can be caught in {a} and in {b}?",
                "Of which fish is there plenty in {a} and in {b}?",
            ),
            ("Which fish are plentiful in {a} and in {b}?", "Which fish can be caught in {a} and in {b}?"),
        ),
    ),
)
"""Questions for the values of two entities, in the order in which they are named."""
