"""Find out which design each row measured: by its well, its tube's name, labloop's `design_id`, or the design itself."""

from __future__ import annotations

from collections.abc import Mapping, Set
from collections.abc import Sequence as Listed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Column, Table
from labloop.assays.ingest.columns import tells_designs
from labloop.assays.ingest.parse import Marks, numbers, well_names
from labloop.assays.ingest.tubes import designs_of_tubes, other_tubes
from labloop.config.campaign import CampaignConfig
from labloop.errors import DesignError, Fault
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Sequence
from labloop.types import Array, FloatArray


@dataclass(frozen=True, eq=False)
class Keys:
    """What each row is of; arrays (n,) of text with NaN where there is none."""

    design_id: Array
    control: Array
    plate: Array
    well: Array
    round: FloatArray
    written: pd.DataFrame
    """Designs that the file itself writes out: the space's columns and `in_space`, by design_id."""
    faults: tuple[Fault, ...]


def numeric_columns(space: DesignSpace) -> list[str]:
    """Columns of the design whose cells are numbers, so that a decimal comma can stand in them."""
    names: list[str] = []
    for parameter in space:
        options = parameter.options if isinstance(parameter, Choice) else ()
        if not isinstance(parameter, Sequence) and not any(isinstance(option, str) for option in options):
            names += parameter.columns
    return names


def resolve(
    table: Table, found: Mapping[str, str], config: CampaignConfig, marks: Marks, *, wells: pd.DataFrame, designs: pd.DataFrame
) -> Keys:
    """Resolve every row to a design or a control; keys that disagree, or lead nowhere, are faults."""
    written = _written(table, found, config.space, marks)
    named, has_id = _nothing(table), np.zeros(len(table), dtype=bool)
    faults = list(written.faults)
    if "design_id" in found:
        place, column = found["design_id"], table.columns[found["design_id"]]
        has_id = column.given
        ids = np.array([text.lower() for text in column.texts.tolist()], dtype=object)
        named = np.where(has_id, column.spread(ids), np.nan)
        known = column.spread(pd.Index(ids).isin(designs.index) | pd.Index(ids).isin(wells["design_id"].dropna()))
        # An id that labloop never gave is still good where the row writes the design out and the two agree.
        rule = "is no design that labloop knows: mend it, or write the design out in " + ", ".join(config.space.columns)
        faults += table.mark(has_id & ~known & ~written.given, place, rule)
        differ = has_id & ~pd.isna(written.ids) & (named != written.ids)
        faults += table.mark(differ, place, "is not the design that the row writes out, which is {}", written.ids)
    of_tube = np.full(len(table), -1)
    beside = "sample" in found and tells_designs(found, config.space)
    if "sample" in found and not beside:
        named, of_tube, more = designs_of_tubes(table, found["sample"], config.name, wells)
        has_id = table.columns[found["sample"]].given
        faults += more
    own = np.where(pd.isna(written.ids), named, written.ids)
    keyed = written.given | (has_id & (of_tube < 0))

    ours, last = set(wells["plate"].dropna()), max([config.rounds, *wells["round"].astype(int)])
    spots = _spots(table, found, keyed=written.given | has_id, ours=ours, last=last)
    row_of, more = _layout(table, found, spots, wells, keyed=keyed)
    faults += [*spots.faults, *more]
    if beside:
        faults += other_tubes(table, found, config.name, wells, row_of=row_of, own=own)
    if (of_tube >= 0).any():
        row_of = of_tube
        plate, well = (np.where(of_tube >= 0, wells[name].to_numpy(dtype=object)[of_tube], np.nan) for name in ("plate", "well"))
        faults += _elsewhere(
            table, found, spots, {"plate": plate, "well": well, "round": wells["round"].to_numpy()[of_tube]}, of_tube >= 0
        )
        spots = replace(spots, plate=plate, well=well, has_plate=of_tube >= 0, has_well=of_tube >= 0)
    laid = np.flatnonzero(row_of >= 0)
    held, control, rounds = _nothing(table), _nothing(table), spots.round.copy()
    held[laid] = wells["design_id"].to_numpy(dtype=object)[row_of[laid]]
    control[laid] = wells["control"].to_numpy(dtype=object)[row_of[laid]]
    rounds[laid] = wells["round"].to_numpy(dtype=float)[row_of[laid]]
    filled = laid[~pd.isna(held[laid])]
    differ = filled[~pd.isna(own[filled]) & (held[filled] != own[filled])]
    faults += table.mark(differ, found.get("well", ""), "holds design {}, but the row names {}", held, own)
    taken = laid[keyed[laid] & ~pd.isna(control[laid])]
    faults += table.mark(taken, found.get("well", ""), "holds the control {}, but the row names a design", control)
    faults += _repeated(table, found, spots, rounds)
    keyless = ~(keyed | spots.has_plate | spots.has_well)
    first = next(found[name] for name in ("well", "design_id", "sample", *config.space.columns) if name in found)
    faults += table.mark(keyless, first, "the row names neither a well nor a design")
    own[filled] = held[filled]
    return Keys(own, control, spots.plate, spots.well, rounds, written.designs, tuple(faults))


