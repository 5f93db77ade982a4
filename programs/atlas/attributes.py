"""Every kind of fact, by name: whose it is, how pages state it and how questions ask for it."""

from __future__ import annotations

from collections.abc import Mapping

from .wordings import Attribute, Wordings

ATTRIBUTES: Mapping[str, Attribute] = {
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
    "river": Attribute(
        "town",
        "river",
        "lies on",
        ("lies on {v}", "is a town on {v}", "is a small town that lies on {v}"),
        Wordings(
            (
                "On which river does {x} lie?",
                "Which river does {x} lie on?",
                "Beside which river does {x} stand?",
                "What is the river that runs through {x}?",
            ),
            ("Which river runs through {x}?", "Which river does {x} stand beside?"),
        ),
        Wordings(
            (
                "Does {x} lie on {v}?",
                "Does the town of {x} lie on {v}?",
                "Is it {v} that runs through {x}?",
                "Is {v} what {x} stands beside?",
            ),
            ("Does {v} run through {x}?", "Does {x} stand beside {v}?"),
        ),
        item="the {v}",
    ),
    "craft": Attribute(
        "town",
        "goods",
        "is known for its",
        ("is known for its {v}", "has long been known for its {v}"),
        Wordings(
            (
                "What is {x} known for?",
                "What is the town of {x} known for?",
                "For what is {x} famous?",
                "What made {x} a famous town?",
            ),
            ("What is {x} famous for?", "What has made {x} famous?"),
        ),
        Wordings(
            (
                "Is {x} known for its {v}?",
                "Is the town of {x} known for its {v}?",
                "Is it for its {v} that {x} is famous?",
                "Did its {v} make {x} famous?",
            ),
            ("Is {x} famous for its {v}?", "Has {x} become famous for its {v}?"),
        ),
    ),
    "passes": Attribute(
        "river",
        "town",
        "flows through",
        ("flows through {v}", "is a river that flows through {v}"),
        Wordings(
            (
                "Which town does {x} flow through?",
                "Through which town does {x} flow?",
                "Which town stands on the banks of {x}?",
                "Past which town does {x} run?",
            ),
            ("Which town is on the banks of {x}?", "Which town does {x} run past?"),
        ),
        Wordings(
            (
                "Does {x} flow through {v}?",
                "Does {x} flow through the town of {v}?",
                "Does {x} have {v} on its banks?",
                "Is {v} a town that {x} runs past?",
            ),
            ("Does {x} run past {v}?", "Is {v} on the banks of {x}?"),
        ),
    ),
    "fish": Attribute(
        "river",
        "fish",
        "is rich in",
        ("is rich in {v}", "has always been rich in {v}"),
        Wordings(
            (
                "Which fish is {x} rich in?",
                "What fish is {x} rich in?",
                "What can be caught in {x}?",
                "Of which fish is there plenty in {x}?",
            ),
            ("Which fish is plentiful in {x}?", "Which fish can be caught in {x}?"),
        ),
        Wordings(
            (
                "Is {x} rich in {v}?",
                "Is it true that {x} is rich in {v}?",
                "Do people catch {v} in {x}?",
                "Is there plenty of {v} in {x}?",
            ),
            ("Is {v} plentiful in {x}?", "Can {v} be caught in {x}?"),
        ),
    ),
    "seat": Attribute(
        "company",
        "town",
        "was founded in",
        ("was founded in {v}", "was founded in the town of {v}"),
        Wordings(
            (
                "In which town was {x} founded?",
                "Where was {x} founded?",
                "In which town was {x} established?",
                "Where did {x} start?",
            ),
            ("In which town did {x} start?", "Where was {x} established?"),
        ),
        Wordings(
            (
                "Was {x} founded in {v}?",
                "Was {x} founded in the town of {v}?",
                "Was it in {v} that {x} was established?",
                "Is {v} where {x} started?",
            ),
            ("Did {x} start in {v}?", "Was {x} established in {v}?"),
        ),
    ),
    "founder": Attribute(
        "company",
        "person",
        "was founded by",
        ("had {v} for its founder", "had {v} as its founder"),
        Wordings(
            (
                "Who founded {x}?",
                "By whom was {x} founded?",
                "By whom was {x} started?",
                "Name the founder of {x}.",
            ),
            ("Who was the founder of {x}?", "Who started {x}?"),
        ),
        Wordings(
            (
                "Was {x} founded by {v}?",
                "Did {v} found {x}?",
                "Was {x} started by {v}?",
                "Is the founder of {x} called {v}?",
            ),
            ("Was {v} the founder of {x}?", "Was it {v} who started {x}?"),
        ),
    ),
    "goods": Attribute(
        "company",
        "goods",
        "makes",
        ("makes {v}", "makes both {v}", "has always made {v}"),
        Wordings(
            (
                "What does {x} make?",
                "Which of these does {x} make?",
                "Which goods does {x} produce?",
                "What comes from {x}?",
            ),
            ("Which goods come from {x}?", "What is produced by {x}?"),
        ),
        Wordings(
            (
                "Does {x} make {v}?",
                "Is it true that {x} makes {v}?",
                "Can one buy {v} from {x}?",
                "Has {x} always made {v}?",
            ),
            ("Does {x} produce {v}?", "Is {x} a producer of {v}?"),
        ),
    ),
    "region": Attribute(
        "species",
        "region",
        "lives in",
        ("lives in {v}", "lives in the regions of {v}"),
        Wordings(
            (
                "In which region does {x} live?",
                "Where does {x} live?",
                "Where can {x} be found?",
                "Which region is the home of {x}?",
            ),
            ("Which region is home to {x}?", "In which region can {x} be found?"),
        ),
        Wordings(
            (
                "Does {x} live in {v}?",
                "Does {x} live in the region of {v}?",
                "Is {x} found in {v}?",
                "Is {v} a home of {x}?",
            ),
            ("Is {v} home to {x}?", "Can {x} be found in {v}?"),
        ),
    ),
    "food": Attribute(
        "species",
        "food",
        "feeds on",
        ("feeds on {v}", "feeds mostly on {v}"),
        Wordings(
            (
                "What does {x} feed on?",
                "On what does {x} feed?",
                "What does {x} eat?",
                "Of what is the diet of {x} made up?",
            ),
            ("What is the diet of {x}?", "What is eaten by {x}?"),
        ),
        Wordings(
            (
                "Does {x} feed on {v}?",
                "Is it true that {x} feeds on {v}?",
                "Does {x} eat {v}?",
                "Does the diet of {x} consist of {v}?",
            ),
            ("Is the diet of {x} made up of {v}?", "Is it {v} that {x} eats?"),
        ),
    ),
    "stands": Attribute(
        "place",
        "town",
        "stands in",
        ("stands in {v}", "stands in the town of {v}"),
        Wordings(
            (
                "In which town does {x} stand?",
                "Where does {x} stand?",
                "Where can one visit {x}?",
                "In which town is {x} to be found?",
            ),
            ("Which town has {x}?", "In which town can one visit {x}?"),
        ),
        Wordings(
            (
                "Does {x} stand in {v}?",
                "Does {x} stand in the town of {v}?",
                "Is {v} where one can visit {x}?",
                "Is it in {v} that {x} is found?",
            ),
            ("Is {x} to be found in {v}?", "Can one visit {x} in {v}?"),
        ),
        weight=2,
    ),
}
