"""Plates drawn as grids, as the programs of plate readers export them, and as people draw them."""

from __future__ import annotations

from long import Made
from programs import envision, gen5, gen5_two_reads, icontrol, mars, softmax
from truth import LETTERS, P1, P2, WIDE, Told, comma, grid, rows_of, text, values

V1, V2, VW = values(P1), values(P2), values(WIDE, 30000, 0)
OTHER = values(P1, 0.5)
"""A second read of plate 1, half the first."""
WORDS = {"A02": "OVRFLW", "B02": "MISSED", "C02": "*****", "D01": "OVER"}
"""What readers write instead of a number."""
WORDED = {
    "A02": (4.0, ">", "censored_high"),
    "B02": (None, "=", "failed_technical"),
    "C02": (None, "=", "failed_technical"),
    "D01": (4.0, ">", "censored_high"),
}
WAITING = {"waiting": [P1]}


def files() -> Made:
    first = rows_of(P1, V1)
    worded = {**V1, **WORDS}
    three = {well: f"{2.1 + 0.083 * i:.3f}" for i, well in enumerate(V1)}
    hand = grid(V1)
    hand = [
        line + ("," + more if more else "")
        for line, more in zip(hand, ["Mean", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", ""])
    ]
    part = {well: value for well, value in V1.items() if well[0] in "ABCD"}
    return {
        "mars_trailing_commas.csv": (
            text(mars(("Raw Data (450)", V1), id1=P1, trail="," * 12)).encode(),
            Told("BMG MARS: the plate in ID1, trailing commas, unused wells empty", reader="grid", rows=first),
        ),
        "mars_two_reads.csv": (
            text(mars(("Raw Data (450)", V1), ("Raw Data (600)", OTHER), id1=f"binding {P1} day 2"), "\r\n").encode(),
            Told(
                "BMG MARS: two reads, of which 600 is asked for", options={"read": "600"}, reader="grid", rows=rows_of(P1, OTHER)
            ),
        ),
        "mars_raw_and_corrected.csv": (
            text(mars(("Raw Data  (450)", V1), ("Blank corrected based on Raw Data (450)", OTHER), id1=P1)).encode(),
            Told(
                "BMG MARS: raw and corrected values of one wavelength",
                options={"read": "raw data (450)"},
                reader="grid",
                rows=first,
            ),
        ),
        "mars_384.csv": (
            text(mars(("Raw Data (580/620)", VW), id1=WIDE, rows=16, columns=24)).encode(),
            Told("BMG MARS: 16 x 24", campaign="wide", reader="grid", rows=rows_of(WIDE, VW)),
        ),
        "mars_two_plates_in_one_file.csv": (
            text([*mars(("Raw Data (450)", V1), id1=P1), "", *mars(("Raw Data (450)", V2), id1=P2)]).encode(),
            Told("two exports of BMG MARS in one file", reader="grid", rows=[*first, *rows_of(P2, V2)]),
        ),
        "gen5_overflow_and_missed.txt": (
            text(gen5("Plate 1", grid(worded, sep="\t", tail="abs450:450")), "\r\n").encode(),
            Told(
                "Gen5: OVRFLW, OVER, MISSED, *****; a 13th column; the one plate that waits",
                options={"assay": "od", **WAITING},
                reader="grid",
                rows=rows_of(P1, worded, WORDED),
            ),
        ),
        "gen5_layout_and_two_reads.txt": (
            text(
                gen5(
                    P1,
                    gen5_two_reads(V1, OTHER),
                    layout=["Layout", *grid(dict.fromkeys(V1, "SPL1"), sep="\t", tail="Well ID"), ""],
                )
            ).encode(),
            Told(
                "Gen5: a layout above, two reads below each letter, once in another order; the campaign wants 450",
                options={"assay": "od450"},
                reader="grid",
                rows=first,
            ),
        ),
        "gen5_two_plates.txt": (
            text(
                [*gen5("Plate 1", grid(V1, sep="\t", tail="450")), "", *gen5("Plate 2", grid(V2, sep="\t", tail="450"))]
            ).encode(),
            Told(
                "Gen5: plates named by counting, told by `--plate`",
                options={"plates": [f"Plate 1={P1}", f"Plate 2={P2}"]},
                reader="grid",
                rows=[*first, *rows_of(P2, V2)],
            ),
        ),
        "gen5_three_decimals.txt": (
            text(gen5("Plate 1", grid(three, sep="\t", tail="450"))).encode(),
            Told(
                "Gen5: `2.100` might be thousands, the temperature's `26.3` tells",
                options=WAITING,
                reader="grid",
                rows=rows_of(P1, three),
            ),
        ),
        "icontrol_over.csv": (
            text(icontrol(grid({**V1, "A02": "OVER"}, corner="<>"))).encode("utf-8-sig"),
            Told(
                "i-control: the corner `<>`, OVER",
                options={"assay": "od450", "plates": [P1]},
                reader="grid",
                rows=rows_of(P1, V1, {"A02": (4.0, ">", "censored_high")}),
            ),
        ),
        "icontrol_german_decimal_comma.txt": (
            text(icontrol(grid(comma(V1), corner="<>", sep="\t"), sep="\t", german=True), "\r\n").encode("latin-1"),
            Told("i-control in German: Latin-1, tabs, decimal commas", options=WAITING, reader="grid", rows=first),
        ),
        "icontrol_part_of_a_plate.csv": (
            text(icontrol(grid(part, corner="<>", rows=4, columns=2))).encode(),
            Told(
                "i-control: four rows and two columns of the plate were read",
                options=WAITING,
                reader="grid",
                rows=rows_of(P1, part),
            ),
        ),
        "softmax_utf16_two_wavelengths.txt": (
            text(softmax(("450", V1), ("600", OTHER)), "\r\n").encode("utf-16"),
            Told(
                "SoftMax Pro: UTF-16, no letters, two wavelengths side by side",
                options={"read": "600", **WAITING},
                reader="grid",
                rows=rows_of(P1, OTHER),
            ),
        ),
        "softmax_latin1_reduced.txt": (
            text(
                softmax(
                    ("450", V1),
                    plate=P2,
                    more=[
                        "\t\t" + "\t".join(map(str, range(1, 13))),
                        *("\t\t" + line.split(",", 1)[1].replace(",", "\t") for line in grid(OTHER)[1:]),
                    ],
                )
            ).encode("latin-1"),
            Told(
                "SoftMax Pro: the raw plate, and a reduced one below it",
                options={"read": "reduced"},
                reader="grid",
                rows=rows_of(P2, {well: OTHER.get(well, "") for well in V2}),
            ),
        ),
        "envision_two_plates.csv": (
            text(envision((P1, V1), (P2, V2)), "\r\n").encode(),
            Told(
                "EnVision: two plates by barcode, tables about them, columns `01`, a map of dashes",
                reader="grid",
                rows=[*first, *rows_of(P2, V2)],
            ),
        ),
        f"{P2}_450nm.csv": (
            text(grid(V2, sep=";")).encode(),
            Told("a bare grid; the plate stands in the file's name alone", reader="grid", rows=rows_of(P2, V2)),
        ),
        "hand_drawn_with_summaries.csv": (
            text([f"{P1},,,", "", *hand, "Mean,0.5,0.6,0,0,0,0,0,0,0,0,0,0", "", "measured by K. B."]).encode(),
            Told("drawn by hand: means to the right and below, a note at the end", reader="grid", rows=first),
        ),
        "stacked_under_their_names.csv": (
            text([P1, *grid(V1), "", f"{P2},,", *grid(V2)]).encode(),
            Told("two plates drawn below one another, each under its name", reader="grid", rows=[*first, *rows_of(P2, V2)]),
        ),
        "some_wells_left_empty.csv": (
            text([P1, *grid({well: value for well, value in V1.items() if well not in ("A02", "G02")})]).encode(),
            Told(
                "two wells of the plate were not read: they go on waiting",
                reader="grid",
                rows=[row for row in first if row[1] not in ("A02", "G02")],
            ),
        ),
    }


def refused() -> Made:
    plain = [P1, *grid(V1)]
    return {
        "two_reads_none_chosen.csv": (
            text(mars(("Raw Data (450)", V1), ("Raw Data (600)", OTHER), id1=P1)).encode(),
            Told(
                "two reads, and nobody said which",
                message="holds 2 reads: 'Raw Data (450)', 'Raw Data (600)'; choose one with --read",
            ),
        ),
        "read_not_there.csv": (
            text(mars(("Raw Data (600)", V1), id1=P1)).encode(),
            Told(
                "the campaign wants 450, the file has 600",
                options={"assay": "od450"},
                message="has no read '450'; it holds 'Raw Data (600)'",
            ),
        ),
        "which_plate.csv": (
            text(grid(V1)).encode(),
            Told(
                "two plates wait, and the file does not say which it is",
                options={"waiting": [P1, P2]},
                message=f"does not say which plate it is; waiting are {P1}, {P2}: choose with --plate {P1}",
            ),
        ),
        "plates_named_by_counting.txt": (
            text([*gen5("Plate 1", grid(V1, sep="\t", tail="450")), *gen5("Plate 2", grid(V2, sep="\t", tail="450"))]).encode(),
            Told(
                "`Plate 1` and `Plate 2` need not be labloop's",
                options={"waiting": [P1, P2]},
                message=f"choose with --plate 'Plate 1={P1}' --plate 'Plate 2={P2}'",
            ),
        ),
        "plate_of_another_campaign.txt": (
            text(gen5("kinase-R03-P1", grid(V1, sep="\t", tail="450"))).encode(),
            Told(
                "a plate that labloop did not lay out, although one waits",
                options=WAITING,
                message="the plate is called 'kinase-R03-P1', which labloop did not lay out",
            ),
        ),
        "file_and_option_disagree.csv": (
            text(plain).encode(),
            Told(
                "the file says one plate, `--plate` another",
                options={"plates": [P2]},
                message=f"the file says that this is plate {P1}, --plate says otherwise",
            ),
        ),
        "value_in_an_unused_well.csv": (
            text([P1, *grid({**V1, "H12": "0.71"})]).encode(),
            Told("a value where labloop laid nothing out", message=f"row 10, well H12, well: of plate {P1} is empty"),
        ),
        "same_plate_twice.csv": (
            text([*plain, "", *plain]).encode(),
            Told("one plate drawn twice", message=f"all show plate {P1}: keep one of them"),
        ),
        "grid_cut_short.csv": (
            text(plain[:7]).encode(),
            Told("a copy that broke off after row E", message="ends at row E of a plate of 8 rows: it is cut short"),
        ),
        "grid_cut_in_a_row.csv": (
            text(plain)[:-9].encode(),
            Told("a copy that broke off in the middle of row H", message="the file ends in the middle of a plate's row"),
        ),
        "row_missing.csv": (
            text([line for line in plain if not line.startswith("C")]).encode(),
            Told("row C was deleted", message="row D of the plate follows row B"),
        ),
        "decimal_commas_between_commas.csv": (
            text(
                [
                    P1,
                    *(
                        line if i == 0 else line.replace(".", ",")
                        for i, line in enumerate(
                            grid(
                                dict.fromkeys(
                                    [f"{letter}{column:02d}" for letter in LETTERS[:8] for column in range(1, 13)], "0.5"
                                )
                            )
                        )
                    ),
                ]
            ).encode(),
            Told("decimal commas between commas", message="has more values than the plate has columns"),
        ),
        "softmax_kinetic.txt": (
            text(softmax(("450", V1), more=["30\t23.5" + "\t0.1" * 12, *["\t" + "\t0.1" * 12] * 7, ""])).encode(),
            Told("SoftMax Pro: time points below one header", options=WAITING, message="rows of numbers go on below the plate"),
        ),
        "plate_of_1536.csv": (
            text([P1, ",".join(["", *map(str, range(1, 49))]), "A" + ",7" * 48, "B" + ",7" * 48, "end"]).encode(),
            Told("a plate of 1536 wells", message="a plate of 2 x 48 wells, the campaign's have 8 x 12"),
        ),
        "wrong_plate_size.csv": (
            text(mars(("Raw Data (450)", VW), id1=P1, rows=16, columns=24)).encode(),
            Told("16 x 24 in a campaign of 96-well plates", message="a plate of 16 x 24 wells, the campaign's have 8 x 12"),
        ),
        "only_a_layout.txt": (
            text(["Layout", *grid(dict.fromkeys(V1, "SPL1"), sep="\t")]).encode(),
            Told("the export of a layout, without results", message="holds no measured plate, only a layout on lines 2-10"),
        ),
        "text_in_a_well.csv": (
            text([P1, *grid({**V1, "B02": "see note"})]).encode(),
            Told("a remark typed into a well", message="row 4, well B2, value: is not a number (got 'see note')"),
        ),
    }
