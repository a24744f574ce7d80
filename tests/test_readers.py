"""Files as labs send them: each is read to what was measured, or refused with the message that mends it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from unittest import mock

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labloop.assays.ingest import AssayFile, ReadOptions, explain_assay, read_assay
from labloop.assays.ingest import read as reading
from labloop.assays.ingest.cells import Column, Part, Table
from labloop.assays.ingest.designs import cells_of_designs, read_designs
from labloop.assays.ingest.echo import EchoReport
from labloop.assays.ingest.excel import Workbook
from labloop.assays.ingest.fasta import FastaText
from labloop.assays.ingest.grid import GridText
from labloop.assays.ingest.long import LongText
from labloop.assays.ingest.reader import Reader
from labloop.campaign.facade import Campaign
from labloop.cli import main
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config
from labloop.config.round import RoundConfig
from labloop.errors import ConfigError, IngestError
from labloop.plates.vessel import Plate
from labloop.plates.wells import parse_well, row_name
from labloop.testing import ReaderContract

FOLDER = Path(__file__).parent.parent / "examples" / "data" / "assays"
READ = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
REFUSED = json.loads((FOLDER / "refused" / "expected.json").read_text(encoding="utf-8"))
CONFIGS = {path.stem: load_config(path, CampaignConfig) for path in (FOLDER / "campaigns").iterdir()}


def laid_out(campaign: str) -> dict[str, pd.DataFrame]:
    """What labloop knows of a campaign of the examples: its wells and their designs."""
    layout = pd.read_csv(FOLDER / "layout.csv", dtype=str)
    layout = layout[layout["campaign"] == campaign].reset_index(drop=True)
    space = CONFIGS[campaign].space
    held = layout["dna"].notna()
    ids = pd.Series(np.nan, index=layout.index, dtype=object)
    if held.any():
        ids[held] = space.ids(space.encode(layout.loc[held, ["dna"]]))
    designs = layout.loc[held, ["dna"]].set_index(pd.Index(ids[held], name="design_id")).reindex(columns=list(space.columns))
    return {
        "wells": layout.assign(round=1, design_id=ids)[["round", "plate", "well", "design_id", "control"]],
        "designs": designs,
    }


def options_of(told: dict[str, Any]) -> dict[str, Any]:
    options = told.get("options", {})
    waiting = tuple(options.get("waiting", ()))
    said = {name: options[name] for name in ("assay", "read", "plates") if name in options}
    return {"options": ReadOptions(waiting=lambda: waiting, **said), **laid_out(told["campaign"])}


def ingest(path: Path, told: dict[str, Any]) -> AssayFile:
    return read_assay(path, CONFIGS[told["campaign"]], **options_of(told))


@pytest.mark.parametrize("name", READ)
def test_a_file_as_labs_send_it_is_read_to_what_was_measured(name):
    told = READ[name]
    file = ingest(FOLDER / name, told)
    table = file.measurements
    assert file.reader == told["reader"]
    assert len(table) == len(told["rows"])
    if isinstance(told["rows"][0][0], dict):
        designs = file.designs.set_index("design_id").loc[table["design_id"]]
        assert designs[list(told["rows"][0][0])].to_dict("records") == [design for design, _ in told["rows"]]
        assert table["value"].tolist() == [value for _, value in told["rows"]]
        return
    found = table.sort_values(["plate", "well"])
    wanted = pd.DataFrame(told["rows"], columns=["plate", "well", "value", "qualifier", "status"])
    wanted = wanted.sort_values(["plate", "well"])
    for column in ("plate", "well", "qualifier", "status"):
        assert found[column].tolist() == wanted[column].tolist()
    assert found["value"].to_numpy(float) == pytest.approx(wanted["value"].to_numpy(float), rel=1e-9, nan_ok=True)
    wells = laid_out(told["campaign"])["wells"].set_index(["plate", "well"])
    held = wells.loc[list(zip(found["plate"], found["well"]))]
    for column in ("design_id", "control"):
        assert found[column].fillna("").tolist() == held[column].fillna("").tolist()


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_trusted_is_refused_with_what_mends_it(name):
    with pytest.raises(IngestError) as caught:
        ingest(FOLDER / "refused" / name, REFUSED[name])
    assert REFUSED[name]["message"] in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_every_example_is_listed_where_people_look():
    for folder, index in ((FOLDER, READ), (FOLDER / "refused", REFUSED)):
        ours = {"README.md", "expected.json", "layout.csv"}
        assert {path.name for path in folder.iterdir() if path.is_file()} - ours == set(index)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme for name in (*READ, *REFUSED))
    assert len(READ) >= 25
    assert len(REFUSED) >= 15


def test_the_examples_are_what_their_script_makes(tmp_path):
    subprocess.run([sys.executable, "-B", str(FOLDER / "make"), str(tmp_path)], check=True)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".xlsx":  # openpyxl may write the same workbook in other bytes
            assert path.read_bytes() == (FOLDER / path.relative_to(tmp_path)).read_bytes(), path.name


# ---- what is chosen


def plate_file(tmp_path, text: str, name: str = "plate.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def drawn(first: str = "0.5", *, head: str = "", **wells: str) -> str:
    """A grid of 8 x 12 with a value in A2 (and others by name), below a line of text."""
    wells = {"A2": first, **wells}
    rows = ["," + ",".join(map(str, range(1, 13)))]
    rows += [",".join([letter, *(wells.get(f"{letter}{i}", "") for i in range(1, 13))]) for letter in "ABCDEFGH"]
    return "\n".join([*([head] if head else []), *rows, ""])


def six6(path: Path, **options: Any) -> AssayFile:
    waiting = options.pop("waiting", ())
    return read_assay(path, CONFIGS["six6"], **laid_out("six6"), options=ReadOptions(waiting=lambda: waiting, **options))


P1, P2 = "six6-R01-P1", "six6-R01-P2"


@pytest.mark.parametrize(
    ("head", "name", "options", "plate"),
    [
        (f"ID1: {P2} repeat", "x.csv", {}, P2),
        (f"Plate Name: {P2}", "x.csv", {"waiting": (P1,)}, P2),
        (f"plate id,{P2.upper()}", "x.csv", {}, P2),
        (f"Barcode: {P2}", f"{P1}.csv", {}, P2),
        ("", f"2026-03-02_{P2}_raw.csv", {"waiting": (P1, P2)}, P2),
        ("", f"{P1}.csv", {"plates": (P2,)}, P2),
        ("Plate Number,Plate 7", "x.csv", {"plates": (f"Plate 7={P2}",)}, P2),
        ("Plate Number,Plate 7", "x.csv", {"plates": (P2,)}, P2),
        ("", "x.csv", {"waiting": (P2,)}, P2),
        ("Plate,,,Greiner 96 Flat Bottom", "x.csv", {"waiting": (P2,)}, P2),
    ],
    ids=["free text", "name", "case", "barcode", "file", "option", "pair", "counted", "waiting", "kind of plate"],
)
def test_the_plate_is_named_by_the_file_then_the_option_then_the_files_name_then_by_waiting_alone(
    tmp_path, head, name, options, plate
):
    assert six6(plate_file(tmp_path, drawn(head=head), name), **options).measurements["plate"].tolist() == [plate]


@pytest.mark.parametrize(
    ("head", "options", "said"),
    [
        ("", {}, f"laid out are {P1}, {P2}: choose with --plate {P1}"),
        ("", {"waiting": (P1, P2)}, "waiting are"),
        (f"{P1} or {P2}", {}, f"speaks of plates {P1} and {P2}"),
        ("Plate ID: other-R01-P1", {"waiting": (P1,)}, "which labloop did not lay out"),
        (f"Plate ID: other-R01-P1,copy of {P1}", {}, "which labloop did not lay out"),
        ("", {"plates": ("nothing",)}, "labloop laid out no such plate"),
        (f"Plate ID: {P1}", {"plates": (f"{P1}={P2}",)}, "--plate says otherwise"),
    ],
)
def test_a_plate_that_cannot_be_told_is_refused_with_the_choices(tmp_path, head, options, said):
    with pytest.raises(IngestError, match=re.escape(said)):
        six6(plate_file(tmp_path, drawn(head=head)), **options)


@pytest.mark.parametrize(
    ("heads", "names"),
    [
        (("Plate 1", "Plate 2"), ("Plate 1", "Plate 2")),
        (("", ""), ("lines 1-9", "lines 11-19")),
        (("Plate 1", "Plate 1"), ("lines 2-10", "lines 13-21")),
    ],
    ids=["counted", "untitled", "one title"],
)
def test_plates_that_only_their_titles_or_places_tell_apart_are_named_as_the_message_says(tmp_path, heads, names):
    path = plate_file(tmp_path, "\n".join(drawn(f"0.{i}", head=head) for i, head in enumerate(heads, start=1)))
    for plates in ((), (P1,)):
        how = " ".join(f"--plate '{name}={plate}'" for name, plate in zip(names, (P1, P2)))
        with pytest.raises(IngestError, match=re.escape(f"choose with {how}")):
            six6(path, plates=plates, waiting=(P1, P2))
    table = six6(path, plates=[f"{name}={plate}" for name, plate in zip(names, (P2, P1))]).measurements
    assert table[["plate", "value"]].to_numpy().tolist() == [[P2, 0.1], [P1, 0.2]]


def test_plates_of_untitled_pictures_with_several_reads_each_are_told_apart_by_their_first(tmp_path):
    reads = [f"{read}\n{drawn(f'0.{i}')}" for i, read in enumerate(("450", "600", "450", "600"), start=1)]
    path = plate_file(tmp_path, "\n".join(reads))
    plates = (f"lines 2-10={P2}", f"lines 24-32={P1}")
    assert six6(path, plates=plates, read="600").measurements["value"].tolist() == [0.2, 0.4]
    with pytest.raises(IngestError, match=re.escape(f"--plate 'lines 2-10={P1}' --plate 'lines 24-32={P2}'")):
        six6(path, read="600")


def test_a_title_that_counts_a_plate_is_nothing_where_one_plate_is_meant(tmp_path):
    assert six6(plate_file(tmp_path, drawn(head="Plate 1")), waiting=(P2,)).measurements["plate"].tolist() == [P2]
    assert six6(plate_file(tmp_path, drawn(head="Plate 1")), plates=(P2,)).measurements["plate"].tolist() == [P2]
    assert six6(plate_file(tmp_path, drawn(head=f"Plate 1\nID1: {P2}"))).measurements["plate"].tolist() == [P2]


def test_plates_that_a_column_names_the_lab_s_way_are_given_labloop_s_names(tmp_path):
    path = plate_file(tmp_path, "plate,well,value\n1a,A2,0.5\n1B,A2,0.25\n1a,B1,0.75\n")
    with pytest.raises(IngestError, match="if it is one of them, say --plate '1a=NAME'"):
        six6(path)
    table = six6(path, plates=(f"1a={P2}", f"1b={P1}")).measurements
    assert table[["plate", "value"]].to_numpy().tolist() == [[P2, 0.5], [P1, 0.25], [P2, 0.75]]
    with pytest.raises(IngestError, match=r"row 3, well: .* stands in row 2 already"):
        six6(path, plates=(f"1a={P1}", f"1b={P1}"))
    with pytest.raises(IngestError, match="column 'plate' names no plate '1c'; it has 1a, 1B"):
        six6(path, plates=(f"1c={P1}",))
    path.write_text(f"plate,well,value\n{P1},A2,0.5\n")
    with pytest.raises(IngestError, match="--plate says otherwise"):
        six6(path, plates=(f"{P1}={P2}",))


def test_a_name_that_begins_like_a_plates_is_another_plates(tmp_path):
    with pytest.raises(IngestError, match="does not say which plate"):
        six6(plate_file(tmp_path, drawn(head=f"ID1: {P1}0 and my-{P2}")))


def test_a_campaign_without_a_plate_refuses_grids_and_says_what_to_send(tmp_path):
    with pytest.raises(IngestError, match="propose a round first"):
        read_assay(plate_file(tmp_path, drawn()), CONFIGS["genes"], **laid_out("genes"))


@pytest.mark.parametrize(
    ("wanted", "read"),
    [("450", "450"), ("A450", "A450 (1)"), ("raw  data (600)", "Raw Data (600)"), ("600", None), ("45", None), ("", None)],
)
def test_a_read_is_chosen_by_name_or_by_a_word_of_it(tmp_path, wanted, read):
    titles = ["450", "A450 (1)", "Raw Data (600)", "Corrected 600"]
    text = "\n".join(f"{title}\n\n{drawn(f'0.{i}')}" for i, title in enumerate(titles, 1))
    path = plate_file(tmp_path, f"{P1}\n\n{text}")
    if read is None:
        with pytest.raises(IngestError, match="'450', 'A450 \\(1\\)', 'Raw Data \\(600\\)', 'Corrected 600'"):
            six6(path, read=wanted)
    else:
        assert six6(path, read=wanted).measurements["value"].tolist() == [(titles.index(read) + 1) / 10]


def test_an_option_that_means_nothing_for_a_file_is_refused(tmp_path):
    path = plate_file(tmp_path, f"plate,well,value\n{P1},A2,0.5\n")
    with pytest.raises(IngestError, match="leave --plate out"):
        six6(path, plates=(P1,))
    with pytest.raises(IngestError, match="--read 450 means nothing"):
        six6(path, read="450")
    assert six6(path, assay="od450").measurements["value"].tolist() == [0.5]
    assert "does not name its read, taken for '450'" in six6(plate_file(tmp_path, drawn()), assay="od450", plates=(P1,)).dialect


def test_plates_whose_reads_differ_are_refused(tmp_path):
    for key in ("Plate ID", "ID1"):
        path = plate_file(tmp_path, f"{key}: {P1}\n450\n{drawn()}\n{key}: {P2}\n600\n{drawn()}")
        with pytest.raises(IngestError, match=f"plate {P2} has no read '450'"):
            six6(path, read="450")


def test_empty_wells_wait_and_strange_ones_are_faults(tmp_path):
    file = six6(plate_file(tmp_path, drawn(B1="0.25", head=P1)))
    assert file.measurements["well"].tolist() == ["A02", "B01"]
    assert "12 wells of six6-R01-P1 left empty, which go on waiting: A01, B02" in file.dialect
    with pytest.raises(IngestError) as caught:
        six6(plate_file(tmp_path, drawn(H12="0.25", C7="x", head=P1)))
    assert [(fault.row, fault.column, fault.cell) for fault in caught.value.faults] == [
        (5, "well C7, value", "x"), (5, "well C7, well", "C07"), (10, "well H12, well", "H12"),
    ]  # fmt: skip


def test_of_a_plate_that_was_read_as_a_whole_wells_that_hold_nothing_are_left_out(tmp_path):
    laid = set(laid_out("six6")["wells"].query("plate == @P1")["well"])
    every = {f"{letter}{i}": "0.5" for letter in "ABCDEFGH" for i in range(1, 13)}
    assert 0 < len(laid) < len(every)
    file = six6(plate_file(tmp_path, drawn(head=P1, **every)))
    assert set(file.measurements["well"]) == laid
    assert f"{len(every) - len(laid)} wells of six6-R01-P1 left out, in which labloop laid nothing: " in file.dialect
    with pytest.raises(IngestError, match="laid nothing out there"):  # where others are blank, it may be another plate's file
        six6(plate_file(tmp_path, drawn(head=P1, **{**every, "A2": ""})))


def test_a_decimal_mark_that_nothing_shows_is_asked_for_and_then_obeyed(tmp_path):
    text = drawn("1.234", B1="12.345", head=P1).replace(",", ";")
    with pytest.raises(IngestError, match=r"can be 1\.234 or 1234"):
        six6(plate_file(tmp_path, text))
    warm = text.replace(P1, f"{P1}\nTemperature: 23.5 °C")
    assert six6(plate_file(tmp_path, warm)).measurements["value"].tolist() == [1.234, 12.345]
    assays = {"assay": {"decimal": "."}}
    config = CONFIGS["six6"].model_copy(
        update={"assays": {"binding": CONFIGS["six6"].assays["binding"].model_copy(update=assays["assay"])}}
    )
    file = read_assay(plate_file(tmp_path, text), config, **laid_out("six6"))
    assert file.measurements["value"].tolist() == [1.234, 12.345]


@pytest.mark.parametrize("sep", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("decimal", [".", ","], ids=["point", "comma"])
def test_a_grid_reads_alike_in_every_common_dialect(tmp_path, sep, encoding, newline, decimal):
    cell = f'"0{decimal}5"' if sep == decimal else f"0{decimal}5"
    text = drawn("VALUE", B1="OVER", head=f"ID1: {P1},20 µl").replace(",", sep).replace("VALUE", cell)
    path = tmp_path / "plate.csv"
    path.write_bytes(text.replace("\n", newline).encode(encoding))
    table = six6(path, assay="od").measurements
    assert table[["well", "value", "row"]].to_numpy().tolist() == [["A02", 0.5, 3], ["B01", 4.0, 4]]


BUFFERS = {
    "name": "buf",
    "space": {
        "parameters": [
            {"type": "choice", "name": "buffer", "options": ["A", "B", "C", "D"]},
            *({"type": "integer", "name": name, "low": 1, "high": 10} for name in ("enzyme", "substrate", "mg")),
        ]
    },
    "objective": {"assay": "activity"},
    "assays": {"activity": {}},
}


@pytest.mark.parametrize("above", ["", "measured by JM\n\n"], ids=["bare", "titled"])
@pytest.mark.parametrize("sep", [",", ";"], ids=["comma", "semicolon"])
def test_a_table_of_designs_whose_rows_look_like_a_plate_is_a_table(tmp_path, above, sep):
    config = parse_config(BUFFERS, CampaignConfig)
    rows = [[*"A123", "45.5"], [*"A223", "51"], [*"B123", "47.5"], ["C", "4", "5", "6", ""]]
    header = [*config.space.columns, "value", "status"]
    failed = [[*row, "" if row[4] else "failed_design"] for row in rows]
    path = plate_file(tmp_path, above + "".join(sep.join(row) + "\n" for row in (header, *failed)))
    known = laid_out("six6")["wells"]  # a plate that the readings must not land on
    file = read_assay(path, config, wells=known, designs=pd.DataFrame(), options=ReadOptions(waiting=lambda: (P1,)))
    assert file.measurements["value"].tolist()[:3] == [45.5, 51, 47.5]
    assert file.designs["buffer"].tolist() == ["A", "A", "B", "C"]
    book = openpyxl.Workbook()
    for row in (header, *failed):
        book.worksheets[0].append([float(cell) if cell[:1].isdigit() else cell for cell in row])
    book.save(tmp_path / "designs.xlsx")
    again = read_assay(tmp_path / "designs.xlsx", config, wells=known, designs=pd.DataFrame())
    assert again.measurements["value"].tolist()[:3] == [45.5, 51, 47.5]
    path = plate_file(tmp_path, "".join(sep.join(row) + "\n" for row in (header[:4], *(row[:4] for row in rows))), "list.csv")
    assert read_designs(path, config)[1]["mg"].tolist() == [3, 3, 3, 6]


def test_a_plate_below_lines_with_names_that_the_campaign_knows_is_a_plate(tmp_path):
    line = f"Plate,{P1},Date,2026-01-02,Unit,OD,Value,Absorbance\n"
    for above in ("plate,value,note,sample,status\n", "plate,value\n", line):
        text = above + drawn(head="").replace(",1,2,3", f"{P1},1,2,3", 1)
        assert six6(plate_file(tmp_path, text), plates=(P1,)).measurements["well"].tolist() == ["A02"]


def picture(rows: int, columns: int, *, first: int = 1) -> str:
    """A grid with 0.5 in the wells of the first two columns and rows up to G."""
    lines = ["<>," + ",".join(map(str, range(first, columns + 1)))]
    return "\n".join(
        [*lines, *(",".join([row_name(r), *("0.5" if r < 8 and c < 3 else "" for c in range(first, columns + 1))])
                   for r in range(1, rows + 1)), "end of data", ""]
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 6), (6, 8)])
def test_a_whole_smaller_plate_is_refused_unless_all_that_was_laid_out_is_in_it(tmp_path, shape):
    path = plate_file(tmp_path, picture(*shape))
    with pytest.raises(IngestError, match="a plate of {} x {} wells, the campaign's have 8 x 12.*--plate".format(*shape)):
        six6(path, waiting=(P1,))
    assert len(six6(path, plates=(P1,)).measurements) == 2 * shape[0]
    known = laid_out("six6")
    corner = known["wells"][known["wells"]["well"].str[0] <= row_name(shape[0])]
    file = read_assay(path, CONFIGS["six6"], wells=corner, designs=known["designs"], options=ReadOptions(plates=(P1,)))
    assert len(file.measurements) == 2 * shape[0]


@pytest.mark.parametrize(("shape", "first"), [((2, 3), 1), ((3, 4), 1), ((4, 5), 1), ((6, 8), 2)])
def test_a_part_of_a_plate_that_is_no_whole_smaller_one_is_read(tmp_path, shape, first):
    file = six6(plate_file(tmp_path, picture(*shape, first=first)), plates=(P1,))
    assert len(file.measurements) == shape[0] * (3 - first)


def test_a_plate_of_a_smaller_one_s_shape_is_read_where_the_campaign_s_have_it(tmp_path):
    config, known = CONFIGS["six6"].model_copy(update={"plate": Plate(wells=48)}), laid_out("six6")
    inside = known["wells"]["well"].isin([f"{row}{column:02d}" for row in "ABCDEF" for column in range(1, 9)])
    options = {**known, "wells": known["wells"][inside], "options": ReadOptions(waiting=lambda: (P1,))}
    assert len(read_assay(plate_file(tmp_path, picture(6, 8)), config, **options).measurements) == 12
    with pytest.raises(IngestError, match="a plate of 3 x 4 wells, the campaign's have 6 x 8"):
        read_assay(plate_file(tmp_path, picture(3, 4)), config, **options)


def test_a_picture_of_a_plate_that_was_laid_out_when_plates_were_larger_is_read(tmp_path):
    config = CONFIGS["six6"].model_copy(update={"plate": Plate(wells=24)})
    options = {**laid_out("six6"), "options": ReadOptions(plates=(P1,))}
    assert len(read_assay(plate_file(tmp_path, picture(8, 12)), config, **options).measurements) == 14
    with pytest.raises(IngestError, match="a plate of 16 x 24 wells, the campaign's have 8 x 12"):
        read_assay(plate_file(tmp_path, picture(16, 24)), config, **options)


def test_of_two_pictures_where_one_plate_waits_the_other_is_left_out_as_the_message_says(tmp_path):
    """It told to pair the first with the plate that waits, and then that both show it."""
    path = plate_file(tmp_path, picture(8, 12).replace("end of data", "") + picture(8, 12))
    told = "choose with --plate 'lines 1-9={}' --plate 'lines 11-19=', which leaves out what has no name behind ="
    with pytest.raises(IngestError, match=told.format(P1)):
        six6(path, waiting=(P1,))
    three = plate_file(tmp_path, picture(8, 12).replace("end of data", "") * 2 + picture(8, 12), "three.csv")
    with pytest.raises(IngestError, match="none is left: choose with --plate 'lines 21-29='"):
        six6(three, waiting=(P1,), plates=(f"lines 1-9={P1}", f"lines 11-19={P2}"))
    file = six6(path, plates=(f"lines 1-9={P1}", "lines 11-19="))
    assert len(file.measurements) == 14
    assert "left out lines 11-19, as --plate says" in file.dialect
    with pytest.raises(IngestError, match="leaves out every picture"):
        six6(path, plates=("lines 1-9=", "lines 11-19="))


def test_a_sheet_is_left_out_and_not_all_of_them(tmp_path):
    """That was told as the empty template."""
    book = openpyxl.Workbook()
    for sheet in (book.active, book.create_sheet("Sheet2")):
        for row in (("well", "value"), ("A2", 0.5)):
            sheet.append(row)
    book.save(tmp_path / "two.xlsx")
    first, second = (f"{sheet.title}=" for sheet in book)
    assert "left out sheet Sheet2, as --plate says" in six6(tmp_path / "two.xlsx", plates=(first + P1, second)).dialect
    with pytest.raises(IngestError, match="--plate leaves out every table"):
        six6(tmp_path / "two.xlsx", plates=(first, second))


@pytest.mark.parametrize("head", ["plate: {}\n", "some {} here\n"])
def test_a_picture_is_left_out_by_the_name_that_the_file_gives_it_and_no_other_is_taken_for_it(tmp_path, head):
    """What a slip of the name was to leave out was stored."""
    first = head.format(P1) + picture(8, 12).replace("end of data", "")
    path = plate_file(tmp_path, first + head.format(P2) + picture(8, 12))
    assert set(six6(path, plates=(f" {P2.upper()} =",)).measurements["plate"]) == {P1}
    for slip in ("Plate 2=", "lines 12-20=", f"Plate 1={P1}"):
        with pytest.raises(IngestError, match=f"'{slip}': the file names no plate .*; it has '{P1}', '{P2}'"):
            six6(path, plates=(slip,))
    for once, twice in ((P2, P2), (P2, P2.upper())):
        with pytest.raises(IngestError, match=f"--plate '{P2}=' and --plate '{twice}={P2}': keep one of them"):
            six6(path, plates=(f"{once}=", f"{twice}={P2}"))
    alone = plate_file(tmp_path, picture(8, 12), "alone.csv")
    with pytest.raises(IngestError, match="the file names no plate 'Plate 1'; say labloop's name of its plate alone"):
        six6(alone, plates=(f"Plate 1={P1}",))


# ---- readers


class TestLongText(ReaderContract):
    reader = LongText()
    files: ClassVar = {name: (FOLDER / name).read_bytes() for name, told in READ.items() if told["reader"] == "long"}


class TestGridText(ReaderContract):
    reader = GridText()
    files: ClassVar = {name: (FOLDER / name).read_bytes() for name, told in READ.items() if told["reader"] == "grid"}


class TestWorkbook(ReaderContract):
    reader = Workbook()
    files: ClassVar = {"icontrol_workbook.xlsx": (FOLDER / "icontrol_workbook.xlsx").read_bytes()}


class TestEchoReport(ReaderContract):
    reader = EchoReport()
    files: ClassVar = {"echo_failed_transfers.csv": (FOLDER / "echo_failed_transfers.csv").read_bytes()}


class TestFastaText(ReaderContract):
    reader = FastaText()
    files: ClassVar = {"named.fasta": b">a value=0.7\nACGT\nACGT\n\n>b 0123456789ab\nACGTACGA\n"}


def test_fasta_is_a_row_a_sequence_and_pairs_in_a_header_are_columns(tmp_path):
    path = tmp_path / "some.fasta"
    path.write_text(">first value=0.7\nACGT\nacgt\n>second value=0.2 note=again\nCCGTACGA\n")
    config = CONFIGS["six6"]
    file = read_assay(path, config, **laid_out("six6"))
    assert file.reader == "fasta"
    assert file.measurements[["row", "value"]].to_numpy().tolist() == [[1, 0.7], [4, 0.2]]
    assert file.designs["dna"].tolist() == ["ACGTACGT", "CCGTACGA"]
    path.write_text(">first value=0.7\nACGTACGT\n>second\nCCGTACGA\n")
    with pytest.raises(IngestError, match="row 3, value: there is no value"):
        read_assay(path, config, **laid_out("six6"))
    path.write_text(">first\n>second\nCCGTACGA\n")
    with pytest.raises(IngestError, match=r"line 1: the header 'first' has no sequence below it"):
        FastaText().read(path.read_bytes(), path.name, known=("dna",))
    path.write_text(">first\nCCGTACGA\n")
    (part,) = FastaText().read(path.read_bytes(), path.name, known=("name",))  # a space may call its sequence so
    assert part.table.columns["name"].texts.tolist() == ["CCGTACGA"]
    path.write_text("".join(f">{i} a{i}=1\nA\n" for i in range(7_000)))
    with pytest.raises(IngestError, match="7,002 columns of 7,000 rows"):
        FastaText().read(path.read_bytes(), path.name, known=("dna",))


def test_fasta_for_designs_without_a_sequence_is_refused_with_what_to_send(tmp_path):
    config = parse_config(BUFFERS, CampaignConfig)
    path = plate_file(tmp_path, ">first value=3\nACGT\n", "some.fa")
    nothing = {"wells": laid_out("six6")["wells"][:0], "designs": pd.DataFrame()}
    for read in (read_designs, lambda *asked: read_assay(*asked, **nothing)):
        with pytest.raises(
            IngestError, match=r"is FASTA, but the designs of buf have no sequence: .*buffer, enzyme, substrate, mg"
        ):
            read(path, config)
    path.write_text(">first enzyme=1 substrate=2 mg=3 value=5\nA\n")  # a choice may be written as a sequence
    assert read_assay(path, config, **nothing).designs["buffer"].tolist() == ["A"]


class Sticker:
    """A plug-in's reader: files that begin with a star hold one value of one well."""

    def recognise(self, content: bytes, name: str) -> str | None:
        return "a sticker" if content.startswith(b"*") else None

    def read(self, content: bytes, name: str, *, known: Collection[str]) -> list[Part]:
        plate, well, value = content.decode()[1:].split()
        columns = {"plate": Column.of([plate]), "well": Column.of([well]), "value": Column.of([value])}
        return [Part(table=Table(name=name, columns=columns, lines=np.array([1]), form="a sticker"), where="line 1")]


