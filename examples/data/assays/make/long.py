"""Files with a row a well: as labloop's own form comes back, and as people and programs list their wells."""

from __future__ import annotations

from truth import P1, P2, Told, comma, rows_of, text, values, wells

Made = dict[str, tuple[bytes, Told]]
_FORM = "plate,well,value,unit,status,measured_at,note"


def _form(plate: str, measured: dict[str, str], more: str = ",,,") -> list[str]:
    return [_FORM, *(f"{plate},{well},{value},{more}" for well, value in measured.items())]


def files() -> Made:
    v1, v2 = values(P1), values(P2)
    own = {well.replace("0", ""): value for well, value in v1.items()}
    counts = values(P1, 20000, 1)
    grouped = {well: f"{int(value[:-2]):,}".replace(",", "'") + value[-2:] for well, value in counts.items()}
    odd = {**v1, "A02": "OVRFLW", "B01": "<LOD", "B02": "> 0.9", "C01": "n.d.", "C02": ""}
    status = {"C01": "failed_design", "C02": "failed_technical"}
    named = {**v1, "A02": "<LLOQ", "B01": ">ULOQ", "B02": ">LLOQ", "C01": "≥ 0.3", "C02": "#DIV/0!", "D01": "#N/A"}
    said = {"C02": "failed technical,,", "D01": "Excluded,,pipetted twice"}
    beside = {"A01": ",,Mean,0.59", "A02": ",,SD,0.35"}
    semicolon = ["plate;well;value;unit;status;measured_at;note"]
    return {
        "form_filled_in.csv": (
            text(_form(P1, v1)).encode(),
            Told("labloop's own form, filled in", reader="long", rows=rows_of(P1, v1)),
        ),
        "form_with_bounds_and_failures.csv": (
            text([_FORM, *(f"{P1},{well},{value},,{status.get(well, '')},2026-03-02," for well, value in odd.items())]).encode(),
            Told(
                "`OVRFLW`, `<LOD`, `> 0.9`, `n.d.` with a status, an empty cell with a status",
                reader="long",
                options={"assay": "od"},
                rows=rows_of(
                    P1,
                    odd,
                    {
                        "A02": (4.0, ">", "censored_high"),
                        "B01": (0.0, "<", "censored_low"),
                        "B02": (0.9, ">", "censored_high"),
                        "C01": (None, "=", "failed_design"),
                        "C02": (None, "=", "failed_technical"),
                    },
                ),
            ),
        ),
        "limits_by_name_and_spreadsheet_errors.csv": (
            text([_FORM, *(f"{P1},{well},{value},,{said.get(well, ',,')}" for well, value in named.items())]).encode(),
            Told(
                "`<LLOQ`, `>ULOQ`, `>LLOQ`, `≥ 0.3`, `#DIV/0!` and `#N/A` with a status",
                options={"assay": "od"},
                reader="long",
                rows=rows_of(
                    P1,
                    named,
                    {
                        "A02": (0.0, "<", "censored_low"),
                        "B01": (4.0, ">", "censored_high"),
                        "B02": (0.0, ">", "censored_high"),
                        "C01": (0.3, ">", "censored_high"),
                        "C02": (None, "=", "failed_technical"),
                        "D01": (None, "=", "excluded"),
                    },
                ),
            ),
        ),
        "thousands_comma_quoted.csv": (
            text(["plate,well,value", *(f'{P1},{well},"{float(value):,.1f}"' for well, value in counts.items())]).encode(),
            Told(
                "thousands grouped by commas, in quotes between commas",
                options={"assay": "counts"},
                reader="long",
                rows=rows_of(P1, counts),
            ),
        ),
        "excel_semicolon_decimal_comma_bom.csv": (
            text([*semicolon, *(f"{P1};{well};{value};;;;" for well, value in comma(v1).items())], "\r\n").encode("utf-8-sig"),
            Told(
                "semicolons, decimal commas, a byte order mark, as a European Excel saves CSV",
                reader="long",
                rows=rows_of(P1, v1),
            ),
        ),
        "excel_unicode_text_utf16.txt": (
            text([line.replace(",", "\t") for line in _form(P1, v1)], "\r\n").encode("utf-16"),
            Told("UTF-16 with tabs, Excel's `Unicode text`", reader="long", rows=rows_of(P1, v1)),
        ),
        "latin1_micro_sign.csv": (
            text(
                [
                    _FORM,
                    *(
                        f"{P1},{well},{value},µM,,,{i}. Wiederholung, Küvette".replace(", K", " K")
                        for i, (well, value) in enumerate(v1.items())
                    ),
                ]
            ).encode("latin-1"),
            Told(
                "Latin-1, a micro sign in the unit",
                options={"assay": "kd"},
                reader="long",
                rows=[[*row[:2], row[2] * 1000, *row[3:]] for row in rows_of(P1, v1)],
            ),
        ),
        "mac_line_ends_sep_line.csv": (
            text(["sep=;", *semicolon, *(f"{P1};{well};{value};;;;" for well, value in v1.items())], "\r").encode(),
            Told("line ends of an old Mac, Excel's `sep=` line", reader="long", rows=rows_of(P1, v1)),
        ),
        "metadata_above_footer_below.csv": (
            text(
                [
                    "Experiment:,SIX6 binding",
                    "Operator:,K. B.",
                    f"Plate name:,{P1}",
                    "",
                    "Well,Value",
                    *(f"{w},{v}" for w, v in own.items()),
                    "",
                    "Exported by Results Manager 4.2",
                    "Checked: yes",
                ]
            ).encode(),
            Told("lines above the header, remarks below the rows; the plate stands above", reader="long", rows=rows_of(P1, v1)),
        ),
        "summary_parked_right.csv": (
            text(["plate,well,value", *(f"{P1},{well},{value}{beside.get(well, '')}" for well, value in v1.items())]).encode(),
            Told("a mean and a deviation parked beside the first rows", reader="long", rows=rows_of(P1, v1)),
        ),
        "trailing_blank_columns_and_rows.csv": (
            text(["", ",,,,,,", *(line + ",," for line in _form(P2, v2)), ",,,,,,,,", ",,,,,,,,"]).encode(),
            Told("blank columns and rows that a spreadsheet saved along", reader="long", rows=rows_of(P2, v2)),
        ),
        "swiss_thousands_apostrophe.csv": (
            text([_FORM, *(f"{P1},{well},{value},,,," for well, value in grouped.items())]).encode(),
            Told("thousands grouped by apostrophes", options={"assay": "counts"}, reader="long", rows=rows_of(P1, counts)),
        ),
        "magellan_well_positions.csv": (
            text(
                [
                    "Well positions;450nm;Layout",
                    *(f"{well};{value};SM{i}" for i, (well, value) in enumerate(own.items(), 1)),
                    "",
                    "Date of measurement: 2026-03-02/Time of measurement: 14:05:11",
                ]
            ).encode(),
            Told(
                "Magellan's list: other column names, wells as A1, no plate, a footer",
                options={"assay": "magellan", "plates": [P1]},
                reader="long",
                rows=rows_of(P1, v1),
            ),
        ),
        "quoted_notes_with_commas.csv": (
            text(
                [_FORM, *(f'"{P1}","{w}","{v}","","","","drop on rim, ""dried""\nagain"' for w, v in v1.items())], "\r\n"
            ).encode(),
            Told("every cell quoted; commas, quotes and line ends inside a note", reader="long", rows=rows_of(P1, v1)),
        ),
        "genes_decimal_comma_in_designs.csv": (
            text(["Gene;Mg [mM];Aktivität", "SEPT1;1,5;0,25", "MARCH2;2;1.250,5", "SEPT1;1,50;0,75"], "\r\n").encode("latin-1"),
            Told(
                "designs written out with decimal commas; gene names that no spreadsheet touched",
                campaign="genes",
                reader="long",
                rows=[
                    [{"gene": "SEPT1", "mg": 1.5}, 0.25],
                    [{"gene": "MARCH2", "mg": 2.0}, 1250.5],
                    [{"gene": "SEPT1", "mg": 1.5}, 0.75],
                ],
            ),
        ),
        "echo_failed_transfers.csv": (
            _echo([(P1, "A2"), (P1, "C1")], done=12).encode(),
            Told(
                "an Echo transfer report: two wells were never filled",
                reader="echo",
                rows=[[P1, "A02", None, "=", "failed_technical"], [P1, "C01", None, "=", "failed_technical"]],
            ),
        ),
    }


