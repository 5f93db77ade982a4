"""Rows out of parquet files, with the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kard.errors import BadInput, NoExtra
from kard.files import FilePosition, Row

BATCH = 1_000  # rows in memory at a time


def parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[FilePosition, Row]]:
    """Every row with its number as its line, of the wanted columns only. Raises NoExtra and BadInput."""
    try:
        reader: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise NoExtra("parquet files need pyarrow; install it with: pip install 'kard[parquet]'") from error
    number = 0
    try:
        with reader.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in wanted]
            for batch in file.iter_batches(batch_size=BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield FilePosition(path, number), row
    except (OSError, ValueError) as error:  # pyarrow's own errors are children of these two
        first = str(error).partition("\n")[0]
        raise BadInput(
            f"cannot be read as parquet ({first}); fetch the file again", at=f"{path}:{number + 1}"
        ) from error
    if not number:
        raise BadInput("the file holds no rows", at=str(path))
