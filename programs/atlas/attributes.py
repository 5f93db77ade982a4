"""Every kind of fact, by name."""

from __future__ import annotations

from collections.abc import Mapping

from .persons import PERSONS
from .things import THINGS
from .wordings import Attribute

ATTRIBUTES: Mapping[str, Attribute] = {**PERSONS, **THINGS}
