"""What is told of towns, rivers, companies, species and places, how pages say it and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping

from .wordings import Attribute, Wordings

THINGS: Mapping[str, Attribute] = {
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
