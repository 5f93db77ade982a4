"""Knowledge-augmented reasoning distillation (KARD, arXiv 2305.18395) over one SQLite store."""

from importlib.metadata import version

__version__ = version("kard")
