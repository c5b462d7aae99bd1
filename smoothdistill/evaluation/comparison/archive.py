"""`cells.zip`: what the finished cells of a comparison have left, to go on with it elsewhere."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from smoothdistill.errors import CheckpointError
from smoothdistill.evaluation.comparison.plan import RECORD_FILE, cell_state
from smoothdistill.evaluation.comparison.records import CellRecord
from smoothdistill.training.checkpoint import write_atomically

if TYPE_CHECKING:
    from smoothdistill.evaluation.comparison.plan import Cell, Plan
    from smoothdistill.evaluation.comparison.records import CellResult

__all__ = ["ARCHIVE_FILE", "fill_in", "lay_cells", "read_archives", "write_archive"]

ARCHIVE_FILE = "cells.zip"
"""What a comparison calls it."""

_SUFFIX = Path(RECORD_FILE).suffix
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal cells give equal files, whenever they were written


def write_archive(out: Path, results: Sequence[CellResult]) -> None:
    """Write the records of all finished cells to the folder of a comparison.

    Of cells that are gone or damaged it keeps the records that it had.

    Args:
        out: Folder of the comparison.
        results: Its cells, from `read_cells`.

    Raises:
        OSError: If it cannot be written; the old file is intact.
    """
    records = _kept(out, results)
    records |= {one.cell.folder: one.record for one in results if one.record is not None}

    def write(partial: Path) -> None:
        with (
            TemporaryDirectory() as folder,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name in sorted(records):
                entry = zipfile.ZipInfo(Path(name).name + _SUFFIX, _NO_TIME)
                records[name].write(Path(folder) / RECORD_FILE)
                content = (Path(folder) / RECORD_FILE).read_bytes()
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)

    write_atomically(out / ARCHIVE_FILE, write)


def fill_in(out: Path, results: Sequence[CellResult]) -> list[CellResult]:
    """Take what the archive of a comparison has kept of cells whose folders are gone.

    Args:
        out: Folder of the comparison.
        results: Its cells, from `read_cells`.
    """
    kept = _kept(out, [one for one in results if one.state == "to do"])
    return [
        replace(one, state="finished", record=kept[one.cell.folder])
        if one.state == "to do" and one.cell.folder in kept
        else one
        for one in results
    ]


def _kept(out: Path, results: Iterable[CellResult]) -> dict[str, CellRecord]:
    """Records of cells that cannot be read any more, where there is an archive that has them."""
    lost = [one.cell for one in results if one.record is None]
    try:
        return _read(out / ARCHIVE_FILE, lost)[0] if lost else {}
    except (FileNotFoundError, CheckpointError):
        return {}


def read_archives(paths: Iterable[str | Path], plan: Plan) -> dict[str, CellRecord]:
    """Records of cells of this plan, by the cell's folder.

    Args:
        paths: Files that `write_archive` has written, here or elsewhere.
        plan: The cells; what an archive holds of others is left out.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If a file is damaged, or no archive.
        ValueError: If an archive holds no cell of this plan.
    """
    found: dict[str, CellRecord] = {}
    for path in map(Path, paths):
        mine, num_held = _read(path, plan.cells)
        if not mine:
            raise ValueError(
                "`cells` must hold cells of this grid, with its configuration, its data and this "
                f"version of the package, but {str(path)!r} holds {num_held} others instead."
            )
        found |= mine
    return found


def _read(path: Path, cells: Iterable[Cell]) -> tuple[dict[str, CellRecord], int]:
    """Records of those cells that an archive has, by the cell's folder, and how many it has."""
    wanted = {Path(cell.folder).name + _SUFFIX: cell.folder for cell in cells}
    if not path.is_file():
        raise FileNotFoundError(
            f"`cells` must be files that a comparison has written ({ARCHIVE_FILE}), "
            f"but {str(path)!r} does not exist instead."
        )
    try:
        with zipfile.ZipFile(path) as archive, TemporaryDirectory() as folder:
            names = archive.namelist()
            records = {
                wanted[name]: CellRecord.read(Path(archive.extract(name, folder)))
                for name in names
                if name in wanted
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, CheckpointError) as error:
        raise CheckpointError(
            f"`cells` must be whole files of a comparison ({ARCHIVE_FILE}), "
            f"but {str(path)!r} is damaged ({type(error).__name__}) instead."
        ) from error
    return records, len(names)


def lay_cells(records: Mapping[str, CellRecord], out: Path) -> None:
    """Lay finished cells of other comparisons where this one then does not train them.

    Args:
        records: From `read_archives`.
        out: Folder of the comparison. A cell that it has begun itself stays as it is.

    Raises:
        OSError: If a file cannot be written.
    """
    for folder, record in records.items():
        if cell_state(out / folder)[0] == "to do":
            (out / folder).mkdir(parents=True, exist_ok=True)
            record.write(out / folder / RECORD_FILE)