def _nothing(table: Table) -> Array:
    return np.full(len(table), np.nan, dtype=object)


def _elsewhere(
    table: Table, found: Mapping[str, str], spots: _Spots, laid: Mapping[str, Array], known: Array
) -> list[Fault]:  # fmt: skip
    """Rows that name a tube, where that is `known`, and beside it another plate, well or round than the tube was laid out in."""
    faults: list[Fault] = []
    for name, place in laid.items():
        said = getattr(spots, name)
        other = known & ~pd.isna(said) & (said != place)
        faults += table.mark(other, found.get(name, ""), f"is not the {name} of the row's sample, which is {{}}", place)
    return faults


# ---- designs that the file writes out

_CHUNK = 16_384


@dataclass(frozen=True, eq=False)
class _Written:
    ids: Array
    """(n,) design_id, NaN where the row writes no design, or a faulty one."""
    given: Array
    """(n,) whether the row writes anything."""
    designs: pd.DataFrame
    faults: tuple[Fault, ...]


def _written(table: Table, found: Mapping[str, str], space: DesignSpace, marks: Marks) -> _Written:
    """Read the designs in the design columns: each distinct one is encoded once."""
    ids, nobody = _nothing(table), pd.DataFrame(columns=[*space.columns, "in_space"])
    if not all(name in found for name in space.columns):
        return _Written(ids, np.zeros(len(table), dtype=bool), nobody, ())
    columns = {name: table.columns[found[name]] for name in space.columns}
    given = np.any([column.given for column in columns.values()], axis=0)
    rows = np.flatnonzero(given)
    if not len(rows):
        return _Written(ids, given, nobody, ())
    group = np.zeros(len(rows), dtype=np.int64)
    for column in columns.values():
        group = pd.factorize(group * len(column.texts) + column.codes[rows])[0]
    first = np.unique(group, return_index=True)[1]
    cells = {name: column.spread(pointed(name, column, space, marks))[rows][first] for name, column in columns.items()}
    distinct = pd.DataFrame(cells, dtype=object)
    number = np.full(len(distinct), np.nan, dtype=object)
    faults: list[Fault] = []
    parts: list[pd.DataFrame] = []
    for start in range(0, len(distinct), _CHUNK):
        read, wrong = _encoded(distinct.iloc[start : start + _CHUNK], space)
        number[read.index.to_numpy()] = read["design_id"]
        parts.append(read.set_index("design_id"))
        members = pd.Series(rows).groupby(group).indices if wrong else {}
        for fault in wrong:
            # A rule over several columns (a mixture's sum) is shown at the first of them.
            place = next(found[name] for name in (fault.column, *space.columns) if name in found)
            faults += table.mark(rows[members[start + fault.row]], place, fault.rule)
    ids[rows] = number[group]
    designs = pd.concat(parts)
    return _Written(ids, given, designs[~designs.index.duplicated()], tuple(faults))