def _echo(failed: list[tuple[str, str]], done: int) -> str:
    header = (
        "Date Time Point,Source Plate Name,Source Plate Barcode,Source Plate Type,Source Well,Destination Plate Name,"
        "Destination Plate Barcode,Destination Plate Type,Destination Well,Transfer Volume,Actual Volume,Transfer Status"
    )
    places = [well.replace("0", "") for well in wells(P1)]
    left = [well for well in places if well not in {well for _, well in failed}][:done]

    def line(plate: str, well: str, volume: int, status: str) -> str:
        return (
            f"2026-03-02 09:14:27.411,Source[1],,384PP_AQ_BP,{well},Destination[1],{plate},96_flat,{well},100,{volume},{status}"
        )

    return text([
        "Run ID,1772442867", "Run Date/Time,2026-03-02 09:14:11", "Application Name,Labcyte Echo Plate Reformat", "",
        *(["[EXCEPTIONS]", header, *(line(plate, well, 0, "MM0202007: Problem calc. well fluid volume fc: 0 ft: 0")
           for plate, well in failed), ""] if failed else []),
        "[DETAILS]", header, *(line(P1, well, 100, "") for well in left), "", "Instrument Name,E5XX-00001",
        "Instrument Model,Echo 525",
    ])  # fmt: skip


