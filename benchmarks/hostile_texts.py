"""Time the reader of answers on hostile text of three sizes, in microseconds a byte.

    python benchmarks/hostile_texts.py

The last columns must not grow with the size: a reader that goes back and forth over the text would take ten and a
hundred times as long a byte.
"""

from __future__ import annotations

from time import perf_counter

from kard.answers.parsing import answer_of, conclusion, without_closing, without_conclusions

OPTIONS = ("tin", "lead", "no")
SIZES = (10_000, 100_000, 1_000_000)  # bytes
UNITS = (
    "answer is ",
    "the answer is (A), ",
    "A ",
    "B. ",
    "no ",
    "tin, lead, ",
    "Answer: ",
    "<answer>",
    "{",
    ". ",
    "\n",
)


def microseconds_per_byte(unit: str, size: int) -> float:
    """Return the time of every reader together on a text that repeats `unit`."""
    text = unit * (size // len(unit))
    start = perf_counter()
    for read in (conclusion, answer_of, without_conclusions):
        read(text, OPTIONS)
    without_closing(text)
    return (perf_counter() - start) / len(text.encode()) * 1e6


def main() -> None:
    """Print a line for each text."""
    print(f"{'text':24}" + "".join(f"{size:>12,}" for size in SIZES))
    for unit in UNITS:
        print(f"{unit!r:24}" + "".join(f"{microseconds_per_byte(unit, size):12.2f}" for size in SIZES))


if __name__ == "__main__":
    main()
