"""From what a file holds to what is meant: which read, which plate each picture shows, and one table of all of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Column, Part, Table, count, fold, listed
from labloop.assays.ingest.options import ReadOptions
from labloop.assays.ingest.parse import well_names
from labloop.assays.ingest.titles import matches, mentions, same
from labloop.errors import IngestError
from labloop.plates.wells import SHAPES, holding, parse_well
from labloop.types import Array

LEFT_OUT = ""
"""Stands for the plate of a picture that `--plate 'Plate 2='` leaves out."""
WAITS = "the only plate that waits for results"
"""How a plate is told that nobody named."""


def choose_read(parts: Sequence[Part], plates: Sequence[str], options: ReadOptions, file: str) -> str | None:
    """Tell which read is meant, by the file's name for it; None where the file names none.

    Args:
        plates: for each part the plate that it shows.

    Raises:
        IngestError: there are several and none is chosen, or the one chosen is not there; the message lists them.
    """
    names = list(dict.fromkeys(part.read for part in parts if part.read is not None))
    found = names
    if options.read is not None and names:
        wanted = options.read
        found = [name for name in names if same(name, wanted)] or [name for name in names if matches(wanted, name)]
    every, some = listed(map(repr, names), 20), listed(map(repr, found), 20)
    how = f"choose one with --read '{(found or names or [''])[0]}', or for all files with {options.place}"
    if not found and names:
        raise IngestError(f"{file}: has no read {options.read!r}; it holds {every}: {how}")
    if len(found) > 1 and options.read is not None:
        raise IngestError(f"{file}: the read {options.read!r} could be {some}; it holds {every}: {how}")
    if len(found) > 1:
        raise IngestError(f"{file}: holds {len(names)} reads: {every}; {how}")
    lacking = set(plates) - {plate for part, plate in zip(parts, plates) if part.read in (*found, None)}
    if lacking:
        raise IngestError(f"{file}: plate {listed(sorted(lacking))} has no read {some}: export all plates with the same reads")
    return found[0] if found else None


def name_plates(parts: Sequence[Part], options: ReadOptions, wells: pd.DataFrame, file: str) -> list[tuple[str, str]]:
    """Give for each part the plate that it shows, by labloop's name, or `LEFT_OUT`, and how that is known.

    What the file says comes first, then `--plate`, then the file's own name, then the only plate that waits.

    Raises:
        IngestError: it cannot be told, or two sources say two things; the message lists the plates.
    """
    laid = list(dict.fromkeys(wells["plate"].astype(str)))
    if not laid:
        raise IngestError(
            f"{file}: shows wells, but labloop has laid out no plate yet: propose a round first, or send a table that "
            "writes the designs out"
        )
    bare, pairs = _asked(options, laid, file)
    found = [_in_file(part, laid, file) for part in parts]
    called = _called(parts, found)
    pairs = _paired(pairs, called, found, file)
    open_groups = list(dict.fromkeys(one for one, name in zip(called, found) if name is None and one not in pairs))
    taken = {name for name in found if name} | set(pairs.values())
    named: list[tuple[str, str]] = []
    for part, name, one in zip(parts, found, called):
        wanted = [pairs[one]] if one in pairs else bare
        if wanted == [LEFT_OUT]:
            named.append((LEFT_OUT, "as --plate says"))
        elif name is not None and wanted and name not in wanted:
            raise IngestError(
                f"{file}: {part.where}: the file says that this is plate {name}, --plate says otherwise: mend what is wrong"
            )
        elif name is not None:
            named.append((name, "named in the file"))
        elif one in pairs:
            named.append((pairs[one], f"{one!r} by --plate"))
        elif len(bare) == 1 and len(open_groups) == 1:
            named.append((bare[0], "by --plate"))
        else:
            named.append(_from_outside(part, open_groups, laid, taken, options, file))
    return named


def _asked(options: ReadOptions, laid: Sequence[str], file: str) -> tuple[list[str], dict[str | None, str]]:
    """Take `--plate` apart: plates by labloop's name alone, and pairs of the file's name and labloop's, or `LEFT_OUT`."""
    split = [one.partition("=") for one in options.plates]
    pairs: dict[str | None, str] = {}
    for said, name in ((said.strip(), name.strip()) for said, equals, name in split if equals):
        if (other := pairs.setdefault(said, name)) != name:
            raise IngestError(f"{file}: --plate '{said}={other}' and --plate '{said}={name}': keep one of them")
    bare = [one.strip() for one in options.plates if "=" not in one]
    for asked in (*bare, *filter(None, pairs.values())):
        if asked not in laid:
            raise IngestError(f"{file}: --plate {asked}: labloop laid out no such plate; there are {listed(laid)}")
    return bare, pairs