def refused() -> Made:
    v1 = values(P1)
    form = _form(P1, v1)
    return {
        "no_value_column.csv": (
            text(["plate,well,RFU 520", *(f"{P1},{well},{value}" for well, value in v1.items())]).encode(),
            Told(
                "the value has a name of the lab's own that the campaign does not map",
                message="has no column 'value'. Its columns are: plate, well, RFU 520",
            ),
        ),
        "comma_or_semicolon.csv": (
            b"a;b,c\n1;2,3\n",
            Told("commas and semicolons alike", message="columns may be separated by comma or semicolon"),
        ),
        "thousand_or_decimal.csv": (
            text(["plate;well;value", f"{P1};A02;1.234", f"{P1};B01;17"]).encode(),
            Told("`1.234`, which may be 1234", message="can be 1.234 or 1234"),
        ),
        "unit_in_the_cell.csv": (
            text([form[0], *(line.replace(",,,", " mM,,,") for line in form[1:3])]).encode(),
            Told("units written into the value's cells", message="put the unit 'mM' into a column unit"),
        ),
        "not_determined_or_not_detected.csv": (
            text([*form[:4], f"{P1},D02,n.d.,,,,"]).encode(),
            Told(
                "`n.d.`, and no status that says which of the two it is",
                message="row 5, value: is no number: leave the cell empty and say in status what became of the well (got 'n.d.')",
            ),
        ),
        "division_by_zero.csv": (
            text([*form[:4], f"{P1},D02,#DIV/0!,,,,"]).encode(),
            Told("a formula that failed, saved as CSV", message="is a spreadsheet's error: mend the formula"),
        ),
        "text_among_the_values.csv": (
            text([*form[:4], f"{P1},D02,RL-7-98,,,,"]).encode(),
            Told("a sample's name in the column of values", message="row 5, value: is not a number (got 'RL-7-98')"),
        ),
        "mean_below_the_rows.csv": (
            text([*form, f"{P1},Mean,0.59,,,,"]).encode(),
            Told("a mean in the row below the last well", message="is no well, such as A1 or H12 (got 'Mean')"),
        ),
        "well_listed_twice.csv": (
            text([*form, form[3]]).encode(),
            Told("one well in two rows", message="stands in row 4 already: keep one of them"),
        ),
        "cut_short.csv": (
            text(form)[:-40].encode(),
            Told("a copy that broke off in the middle of a row", message="the file is cut short"),
        ),
        "names_became_dates.csv": (
            text(["gene,mg,value", "1-Sep,1.5,0.25", "2-Mar,2,1.5", "OCT4,2,1.5"]).encode(),
            Told(
                "the gene-name trap: SEPT1 came back as 1-Sep", campaign="genes", message="a spreadsheet took a name for a date"
            ),
        ),
        "sample_names_became_dates.csv": (
            text(["sample,plate,well,value", f"1-Sep,{P1},A02,0.3", f"clone 4,{P1},B01,0.4"]).encode(),
            Told(
                "the same trap in a column that labloop does not need",
                message="row 2, sample: looks like a date: a spreadsheet took a name",
            ),
        ),
        "kinetic_cycles.csv": (
            text(
                [
                    "Application: Tecan i-control,,,",
                    "Device: infinite 200Pro,,,",
                    "",
                    "Label1,,,",
                    "Cycle Nr.,1,2,3",
                    "Time [s],0,60,120",
                    "Temp. [°C],37,37,37",
                    "A1,0.1,0.2,0.3",
                    "A2,0.1,0.2,0.4",
                ]
            ).encode(),
            Told("a kinetic run", message="is a kinetic run"),
        ),
        "report.pdf.csv": (
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
            Told("a PDF that was renamed", message="is a PDF, not text"),
        ),
        "old_workbook.xls": (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504),
            Told("a workbook of Excel 97", message="is an old Excel workbook"),
        ),
        "echo_all_done.csv": (
            _echo([], done=14).encode(),
            Told("an Echo report without a failure", message="every transfer of this Echo report was done (14)"),
        ),
    }