def test_a_reader_plugs_in_and_comes_before_the_one_of_any_text(tmp_path, monkeypatch):
    assert isinstance(Sticker(), Reader)
    monkeypatch.setattr(reading, "_readers", lambda: {"long": LongText(), "sticker": Sticker()})
    file = six6(plate_file(tmp_path, f"*{P1} A2 0.5"))
    assert (file.reader, file.measurements["value"].tolist()) == ("sticker", [0.5])
    monkeypatch.setattr(reading, "_readers", lambda: {"label": Sticker(), "sticker": Sticker()})
    with pytest.raises(IngestError, match=r"can be read as a sticker \(--reader label\) or a sticker \(--reader sticker\)"):
        six6(plate_file(tmp_path, f"*{P1} A2 0.5"))
    assert six6(plate_file(tmp_path, f"*{P1} A2 0.5"), reader="label").reader == "label"


def test_a_reader_that_is_not_there_is_named_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"reader 'omnireader' is unknown; there are: .*grid.*long"):
        six6(plate_file(tmp_path, drawn()), reader="omnireader")


def test_without_openpyxl_excel_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(IngestError, match=r"labloop-toolkit\[excel\]"):
        ingest(FOLDER / "a_sheet_a_plate.xlsx", READ["a_sheet_a_plate.xlsx"])