def _paired(
    pairs: dict[str | None, str], called: Sequence[str | None], found: Sequence[str | None], file: str
) -> dict[str | None, str]:  # fmt: skip
    """Give pairs by the names of the file's plates that they mean.

    Raises:
        IngestError: one means none of them.
    """
    names = list(dict.fromkeys(one for one in called if one is not None))
    told: dict[str | None, str] = {}
    for said, name in pairs.items():
        meant = [one for one in names if one == said] or [one for one in names if same(one, str(said))]
        if not meant:
            there = f"it has {listed(map(repr, names))}" if names else "say labloop's name of its plate alone"
            raise IngestError(f"{file}: --plate '{said}={name}': the file names no plate {said!r}; {there}")
        for one in meant:
            if (other := told.setdefault(one, name)) != name:
                raise IngestError(f"{file}: --plate '{one}={other}' and --plate '{said}={name}': keep one of them")
    return told


def _called(parts: Sequence[Part], found: Sequence[str | None]) -> list[str | None]:
    """Give the name by which `--plate` speaks of each part's plate: the file's, labloop's where only a title has that, or None
    where the file names none and has one plate only.

    Where several plates have one name, or none, it is the place of the plate's first picture.
    """
    seen: Counter[tuple[str | None, str | None]] = Counter()
    plates: list[tuple[str | None, int]] = []
    for part in parts:
        plates.append((part.plate, seen[part.plate, part.read]))
        seen[part.plate, part.read] += 1
    twice = {plate for (plate, _), n in seen.items() if n > 1} | ({None} if len(set(plates)) > 1 else set())
    places: dict[tuple[str | None, int], str] = {}
    for part, plate in zip(parts, plates):
        where = part.where.replace(",", "")  # a page takes several names with commas between
        beside = sum(one.startswith(where) for one in places.values())
        places.setdefault(plate, f"{where} ({beside + 1})" if beside else where)
    return [
        places[plate] if name is None and part.plate in twice and not part.firm else name if part.plate is None else part.plate
        for part, plate, name in zip(parts, plates, found)
    ]


def rename_plates(table: Table, place: str, options: ReadOptions, wells: pd.DataFrame) -> Table:
    """Give the plates of a column labloop's names, as pairs of `--plate` tell them.

    Raises:
        IngestError: a pair's plate is not in the file, or not laid out, or has labloop's name already.
    """
    laid = list(dict.fromkeys(wells["plate"].astype(str)))
    cells = table.columns[place].cells
    for said, name in _asked(options, laid, table.name)[1].items():
        mine = np.array([same(text, str(said)) for text in cells.tolist()], dtype=bool)
        if not mine.any():
            there = listed(filter(None, dict.fromkeys(cells.tolist())))
            raise IngestError(f"{table.name}: --plate '{said}={name}': column {place!r} names no plate {said!r}; it has {there}")
        if said in laid and said != name:
            raise IngestError(
                f"{table.name}: the file says that this is plate {said}, --plate says otherwise: mend what is wrong"
            )
        if name == LEFT_OUT:
            raise IngestError(f"{table.name}: --plate '{said}=': name its plate behind =, or take its rows out of the file")
        cells = np.where(mine, name, cells)
    return replace(table, columns={**table.columns, place: Column.of(cells.tolist())})


def _in_file(part: Part, laid: Sequence[str], file: str) -> str | None:
    """Find the plate that the file itself names."""
    if part.plate is not None:
        for name in laid:
            if same(name, part.plate):
                return name
    for text in (part.plate or "", *([] if part.firm else part.texts)):
        found = [name for name in laid if mentions(name, text)]
        if len(found) > 1:
            raise IngestError(
                f"{file}: {part.where}: the file speaks of plates {' and '.join(found)}: say with --plate which one this is"
            )
        if found:
            return found[0]
    return None