def _encoded(cells: pd.DataFrame, space: DesignSpace) -> tuple[pd.DataFrame, Listed[Fault]]:
    """Read designs, a few at a time since their encoding is far larger than they are.

    Returns:
        Those that could be read, by their place in `cells`: `design_id`, the space's columns and `in_space`; and the faults of
        the others, rows counted from 0.
    """
    good = np.ones(len(cells), dtype=bool)
    faults: Listed[Fault] = ()
    try:
        X = space.encode(cells, strict=False)
    except DesignError as error:
        faults = error.faults
        good[[fault.row for fault in faults]] = False
        X = space.encode(cells[good], strict=False) if good.any() else np.zeros((0, space.d))
    typed: dict[str, Array] = {}
    for parameter, block in zip(space, space.blocks):
        typed.update(zip(parameter.columns, parameter.typed(parameter.decode(X[:, block.start : block.stop]))))
    told = {"design_id": np.array(space.ids(X), dtype=object), **typed, "in_space": space.feasible(X)}
    return pd.DataFrame(told, index=cells.index[good]), faults


def pointed(name: str, column: Column, space: DesignSpace, marks: Marks) -> Array:
    """The column's texts with a decimal point, so that the space can read them; what is no number stays as it is."""
    if name not in numeric_columns(space):
        return column.texts
    values, rules = numbers(column.texts, marks)
    return np.array(
        [text if rule else repr(value) for text, value, rule in zip(column.texts, values.tolist(), rules)], dtype=object
    )


# ---- wells


@dataclass(frozen=True, eq=False)
class _Spots:
    plate: Array
    well: Array
    round: FloatArray
    no_well: Array
    """(n,) the rule that the well's text breaks, or ''."""
    has_plate: Array
    has_well: Array
    """(n,) whether the row has any text there."""
    faults: tuple[Fault, ...]


def _spots(table: Table, found: Mapping[str, str], *, keyed: Array, ours: Set[Any], last: int) -> _Spots:
    """Read plate, well and round as written; half an address is a fault unless the row says its design itself.

    Args:
        ours: plates that the campaign has laid out.
        last: the campaign's last round, planned or laid out.
    """
    plate, well, no_well = _nothing(table), _nothing(table), np.full(len(table), "", dtype=object)
    rounds = np.full(len(table), np.nan)
    has_plate, has_well, foreign = (np.zeros(len(table), dtype=bool) for _ in range(3))
    faults: list[Fault] = []
    if "plate" in found:
        column = table.columns[found["plate"]]
        has_plate = column.given
        plate = np.where(has_plate, column.cells, np.nan)
        # A design on a plate that is not ours comes from elsewhere, such as another campaign's dataset, and so does its round.
        foreign = keyed & has_plate & column.spread(np.array([text not in ours for text in column.texts], dtype=bool))
    if "well" in found:
        column = table.columns[found["well"]]
        names, rules = well_names(column.texts)
        has_well = column.given
        well, no_well = np.where(has_well, column.spread(names), np.nan), column.spread(rules)
    if "round" in found:
        column = table.columns[found["round"]]
        value, rules = numbers(np.where(column.texts == "", "0", column.texts).astype(object), Marks(".", False))
        strange = (rules == "") & ((value != np.floor(value)) | (value < 0) | (value > last))
        rules = np.where(
            strange, f"is no round of this campaign: it takes 1 to {last}, 0 for data from before, or nothing", rules
        )
        rounds = np.where(column.given & ~foreign, column.spread(value), np.nan)
        faults += table.mark(column.spread(rules != "") & ~foreign, found["round"], "{}", column.spread(rules))
    for name, this, other in (("well", has_well, has_plate), ("plate", has_plate, has_well)):
        lost = ~this & other & ~keyed
        where = found.get(name, found.get("plate", found.get("well", "")))
        faults += table.mark(lost, where, f"the row has no {name}: a well is found by plate and well together")
    return _Spots(plate, well, rounds, no_well, has_plate, has_well, tuple(faults))


