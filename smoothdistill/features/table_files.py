"""Tables on disk, written piece by piece, that get their name when all of it is there."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from smoothdistill.datasets.arrow import import_arrow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SUFFIXES", "TableWriter", "table_file"]

SUFFIXES = (".parquet", ".csv")
LEFTOVER_SUFFIX = ".partial"

# Parquet keeps a note of every row group in memory up to the end, of some 100 bytes a column: a
# group for each of many short recordings would need more memory than the features do.
GROUP_BYTES = 16 << 20


class TableWriter:
    """Collects pieces of a table up to `GROUP_BYTES`, and writes them."""

    def __init__(self, path: Path, schema: Any, *, is_csv: bool) -> None:
        self._pieces: list[Any] = []
        self._num_bytes = 0
        self._is_csv = is_csv
        if is_csv:
            self._writer = import_arrow("csv").CSVWriter(path, schema)
        else:
            string = import_arrow().string()
            texts = [field.name for field in schema if field.type == string]
            # Features hardly ever repeat: a dictionary of them is tried in vain.
            parquet = import_arrow("parquet")
            self._writer = parquet.ParquetWriter(path, schema, use_dictionary=texts)

    def write(self, piece: Any) -> None:
        """Append a `pyarrow.Table`.

        Raises:
            OSError: If the disk is full.
        """
        self._pieces.append(piece)
        self._num_bytes += piece.nbytes
        if self._num_bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if self._pieces:
            rows = import_arrow().concat_tables(self._pieces).combine_chunks()
            self._pieces, self._num_bytes = [], 0
            options = {} if self._is_csv else {"row_group_size": len(rows)}
            self._writer.write_table(rows, **options)

    def close(self) -> None:
        """Write the end of the file, but nothing that was collected."""
        self._writer.close()


@contextmanager
def table_file(path: Path, schema: Any) -> Iterator[TableWriter]:
    """A Parquet or CSV file, by its suffix. An error, or a signal, leaves what was there before.

    A function and not a class: a signal may come before `__enter__` has returned, and then no
    `__exit__` is called, but the end of a generator is run.

    Args:
        path: The file to write or replace.
        schema: The `pyarrow.Schema` of every piece.
    """
    partial = path.with_name(path.name + LEFTOVER_SUFFIX)
    writer = None
    try:
        writer = TableWriter(partial, schema, is_csv=path.suffix.lower() == ".csv")
        yield writer
        writer.flush()
        writer.close()
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        if writer is not None:
            with suppress(Exception):  # of a full disk, which is the error on its way already
                writer.close()
        raise
    finally:
        partial.unlink(missing_ok=True)