@pytest.mark.parametrize(
    ("held", "form", "value"),
    [
        (0.125, "0.0%", 12.5),
        (0.9, "0.0%_)", 90),
        (0.3, "0.0%_);(0.0%)", 30),
        (-0.3, "0.0%_);(0.0%)", -30),
        (0.25, "[Red]0%;General", 25),
        (-0.25, "[Red]0%;General", -0.25),
        (0.25, "General;0%", 0.25),
        (0.5, "[<1]0%;0.0", 50),
        (12.5, "[<1]0%;0.0", 12.5),
        (0.5, "_(* 0.0%_)", 50),
        (12.5, "0.0\\%", 12.5),
        (12.5, '0.0"%"', 12.5),
        (12.5, '0.0" (of 100%)"', 12.5),
    ],
)
def test_a_number_is_a_percentage_where_the_part_of_its_format_that_applies_says_so(tmp_path, held, form, value):
    book = openpyxl.Workbook()
    book.worksheets[0].append(["plate", "well", "value"])
    book.worksheets[0].append(["P1", "A1", held])
    book.worksheets[0].cell(row=2, column=3).number_format = form
    book.save(tmp_path / "cells.xlsx")
    (part,) = Workbook().read((tmp_path / "cells.xlsx").read_bytes(), "cells.xlsx", known=("plate", "well", "value"))
    (cell,) = part.table.columns["value"].texts
    assert float(cell.removesuffix("%")) == value
    assert cell.endswith("%") is (value == 100 * held)