def _layout(
    table: Table, found: Mapping[str, str], spots: _Spots, wells: pd.DataFrame, *, keyed: Array
) -> tuple[Array, list[Fault]]:
    """Find each row's well in what labloop has laid out: its row of `wells` or -1, and the faults.

    A plate that labloop never laid out is the lab's own: welcome where the row says its design itself (`keyed`).
    """
    row_of = np.full(len(table), -1)
    both = spots.has_plate & spots.has_well
    if not both.any():
        return row_of, []
    column = table.columns[found["plate"]]
    known = column.spread(pd.Index(column.texts).isin(wells["plate"].astype(str)))
    names = list(dict.fromkeys(wells["plate"].astype(str)))
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    rule = f"is no plate that labloop laid out ({shown or 'there is none yet'})"
    rule += "; if it is one of them, say --plate '{}=NAME'" if names else ""
    faults = table.mark(both & ~known & ~keyed, found["plate"], rule, spots.plate)
    bad = spots.no_well != ""
    faults += table.mark(both & bad & (known | ~keyed), found["well"], "{}", spots.no_well)

    mine = both & known & ~bad
    names_of_wells = well_names(wells["well"].astype(str).to_numpy(dtype=object))[0]
    keys = [wells["plate"].astype(str).to_numpy(dtype=object), names_of_wells, wells["round"].to_numpy(dtype=float)]
    dated = table.columns[found["round"]].given if "round" in found else np.zeros(len(table), dtype=bool)
    for rows, n, when in ((mine & ~dated, 2, ""), (mine & dated, 3, " in that round")):
        asked = [spots.plate[rows], spots.well[rows], spots.round[rows]][:n]
        laid, looked_up = pd.MultiIndex.from_arrays(keys[:n]), pd.MultiIndex.from_arrays(asked)
        once = ~laid.duplicated()
        row_of[rows] = np.append(np.flatnonzero(once), -1)[laid[once].get_indexer(looked_up)]
        if not once.all():
            # Plates are named once a campaign; where a lab starts again with plate 1 each round, the file has to say which round.
            unsure = np.zeros(len(table), dtype=bool)
            unsure[rows] = looked_up.isin(laid[~once])
            faults += table.mark(unsure, found["plate"], "is a plate of several rounds: say which in a column round")
        rule = f"of plate {{}} is empty: labloop laid nothing out there{when}"
        faults += table.mark(rows & (row_of < 0), found["well"], rule, spots.plate)
    return row_of, faults


def _repeated(table: Table, found: Mapping[str, str], spots: _Spots, rounds: FloatArray) -> list[Fault]:
    """A well that stands in the file twice: one of the two is a mistake, and only the lab knows which."""
    rows = np.flatnonzero(spots.has_plate & spots.has_well)
    if not len(rows):
        return []
    if {"plate", "well"} <= found.keys():
        well = table.columns[found["well"]]
        plates, wells = table.columns[found["plate"]].codes, well.spread(pd.factorize(well_names(well.texts)[0])[0])
    else:  # known by its tube
        plates, wells = (pd.factorize(one)[0] for one in (spots.plate, spots.well))
    frame = pd.DataFrame({"plate": plates[rows], "well": wells[rows], "round": rounds[rows]})
    if "file" in table.columns:  # labloop's own export of a ledger: a well may have been read in one file and again in another
        frame["file"] = table.columns["file"].codes[rows]
    twice = frame.duplicated().to_numpy()
    if not twice.any():
        return []
    group = frame.groupby(list(frame.columns), dropna=False, sort=False).ngroup().to_numpy()
    first = np.zeros(len(table), dtype=np.int64)
    first[rows] = table.lines[rows][~twice][group]
    place = found.get("well", found.get("sample", ""))
    return table.mark(rows[twice], place, "of plate {} stands in row {} already: keep one of them", spots.plate, first)
