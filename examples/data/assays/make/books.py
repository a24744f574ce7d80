"""Excel workbooks, the same bytes every time."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from typing import Any

import openpyxl
from grids import OTHER, V1
from long import Made
from programs import icontrol
from truth import P1, P2, Told, grid, rows_of, values

Rows = list[list[Any]]
V2 = values(P2)


def book(**sheets: Rows) -> bytes:
    """Write a workbook: sheets by name, rows of values; no clock goes into it."""
    made = openpyxl.Workbook()
    made.remove(made.worksheets[0])
    for name, rows in sheets.items():
        sheet = made.create_sheet(name.replace("_", "-"))
        for row in rows:
            sheet.append([cell[0] if isinstance(cell, tuple) else cell for cell in row])
            for i, cell in enumerate(row):
                if isinstance(cell, tuple):
                    sheet.cell(sheet.max_row, i + 1).number_format = cell[1]
        if name == "hidden":
            sheet.sheet_state = "hidden"
    raw = io.BytesIO()
    made.save(raw)
    still = io.BytesIO()
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(still, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "docProps/core.xml":
                content = (
                    b'<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"/>'
                )
            new.writestr(zipfile.ZipInfo(entry.filename), content, zipfile.ZIP_DEFLATED)
    return still.getvalue()


def typed(lines: list[str]) -> Rows:
    """Turn lines of text into rows of values, numbers as numbers."""
    return [[_value(cell) for cell in line.split(",")] for line in lines]


def _value(cell: str) -> Any:
    try:
        return float(cell) if "." in cell else int(cell)
    except ValueError:
        return cell or None


def files() -> Made:
    share = {well: f"{float(value) / 10:.4f}" for well, value in V1.items()}
    name1, name2 = P1.replace("-", "_"), P2.replace("-", "_")
    return {
        "icontrol_workbook.xlsx": (
            book(Sheet1=typed(icontrol(grid(V1, corner="<>")))),
            Told(
                "i-control's own Excel sheet: settings, `<>`, end time",
                options={"plates": [P1]},
                reader="excel",
                rows=rows_of(P1, V1),
            ),
        ),
        "a_sheet_a_plate.xlsx": (
            book(**{name1: typed(grid(V1)), name2: typed(grid(V2)), "Notes": [["lamp replaced"]], "hidden": typed(grid(OTHER))}),
            Told(
                "sheets named as the plates, one of notes, one hidden", reader="excel", rows=[*rows_of(P1, V1), *rows_of(P2, V2)]
            ),
        ),
        "a_sheet_a_plate_as_lists.xlsx": (
            book(
                **{
                    name1: [["Well", "Value"], *([w, float(v)] for w, v in V1.items())],
                    name2: [["well", "value"], *([w, float(v)] for w, v in V2.items())],
                }
            ),
            Told(
                "a list on each plate's sheet, without a column of plates",
                reader="excel",
                rows=[*rows_of(P1, V1), *rows_of(P2, V2)],
            ),
        ),
        "percent_cells_title_rows_footer.xlsx": (
            book(
                Results=[
                    ["SIX6 binding, plate 1"],
                    [],
                    ["plate", "well", "value", "measured at"],
                    *([P1, w, (float(v), "0.00%"), datetime(2026, 3, 2)] for w, v in share.items()),
                    [],
                    ["Operator:", "K. B."],
                ]
            ),
            Told(
                "percent cells, dates, title rows above, a footer below",
                options={"assay": "percent"},
                reader="excel",
                rows=[[*row[:2], row[2] * 100, *row[3:]] for row in rows_of(P1, share)],
            ),
        ),
    }


def refused() -> Made:
    lists = [["plate", "well", "value"], *([P1, w, float(v)] for w, v in V1.items())]
    whole = book(Results=lists)
    return {
        "names_became_dates.xlsx": (
            book(Results=[["gene", "mg", "value"], [(datetime(2026, 9, 1), "d-mmm"), 1.5, 0.25], ["OCT4", 2.0, 1.5]]),
            Told(
                "the gene-name trap in Excel itself: the cell is a date",
                campaign="genes",
                message="a spreadsheet took a name for a date",
            ),
        ),
        "formula_never_calculated.xlsx": (
            book(Results=[*lists[:2], [P1, "A02", "=C2*2"], [P1, "B01", "#DIV/0!"]]),
            Told("a formula without a value, and one that fails", message="is a spreadsheet's error: mend the formula"),
        ),
        "grid_and_table.xlsx": (
            book(Raw=typed(grid(V1)), Results=lists),
            Told(
                "a grid on one sheet, a table on another",
                message="holds a plate on sheet Raw, rows 1-9 and a table on sheet Results",
            ),
        ),
        "other_things.xlsx": (
            book(Notes=[["lamp replaced"], ["K. B."]], Chart=[["x", "y"], [1, 2]]),
            Told("no sheet with results", message="no sheet holds a plate or a table"),
        ),
        "damaged.xlsx": (
            whole[: len(whole) // 2] + whole[len(whole) // 2 + 7 :],
            Told("a workbook with bytes missing in the middle", message="damaged"),
        ),
    }