Place = TypeVar("Place", Path, io.BytesIO)


def workbook(path: Place, **sheets: list[list[Any]]) -> Place:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_lines_above_a_workbook_s_list_are_not_taken_for_its_columns(tmp_path):
    rows = [["User: USER", "Test ID: 3"], [], ["Well Row", "Well Col", "Raw Data (450)"], ["A", 1, 0.5], ["B", 2, 0.25]]
    with pytest.raises(IngestError, match=r"Its columns are: Well Row, Well Col, Raw Data \(450\)\."):
        six6(workbook(tmp_path / "list.xlsx", Results=rows))


@pytest.mark.parametrize("sheets", [1, 2])
@pytest.mark.parametrize("drawn", [False, True], ids=["list", "plate"])
def test_text_of_a_workbook_that_could_be_thousands_is_not_guessed_and_numbers_are_sure(tmp_path, drawn, sheets):
    def rows(plate: str, *values: Any) -> list[list[Any]]:
        if drawn:
            return [["", 1, 2, 3], *([letter, None, value] for letter, value in zip("ABC", values))]
        return [["plate", "well", "value"], *([plate, f"{letter}2", value] for letter, value in zip("ABC", values))]

    def book(*values: Any) -> AssayFile:
        both = {P1: rows(P1, *values), P2: rows(P2, 1.234, 987, 2.105)}
        return six6(workbook(tmp_path / "book.xlsx", **dict(list(both.items())[:sheets])))

    assert book(1.234, 987, 2.105).measurements["value"].tolist()[:3] == [1.234, 987, 2.105]
    assert book("1.2345", "987", "2.105").measurements["value"].tolist()[:3] == [1.2345, 987, 2.105]
    assert book("987", 2.105, "35").measurements["value"].tolist()[:3] == [987, 2.105, 35]
    for values in (["1.234", "987", "2.105"], ["1.234", 0.5, 987]):
        with pytest.raises(IngestError, match=r"can be 1\.234 or 1234: .*name the mark"):
            book(*values)