def _from_outside(
    part: Part, groups: Sequence[str | None], laid: Sequence[str], taken: set[str], options: ReadOptions, file: str
) -> tuple[str, str]:
    """Find the plate where neither the file's content nor `--plate` names it."""
    waiting, free = ([name for name in some if name not in taken] for some in (options.waiting(), laid))
    if part.firm:
        raise IngestError(
            f"{file}: {part.where}: the plate is called {part.plate!r}, which labloop did not lay out ({listed(laid)}); "
            f"if it is one of them, say --plate '{part.plate}={(waiting or free or laid)[0]}', else leave it out with "
            f"--plate '{part.plate}='"
        )
    if len(groups) == 1:
        spoken = [name for name in laid if mentions(name, file)]
        if len(spoken) == 1:
            return spoken[0], "named by the file's name"
        if len(waiting) == 1:
            return waiting[0], WAITS
    left = waiting or free
    pairs = zip_longest(groups, left[: len(groups)], fillvalue=LEFT_OUT)
    how = f"--plate {left[0]}" if len(groups) == len(left[:1]) else " ".join(f"--plate '{group}={name}'" for group, name in pairs)
    which, are = "waiting" if waiting else "laid out", "is" if len(left) == 1 else "are"
    kind = f"{which} {are} {listed(left)}" if left else "none is left"
    out = ", which leaves out what has no name behind =" if len(groups) > len(left) else ""
    raise IngestError(f"{file}: does not say which plate it is; {kind}: choose with {how}{out}")


def join(parts: Sequence[Part], options: ReadOptions, wells: pd.DataFrame, shape: tuple[int, int], file: str) -> Table:
    """Make one long table of plate grids: the columns `plate`, `well`, `value`, a row each well that was measured.

    Empty wells are left out: what labloop laid out there goes on waiting, which a remark says. Where a reader has read every
    well of the picture, so are those that hold nothing; a single value there is a mistake.

    Raises:
        IngestError: a read or a plate has to be chosen, two pictures show the same plate, or one is not of its plate's shape.
    """
    parts = [_untitled(part, wells) for part in parts]
    shown = [(part, plate) for part, plate in zip(parts, name_plates(parts, options, wells, file)) if plate[0] != LEFT_OUT]
    if not shown:
        raise IngestError(f"{file}: --plate leaves out every picture: name the plate of one")
    remarks = [f"left out {part.where}, as --plate says" for part in parts if not any(part is one for one, _ in shown)]
    parts, named = [part for part, _ in shown], [plate for _, plate in shown]
    read = choose_read(parts, [name for name, _ in named], options, file)
    drawn = [(part, *plate) for part, plate in zip(parts, named) if part.read in (read, None)]
    for part, name, how in drawn:
        laid = wells[wells["plate"].astype(str) == name]
        own = _laid_on(laid, shape)
        if part.grid is not None and _of_another_shape(part, part.grid, own, laid, guessed=how == WAITS):
            corner = part.grid[0] <= own[0] and part.grid[1] <= own[1] and part.grid != (8, 12)
            raise IngestError(
                f"{file}: {part.where}: a plate of {part.grid[0]} x {part.grid[1]} wells, the campaign's have "
                f"{own[0]} x {own[1]} (plate.wells): export the plate as it is laid out, "
                + (
                    f"or say that it is a corner of one: --plate {name}"
                    if corner
                    else "and of a part of it a table, one row a well"
                )
            )
    for name in dict.fromkeys(name for _, name, _ in drawn):
        where = [part.where for part, shown, _ in drawn if shown == name]
        if len(where) > 1:
            raise IngestError(
                f"{file}: {listed(where)} all show plate {name}: keep one of them, or name their reads or plates in the file"
            )
    tables = []
    if options.read and not read:
        remarks.append(f"the file does not name its read, taken for {options.read!r}")
    for part, name, source in drawn:
        table, waits, bare = _filled(part.table, wells[wells["plate"].astype(str) == name])
        tables.append(replace(table, columns={"plate": Column.of([name] * len(table)), **table.columns}))
        remarks.append(f"plate {name} ({source}) on {part.where}" + (f", read {part.read!r}" if part.read else ""))
        if waits:
            remarks.append(f"{count(len(waits), 'well')} of {name} left empty, which go on waiting: {listed(waits)}")
        if bare:
            remarks.append(f"{count(len(bare), 'well')} of {name} left out, in which labloop laid nothing: {listed(bare)}")
    joined = stack(tables)
    if not len(joined):
        raise IngestError(f"{file}: every well of the plate is empty")
    return replace(joined, remarks=(*joined.remarks, *remarks))


def _laid_on(laid: pd.DataFrame, shape: tuple[int, int]) -> tuple[int, int]:
    """Give the shape of a plate: the lab's present one, or a larger one where wells of it were laid out beyond that."""
    spots = [*map(parse_well, laid["well"].astype(str))]
    last = (max((row for row, _ in spots), default=1), max((column for _, column in spots), default=1))
    return shape if last[0] <= shape[0] and last[1] <= shape[1] else holding(*last)


