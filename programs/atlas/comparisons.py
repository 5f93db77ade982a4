"""Questions that need two pages: what is compared, how it is asked in training and in evaluation, what follows."""

from __future__ import annotations

from .wordings import Pairing, Wordings

YES_NO: tuple[Pairing, ...] = (
    Pairing(
        "birth",
        "birth",
        Wordings(
            ("Were {a} and {b} born in the same town?", "Was {a} born in the same town as {b}?"),
            ("Do {a} and {b} share a birthplace?", "Is the birthplace of {a} also that of {b}?"),
        ),
        ("This is the same town", "Both were born in {v}"),
        ("These are different towns", "The two towns are not the same"),
    ),
    Pairing(
        "trade",
        "trade",
        Wordings(
            ("Did {a} and {b} have the same trade?", "Did {a} have the same trade as {b}?"),
            ("Did {a} and {b} share a profession?", "Is the profession of {a} also that of {b}?"),
        ),
        ("This is the same trade", "Both worked as {v}"),
        ("These are different trades", "The two trades are not the same"),
    ),
    Pairing(
        "seat",
        "seat",
        Wordings(
            ("Were {a} and {b} founded in the same town?", "Was {a} founded in the same town as {b}?"),
            ("Did {a} and {b} both start in one place?", "Were {a} and {b} established in one town?"),
        ),
        ("This is the same town", "Both were founded in {v}"),
        ("These are different towns", "The two towns are not the same"),
    ),
    Pairing(
        "seat",
        "birth",
        Wordings(
            ("Was {a} founded in the town where {b} was born?", "Was {b} born in the town where {a} was founded?"),
            ("Did {a} start in the birthplace of {b}?", "Was {a} established in the birthplace of {b}?"),
        ),
        ("This is the same town", "Both happened in {v}"),
        ("These are different towns", "The two towns are not the same"),
    ),
    Pairing(
        "passes",
        "birth",
        Wordings(
            ("Does {a} flow through the town where {b} was born?", "Was {b} born in a town on {a}?"),
            ("Does {a} run past the birthplace of {b}?", "Is the birthplace of {b} on the banks of {a}?"),
        ),
        ("{v} is among these towns", "It flows through {v}"),
        ("{w} is not among these towns", "It does not flow through {w}"),
    ),
    Pairing(
        "region",
        "region",
        Wordings(
            ("Do {a} and {b} live in a common region?", "Do {a} and {b} live in the same region anywhere?"),
            ("Is any region home to both {a} and {b}?", "Can {a} and {b} be found in one region?"),
        ),
        ("Both live in {v}", "They have {v} in common"),
        ("They have no region in common", "These regions are all different"),
    ),
)

FOUR_OPTIONS: tuple[Pairing, ...] = (
    Pairing(
        "region",
        "region",
        Wordings(
            ("In which region do both {a} and {b} live?", "Where do both {a} and {b} live?"),
            ("Which region is home to {a} as well as {b}?", "Which region do {a} and {b} share?"),
        ),
        ("Both live in {v}", "They have {v} in common"),
    ),
    Pairing(
        "instrument",
        "instrument",
        Wordings(
            ("Which instrument did both {a} and {b} play?", "What did both {a} and {b} play?"),
            ("On which instrument did {a} perform as well as {b}?", "Which instrument do {a} and {b} share?"),
        ),
        ("Both played {v}", "They have {v} in common"),
    ),
    Pairing(
        "goods",
        "goods",
        Wordings(
            ("What do both {a} and {b} make?", "Which goods do both {a} and {b} make?"),
            ("What is produced by {a} as well as {b}?", "Which goods come from {a} and also from {b}?"),
        ),
        ("Both make {v}", "They have {v} in common"),
    ),
    Pairing(
        "passes",
        "passes",
        Wordings(
            ("Which town do both {a} and {b} flow through?", "Through which town do both {a} and {b} flow?"),
            ("Which town is on the banks of {a} as well as {b}?", "Which town do {a} and {b} have in common?"),
        ),
        ("Both flow through {v}", "They have {v} in common"),
    ),
)