def test_a_list_of_designs_in_a_workbook_may_have_one_column_and_stand_beside_other_sheets(tmp_path, caplog):
    """A workbook of two sheets was refused, an empty one counting, where the space has one parameter."""
    rows = [["dna"], ["ACGTAC"], ["TTTTTT"]]
    space = {"parameters": [{"type": "sequence", "name": "dna", "alphabet": "ACGT", "length": 6}]}
    config = parse_config({"name": "six", "space": space, "objective": {}}, CampaignConfig)

    def read(**sheets: list[list[Any]]) -> list[str]:
        content = workbook(tmp_path / "list.xlsx", **sheets).read_bytes()
        return cells_of_designs(content, "list.xlsx", config).cells["dna"].tolist()

    assert read(Sheet=rows, Sheet2=[]) == ["ACGTAC", "TTTTTT"]
    assert not caplog.records
    assert read(Sheet=rows, notes=[["hello"]]) == ["ACGTAC", "TTTTTT"]
    assert "passed over 1 other sheet notes" in caplog.text
    assert read(stock=[["sample", "note"], ["T1", "old"]], Sheet=rows) == ["ACGTAC", "TTTTTT"]
    assert read(Sheet=[["dna", "note"], ["ACGTAC", "a"]], stock=[["sample", "note"], ["T1", "old"]]) == ["ACGTAC"]
    assert read(One=rows, Two=[["dna"], ["GGGGGG"]]) == ["ACGTAC", "TTTTTT", "GGGGGG"]
    for sheets in ({"one": [], "two": []}, {"one": [["hello"]], "two": [["there"]]}):
        with pytest.raises(IngestError, match=r"no sheet holds .*write its names of columns into a sheet's first row.*dna"):
            read(**sheets)
    book = openpyxl.load_workbook(workbook(tmp_path / "hidden.xlsx", Sheet=[], list=rows))
    book["list"].sheet_state = "hidden"
    book.save(tmp_path / "hidden.xlsx")
    with pytest.raises(IngestError, match="there are list, which is hidden"):
        cells_of_designs((tmp_path / "hidden.xlsx").read_bytes(), "hidden.xlsx", config)