def _of_another_shape(part: Part, grid: tuple[int, int], shape: tuple[int, int], laid: pd.DataFrame, *, guessed: bool) -> bool:
    """Whether a picture is of a plate larger than the lab's, or of a whole smaller one outside of which something was laid out.

    Of fewer than 96 wells it is a corner of the lab's plate where that is named, or where a plate so much smaller is none.

    Args:
        guessed: nobody named the plate.
    """
    if grid == shape or grid[0] > shape[0] or grid[1] > shape[1]:
        return grid != shape
    whole = grid in SHAPES.values() and len(part.table) == grid[0] * grid[1]
    inside = [row <= grid[0] and column <= grid[1] for row, column in map(parse_well, laid["well"].astype(str))]
    large = 4 * len(part.table) >= min(96, shape[0] * shape[1])
    return whole and (guessed or grid == (8, 12)) and large and not all(inside)


def _untitled(part: Part, wells: pd.DataFrame) -> Part:
    """Take the plate's name out of the read's: people write the plate above its picture, and the read behind it or not at all."""
    read = part.read
    for name in dict.fromkeys(wells["plate"].astype(str)):
        if read is not None and mentions(name, read):
            read = re.sub(re.escape(name), "", read, flags=re.IGNORECASE).strip(" ,;:_-()[]") or None
    return replace(part, read=read)


def _filled(table: Table, laid: pd.DataFrame) -> tuple[Table, list[str], list[str]]:
    """Drop the empty wells, and of a plate that was read as a whole those that hold nothing; list those that wait, and these."""
    given = table.columns["value"].given
    shown = table.columns["well"].cells
    held = np.isin(shown, well_names(laid["well"].astype(str).to_numpy(dtype=object))[0])
    bare = ~held & given.all()
    return take(table, np.flatnonzero(given & ~bare)), shown[held & ~given].tolist(), shown[bare].tolist()


def add_plates(parts: Sequence[Part], options: ReadOptions, wells: pd.DataFrame, file: str) -> list[Table]:
    """Give long tables that name no plates the plate that is meant, as a column `plate`."""
    tables = []
    for part, (name, source) in zip(parts, name_plates(parts, options, wells, file) if parts else []):
        table = take(part.table, np.arange(len(part.table) if name != LEFT_OUT else 0))
        remark = f"{part.where}: plate {name} ({source})" if name != LEFT_OUT else f"left out {part.where}, {source}"
        columns = {"plate": Column.of([name] * len(table)), **table.columns}
        tables.append(replace(table, columns=columns, remarks=(*table.remarks, remark)))
    return tables


def take(table: Table, rows: Array) -> Table:
    """Keep only these rows."""
    places = None if table.places is None else table.places[rows]
    columns = {name: column.take(rows) for name, column in table.columns.items()}
    return replace(table, columns=columns, lines=table.lines[rows], places=places)


def stack(tables: Sequence[Table]) -> Table:
    """Put tables below one another; a column that one of them lacks is blank there."""
    first = tables[0]
    if len(tables) == 1:
        return first
    names: dict[str, str] = {}
    for table in tables:
        if len({fold(name) for name in table.columns}) < len(table.columns):
            raise IngestError(
                f"{table.name}: columns must differ in more than case and blanks, but there are {', '.join(table.columns)}"
            )
        for name in table.columns:
            names.setdefault(fold(name), name)
    columns = {
        name: Column.of([cell for table in tables for cell in (_cells(table, folded) or [""] * len(table))])
        for folded, name in names.items()
    }
    typed: dict[str, frozenset[str]] = {}
    for table in tables:
        for name, texts in table.typed.items():
            typed[names[fold(name)]] = typed.get(names[fold(name)], frozenset()) | texts
    return replace(
        first,
        columns=columns,
        lines=np.concatenate([table.lines for table in tables]),
        typed=typed,
        places=np.concatenate([_places(table) for table in tables]),
        faults=tuple(fault for table in tables for fault in table.faults),
        remarks=tuple(dict.fromkeys(remark for table in tables for remark in table.remarks)),
    )


def _cells(table: Table, folded: str) -> list[str]:
    """Give a column's cells by its folded name; none where the table lacks it."""
    return next((column.cells.tolist() for name, column in table.columns.items() if fold(name) == folded), [])


def _places(table: Table) -> Array:
    return np.full(len(table), "row", dtype=object) if table.places is None else table.places