# ---- looking before storing


def test_explaining_tells_reader_dialect_plates_reads_columns_and_first_rows():
    name = "mars_two_reads.csv"
    told = explain_assay(FOLDER / name, CONFIGS["six6"], **options_of(READ[name]))
    assert (told.reader, told.what) == ("grid", "plate grids")
    assert [(part["read"], part["grid"], part["where"]) for part in told.parts] == [
        ("Raw Data (450)", "8 x 12", "lines 9-17"), ("Raw Data (600)", "8 x 12", "lines 21-29"),
    ]  # fmt: skip
    assert "decimal point" in told.dialect
    assert told.columns == {"value": "value", "plate": "plate", "well": "well"}
    assert told.rows["well"].tolist() == ["A01", "A02", "B01", "B02", "C01"]
    assert told.refusal is None


def test_explaining_a_file_with_faults_shows_how_far_it_was_understood():
    told = explain_assay(FOLDER / "refused" / "text_in_a_well.csv", CONFIGS["six6"], **options_of(REFUSED["text_in_a_well.csv"]))
    assert told.rows["value"].tolist()[3] == "see note"
    assert "see note" in str(told.refusal)
    told = explain_assay(FOLDER / "refused" / "two_reads_none_chosen.csv", CONFIGS["six6"], **laid_out("six6"))
    assert [part["read"] for part in told.parts] == ["Raw Data (450)", "Raw Data (600)"]
    assert told.rows is None
    told = explain_assay(FOLDER / "refused" / "damaged.xlsx", CONFIGS["six6"], **laid_out("six6"))
    assert (told.parts, told.dialect) == ((), "")
    assert "damaged" in str(told.refusal)


def begin(folder) -> None:
    run = Campaign.create(CONFIGS["six6"], home=folder / "home")
    run.propose(parse_config({"arms": {"start": {"proposers": "random"}}, "judge": None}, RoundConfig), out=folder / "out")
    run.ledger.close()


@pytest.fixture
def campaign(tmp_path, made_once) -> Campaign:
    """The campaign of the examples with a first plate in the lab: six6-R01-P1, full of random designs."""
    return Campaign.open("six6", home=made_once(begin, tmp_path) / "home")


def test_a_plate_comes_back_as_a_grid_and_its_round_is_measured(campaign, tmp_path):
    path = plate_file(tmp_path, drawn(**{f"{letter}{i}": "0.5" for letter in "ABCDEFGH" for i in range(1, 12)}))
    assert campaign.explain(path).refusal is None
    assert len(campaign.dataset()) == 0
    receipt = campaign.ingest(path)
    assert "the only plate that waits for results" in receipt.dialect
    assert "8 wells of six6-R01-P1 left empty" in receipt.dialect
    assert (receipt.n_measured, campaign.state(1)) == (88, "EXPORTED")
    rest = plate_file(tmp_path, drawn("", **{f"{letter}12": "0.5" for letter in "ABCDEFGH"}), "rest.csv")
    campaign.ingest(rest)
    assert campaign.state(1) == "MEASURED"
    with pytest.raises(IngestError, match="does not say which plate it is; laid out is"):
        campaign.ingest(plate_file(tmp_path, drawn("0.7"), "again.csv"))
    second = campaign.ingest(plate_file(tmp_path, drawn("0.7"), "again.csv"), assay="counts")
    assert second.stored


def test_a_known_file_that_reads_otherwise_since_a_revision_says_how_to_have_it_read_so(campaign):
    """It said that there was nothing to do, and `--read` had to be thought of."""

    def reading(read: str) -> CampaignConfig:
        raw = CONFIGS["six6"].model_dump()
        raw["assays"]["binding"]["read"] = read
        return parse_config(raw, CampaignConfig)

    path = FOLDER / "mars_two_reads.csv"
    campaign.revise(reading("450"), reason="this dye")
    assert campaign.ingest(path).stored
    first = campaign.ledger.measurements("six6")["value"].tolist()
    assert campaign.ingest(path).note == f"{path.name} is in the ledger already: nothing to do"
    campaign.revise(reading("600"), reason="the other dye")
    told = f"labloop correct {path} -c six6 --reason … puts them in the place of what stands"
    assert campaign.ingest(path).note.endswith(told)
    assert campaign.ledger.measurements("six6")["value"].tolist() == first
    assert campaign.correct(path, reason="the other dye").stored
    assert campaign.ledger.measurements("six6")["value"].tolist() != first
    assert campaign.ingest(path).note.endswith("nothing to do")
    raw = reading("600").model_dump()
    raw["assays"]["binding"]["low"] = 100  # by which all that it says would be refused
    campaign.revise(parse_config(raw, CampaignConfig), reason="a mistake")
    assert campaign.ingest(path).note.endswith("nothing to do")


def test_a_known_file_that_was_read_otherwise_as_was_said_is_not_told_as_revised(campaign):
    """Any revision was named as the cause."""
    path = FOLDER / "mars_two_reads.csv"
    raw = CONFIGS["six6"].model_dump()
    raw["assays"]["binding"]["read"] = "450"
    campaign.revise(parse_config(raw, CampaignConfig), reason="this dye")
    assert campaign.ingest(path, read="600").stored
    campaign.revise(parse_config({**raw, "rounds": 9}, CampaignConfig), reason="more rounds")
    assert "is in the ledger already, but as the campaign reads it now it holds other values" in campaign.ingest(path).note
    raw["assays"]["binding"]["read"] = "700"  # which it does not hold
    campaign.revise(parse_config(raw, CampaignConfig), reason="a slip")
    assert campaign.ingest(path).note.endswith("nothing to do")


def test_the_command_line_explains_chooses_and_stores(campaign, tmp_path, capsys):
    home = ["--home", str(tmp_path / "home"), "-c", "six6"]
    path = str(FOLDER / "mars_two_reads.csv")
    assert main(["ingest", path, *home, "--explain"]) == 1
    printed = capsys.readouterr()
    assert "Raw Data (600)" in printed.out
    assert "It would be refused" in printed.out
    assert "choose one with --read" in printed.err
    assert main(["ingest", path, *home, "--explain", "--read", "600"]) == 0
    assert "nothing was" in capsys.readouterr().out
    assert main(["ingest", path, *home, "--explain", "--read", "600", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reader"] == "grid"
    assert len(campaign.ledger.files("six6")) == 0
    gen5 = str(FOLDER / "gen5_overflow_and_missed.txt")
    assert main(["ingest", gen5, *home, "--assay", "od", "--plate", "Plate 1=six6-R01-P1"]) == 0
    assert "Stored" in capsys.readouterr().out
    assert len(campaign.ledger.files("six6")) == 1
    assert main(["methods"]) == 0
    assert "plates drawn as grids" in " ".join(capsys.readouterr().out.split()).lower()


# ---- whatever comes: `make fuzz` for a long run

fuzz = settings(max_examples=int(os.environ.get("LABLOOP_FUZZ", 60)), suppress_health_check=list(HealthCheck))
SEEDS = {name: (FOLDER / name).read_bytes() for name in READ} | {
    name: (FOLDER / "refused" / name).read_bytes() for name in REFUSED
}


class Bench:
    """The campaigns of the examples in a ledger each, their plates at the lab; every file meets them as if it were the first."""

    def __init__(self, home: Path) -> None:
        self.home, self.inbox = home / "home", home / "inbox"
        self.inbox.mkdir()
        self.campaigns = {name: self._at_the_lab(name) for name in CONFIGS}
        for campaign in self.campaigns.values():
            campaign.ledger.close()
        self.first = self._bytes()

    def _at_the_lab(self, name: str) -> Campaign:
        campaign = Campaign.create(CONFIGS[name], home=self.home, ledger=str(self.home / f"{name}.db"))
        told = laid_out(name)
        if len(told["wells"]):
            places = [parse_well(well) for well in told["wells"]["well"]]
            wells = told["wells"].drop(columns="round").assign(row=[r for r, _ in places], column=[c for _, c in places])
            picks = pd.DataFrame({"arm": "a", "design_id": told["designs"].index, "proposer": "random"})
            start = parse_config({"arms": {"a": {"proposers": "random"}}, "judge": None}, RoundConfig).model_dump_json()
            campaign.ledger.open_round(name, 1, config=start, seed=0, fingerprint="", incumbent=None)
            campaign.ledger.advance(name, 1, "TRAINED")
            campaign.ledger.add_batch(
                name, 1, designs=told["designs"], picks=picks.assign(rank=np.arange(1, len(picks) + 1)), wells=wells
            )
        return campaign

    def _bytes(self) -> dict[str, bytes]:
        """Every file of the campaigns' folder; SQLite's shared memory and an empty log say nothing."""
        files = {path.relative_to(self.home).as_posix(): path for path in self.home.rglob("*") if path.is_file()}
        held = {name: path.read_bytes() for name, path in files.items() if not name.endswith("-shm")}
        return {name: content for name, content in held.items() if content or not name.endswith("-wal")}

    def meets(self, name: str, content: bytes, told: dict[str, Any]) -> None:
        """Store it whole or refuse it; a refused file leaves every byte of the ledger, and the folder, as they were.

        What is stored is whole too: a design or a control in every row, a number in every measured one, and nothing besides.
        """
        path = self.inbox / name
        path.write_bytes(content)
        campaign, options = self.campaigns[told["campaign"]], told.get("options", {})
        chosen = {"read": options.get("read"), "plates": options.get("plates", ()), "assay": options.get("assay")}
        wells = campaign.ledger.wells(campaign.name)
        with mock.patch("labloop.rounds.state.waiting_plates", return_value=tuple(options.get("waiting", ()))):
            try:
                receipt = campaign.ingest(path, **chosen)
            except IngestError:
                assert self._bytes() == self.first
                return
        table = campaign.ledger.measurements(campaign.name)
        measured = table["status"].isin(["ok", "censored_low", "censored_high"])
        assert len(table) == receipt.n_rows > 0
        assert np.isfinite(table["value"][measured]).all()
        held = set(wells.loc[wells["control"].notna(), ["plate", "well"]].itertuples(index=False, name=None))
        nameless = table.loc[table["design_id"].isna(), ["plate", "well"]]
        assert set(nameless.itertuples(index=False, name=None)) <= held
        campaign.ledger.close()
        for one in self.home.rglob("*.db-*"):
            one.unlink()
        for mine in (f"{campaign.name}.db", f"{campaign.name}.db.heads"):
            (self.home / mine).write_bytes(self.first[mine])


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("fuzz"))


@fuzz
@given(
    name=st.sampled_from(sorted(SEEDS)),
    cut=st.none() | st.floats(0, 1),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=12)), max_size=4),
)
def test_whatever_bytes_change_a_file_is_read_or_refused(bench, name, cut, edits):
    content = SEEDS[name]
    for place, length, more in edits:
        at = int(place * len(content))
        content = content[:at] + more + content[at + length :]
    if cut is not None:
        content = content[: int(cut * len(content))]
    bench.meets(name, content, (READ | REFUSED)[name])


WORDS = st.sampled_from(
    [
        *("", "0.5", "0,5", "1.234", "OVRFLW", "x", "1-Sep", "=1", "A", "B", "C", "1", "2", "3", "13", "<>", "450", "A1", P1, P2),
        *("well", "value", "plate", "Plate:", "Plate ID", "~End", "##BLOCKS= 1", "[DETAILS]", "Label: 1", '"', "\ufeff", "\x00"),
    ]
) | st.text(max_size=3)


@fuzz
@given(
    lines=st.lists(
        st.lists(WORDS, max_size=6)
        | st.builds(
            lambda first, n, extra: [first, *map(str, range(1, n + 1)), *extra],
            WORDS,
            st.integers(2, 25),
            st.lists(WORDS, max_size=2),
        )
        | st.builds(lambda letter, cells: [letter, *cells], st.sampled_from("AABBCDP"), st.lists(WORDS, min_size=3, max_size=13)),
        max_size=14,
    ),
    sep=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
    waiting=st.lists(st.sampled_from([P1, P2]), max_size=2, unique=True),
)
def test_whatever_lines_are_drawn_a_file_is_read_or_refused(bench, lines, sep, encoding, waiting):
    content = "\n".join(map(sep.join, lines)).encode(encoding, errors="replace")
    bench.meets("drawn.csv", content, {"campaign": "six6", "options": {"waiting": waiting}})


CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2000)
    | st.floats(allow_nan=False)
    | st.datetimes()
    | WORDS.filter(str.isprintable)
)


@settings(fuzz, max_examples=max(20, fuzz.max_examples // 10))
@given(
    sheets=st.dictionaries(st.sampled_from(["Sheet1", P1, "Raw"]), st.lists(st.lists(CELLS, max_size=5), max_size=6), min_size=1)
)
def test_whatever_a_workbook_holds_it_is_read_or_refused(bench, sheets):
    bench.meets("book.xlsx", workbook(io.BytesIO(), **sheets).getvalue(), {"campaign": "six6"})


def test_nothing_of_a_refused_file_is_stored(campaign):
    before = campaign.ledger.measurements("six6"), campaign.ledger.events("six6")
    for name, told in REFUSED.items():
        options = told.get("options", {})
        chosen = {"read": options.get("read"), "plates": options.get("plates", ())}
        if told["campaign"] == "six6" and name not in ("which_plate.csv", "value_in_an_unused_well.csv"):  # this plate is full
            with pytest.raises(IngestError):
                campaign.ingest(FOLDER / "refused" / name, assay=options.get("assay"), **chosen)
    after = campaign.ledger.measurements("six6"), campaign.ledger.events("six6")
    for one, other in zip(before, after):
        pd.testing.assert_frame_equal(one, other)
    assert campaign.ledger.files("six6").empty
