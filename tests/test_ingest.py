"""Assay files become checked measurements, or are refused with every fault at once."""

from __future__ import annotations

import hashlib
import os
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labloop.assays.ingest import STATUSES, AssayFile, ReadOptions, read_assay, sha256_of
from labloop.config.campaign import CampaignConfig
from labloop.config.read import parse_config
from labloop.errors import Fault, IngestError, grouped
from labloop.ledger import Ledger

TEMPLATE = "plate,well,value,unit,status,measured_at,note\n"
MIXED = {
    "name": "enzyme",
    "space": {
        "parameters": [
            {"type": "real", "name": "ph", "low": 4, "high": 9},
            {"type": "integer", "name": "cycles", "low": 1, "high": 30},
            {"type": "choice", "name": "host", "options": ["coli", "yeast"]},
            {"type": "mixture", "name": "buffer", "components": ["tris", "pbs"], "step": 0.05},
        ],
        "constraints": [{"type": "linear", "weights": {"ph": 1}, "high": 8}],
    },
    "objective": {"assay": "rate", "unit": "nM"},
    "assays": {"rate": {"units": {"uM": 1000.0, "%": 10.0}, "low": 0, "high": 5000}, "purity": {}},
}
MIXED_HEADER = "ph,cycles,host,tris,pbs,value"


@pytest.fixture(scope="module")
def mixed() -> CampaignConfig:
    return parse_config(MIXED, CampaignConfig)


@pytest.fixture
def read(tmp_path, tfbind8_config):
    """Read text or bytes as a file of a campaign (TF Bind 8 with plate P1 in the lab, unless told otherwise)."""

    def go(content, config=tfbind8_config, *, wells=None, designs=None, **options) -> AssayFile:
        path = tmp_path / "assay.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if wells is None:
            wells, designs = laid_out(config)
        return read_assay(path, config, wells=wells, designs=designs, options=ReadOptions(**options))

    return go


def laid_out(config: CampaignConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plate P1 of round 1: two designs in A01 and B12, a control in H12."""
    space = config.space
    X = space.sample(2, np.random.default_rng(5))
    ids = space.ids(X)
    designs = space.decode(X).set_index(pd.Index(ids, name="design_id"))
    wells = pd.DataFrame(
        {
            "round": [1, 1, 1],
            "plate": ["P1"] * 3,
            "well": ["A01", "B12", "H12"],
            "design_id": [*ids, np.nan],
            "control": [np.nan, np.nan, "negative"],
        }
    )
    return wells, designs


def refused(read, content, *args, **options) -> IngestError:
    with pytest.raises(IngestError) as caught:
        read(content, *args, **options)
    return caught.value


def faults(read, content, *args, **options) -> list[tuple[int, str, str]]:
    return [(fault.row, fault.column, fault.cell) for fault in refused(read, content, *args, **options).faults]


def one_value(read, cell, config, *, row="7,3,coli,0.5,0.5,", header=MIXED_HEADER, more=""):
    return read(f'{header}\n{row}"{cell}"{more}\n', config).measurements.iloc[0]


# ---- the keys


def test_an_exported_template_reads_with_no_mapping_at_all(read, tfbind8_config):
    wells, _ = laid_out(tfbind8_config)
    file = read(TEMPLATE + "P1,A01,0.5,,,2026-03-01,\nP1,B12,0.25,,ok,,late\nP1,H12,0,,,,\n")
    table = file.measurements
    assert table["value"].tolist() == [0.5, 0.25, 0.0]
    assert table["design_id"].tolist()[:2] == wells["design_id"].tolist()[:2]
    assert table["control"].tolist()[2] == "negative"
    assert pd.isna(table["design_id"].iloc[2])
    assert table["round"].tolist() == [1, 1, 1]
    assert table["row"].tolist() == [2, 3, 4]
    assert file.new == ()
    assert sorted(file.designs["design_id"]) == sorted(wells["design_id"].dropna())


def test_a_file_of_controls_alone_is_a_file(read):
    file = read("plate,well,value\nP1,H12,1\n")
    assert file.measurements["control"].tolist() == ["negative"]
    assert file.designs.empty
    assert list(file.designs.columns) == ["design_id", "dna", "in_space"]


@pytest.mark.parametrize("written", ["A1", "A01", "a1", "a01", " A1 "])
def test_a_well_is_found_however_people_write_it(read, written):
    assert read(f"plate,well,value\nP1,{written},1\n").measurements["well"].tolist() == ["A01"]


def test_designs_that_labloop_never_proposed_are_welcome(read, tfbind8_config):
    file = read("dna,value\nACGTACGA,0.4\nacgtacga,0.5\nTTTTTTTT,0.1\n")
    assert len(file.measurements) == 3
    assert file.measurements["design_id"].nunique() == len(file.new) == 2
    assert set(file.new) == set(tfbind8_config.space.ids(tfbind8_config.space.encode(file.designs)))


def test_both_strands_of_a_duplex_are_replicates_of_one_design(read):
    file = read("dna,value\nAAAAAAAC,0.4\nGTTTTTTT,0.5\n")
    assert file.measurements["design_id"].nunique() == 1
    assert file.designs["dna"].tolist() == ["AAAAAAAC"]


def test_a_design_id_is_a_key_of_its_own(read, tfbind8_config):
    _, designs = laid_out(tfbind8_config)
    file = read(f"design_id,value\n{designs.index[1].upper()},3\n")
    assert file.measurements["design_id"].tolist() == [designs.index[1]]
    assert file.designs["dna"].tolist() == [designs["dna"].iloc[1]]


def in_tubes(config: CampaignConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plate of `laid_out`, with a second well of its first design."""
    wells, designs = laid_out(config)
    wells = pd.concat([wells, wells.iloc[[0]].assign(well="C03")], ignore_index=True)
    return wells.assign(row=[1, 2, 8, 3], column=[1, 12, 12, 3]), designs


def test_a_tube_s_name_is_a_key_where_nothing_else_says_the_design(read, tfbind8_config):
    wells, designs = in_tubes(tfbind8_config)
    content = "Sample,value\ntfbind8_r01_b12,0.5\nTFBIND8_R01_A01,0.7\nTFBIND8_R01_A01,0.8\nTFBIND8_R01_H12,0\n"
    table = read(content, wells=wells, designs=designs).measurements
    two, one = wells["design_id"].iloc[[0, 1]]
    assert table["design_id"].tolist()[:3] == [one, two, two]
    assert table["well"].tolist()[0] == "B12", "a tube that fills one well tells of this well"
    assert table["well"].isna().tolist() == [False, True, True, False], "one that fills several tells of none of them"
    assert table["control"].tolist()[3] == "negative"


def test_a_sample_that_labloop_did_not_name_is_a_fault_that_shows_the_names(read, tfbind8_config):
    wells, designs = in_tubes(tfbind8_config)
    error = refused(read, "sample,value\nS1,0.5\nTFBIND8_R01_B12,1\nTFBIND8_R01_B12,2\n", wells=wells, designs=designs)
    assert [(one.row, one.column) for one in error.faults] == [(2, "sample"), (4, "sample")]
    assert "TFBIND8_R01_A01" in error.faults[0].rule
    assert "stands in row 3 already" in error.faults[1].rule


@pytest.mark.parametrize(("column", "cell", "own"), [("plate", "P9", "P1"), ("well", "H01", "B12"), ("round", "2", "1")])
def test_a_tube_in_another_place_than_labloop_laid_it_out_is_a_fault(read, tfbind8_config, column, cell, own):
    wells, designs = in_tubes(tfbind8_config)
    kept = read(f"sample,{column},value\nTFBIND8_R01_B12,{own},0.5\n", wells=wells, designs=designs)
    assert kept.measurements["well"].tolist() == ["B12"]
    error = refused(read, f"sample,{column},value\nTFBIND8_R01_B12,{cell},0.5\n", wells=wells, designs=designs)
    assert [(one.row, one.column) for one in error.faults] == [(2, column)]
    assert error.faults[0].rule == f"is not the {column} of the row's sample, which is {own}"


@pytest.mark.parametrize("own", ["S1", "rack_R01_A01", "TFBIND8"])
def test_a_lab_s_own_samples_say_nothing_where_the_row_has_its_well(read, own):
    file = read(f"plate,well,sample,value\nP1,A01,{own},0.5\n")
    assert file.measurements["well"].tolist() == ["A01"]
    assert "ignored sample" in file.dialect


@pytest.mark.parametrize("other", ["TFBIND8_R01_B12", "tfbind8_r01_h12", "TFBIND8_R01_C03", "TFBIND8_R02_A01"])
def test_labloop_s_own_sample_that_is_another_well_s_is_a_fault(read, tfbind8_config, other):
    wells, designs = in_tubes(tfbind8_config)
    own = "P1,A01,TFBIND8_R01_A01,0.5\nP1,C03,TFBIND8_R01_A01,0.7\nP1,H12,TFBIND8_R01_H12,0\n"
    assert len(read(f"plate,well,sample,value\n{own}", wells=wells, designs=designs).measurements) == 3
    error = refused(read, f"plate,well,sample,value\nP1,A01,{other},0.5\n", wells=wells, designs=designs)
    assert [(one.row, one.column) for one in error.faults] == [(2, "sample")]
    assert "which is TFBIND8_R01_A01" in error.faults[0].rule


def test_labloop_s_own_sample_beside_another_design_is_a_fault(read, tfbind8_config):
    _, designs = laid_out(tfbind8_config)
    one, two = designs["dna"]
    assert read(f"sample,dna,value\nTFBIND8_R01_A01,{one},0.5\nmine,{two},1\n").measurements["value"].tolist() == [0.5, 1]
    assert faults(read, f"sample,dna,value\nTFBIND8_R01_A01,{two},0.5\nTFBIND8_R01_H12,{two},1\n") == [
        (2, "sample", "TFBIND8_R01_A01"), (3, "sample", "TFBIND8_R01_H12"),
    ]  # fmt: skip


def test_a_known_design_that_the_file_writes_out_is_not_new(read, tfbind8_config):
    _, designs = laid_out(tfbind8_config)
    assert read(f"dna,value\n{designs['dna'].iloc[0]},3\n").new == ()


def test_keys_that_agree_are_read(read, tfbind8_config):
    _, designs = laid_out(tfbind8_config)
    row = f"{designs.index[0]},{designs['dna'].iloc[0]},P1,A1,3"
    assert read(f"design_id,dna,plate,well,value\n{row}\n").measurements["design_id"].tolist() == [designs.index[0]]


@pytest.mark.parametrize(
    "row",
    ["{other},,P1,A1,3", ",{other_dna},P1,A1,3", "{own},{other_dna},,,3", "{own},,P1,H12,3", ",{own_dna},P1,H12,3"],
    ids=["id and well", "design and well", "id and design", "id and control", "design and control"],
)
def test_keys_that_disagree_are_a_fault(read, tfbind8_config, row):
    _, designs = laid_out(tfbind8_config)
    own, other = designs.index
    filled = row.format(own=own, other=other, own_dna=designs["dna"].iloc[0], other_dna=designs["dna"].iloc[1])
    assert [fault[0] for fault in faults(read, f"design_id,dna,plate,well,value\n{filled}\n")] == [2]


def test_unknown_plates_wells_and_ids_are_faults_that_say_what_there_is(read):
    text = "plate,well,design_id,value\nP9,A1,,1\nP1,C3,,1\nP1,Z99,,1\n,,feedfeedfeed,1\n,,,1\nP1,,,1\n"
    error = refused(read, text)
    assert [(fault.row, fault.column) for fault in error.faults] == [
        (2, "plate"), (3, "well"), (4, "well"), (5, "design_id"), (6, "well"), (7, "well"),
    ]  # fmt: skip
    assert "(P1)" in error.faults[0].rule


def test_a_well_that_stands_twice_is_a_fault_that_names_the_first_row(read):
    error = refused(read, "plate,well,value\nP1,A1,1\nP1,B12,1\nP1,A01,2\n")
    assert [(fault.row, fault.cell) for fault in error.faults] == [(4, "A01")]
    assert "row 2" in error.faults[0].rule


def test_plates_of_the_labs_own_are_kept_where_the_row_says_its_design(read):
    table = read("dna,plate,well,value\nACGTACGA,freezer 3,tube 7,1\n").measurements
    assert table[["plate", "well"]].to_numpy().tolist() == [["freezer 3", "tube 7"]]
    assert pd.isna(table["round"].iloc[0])


def test_a_plate_name_of_two_rounds_needs_the_round(read, tfbind8_config):
    wells, designs = laid_out(tfbind8_config)
    again = pd.concat([wells, wells.assign(round=2, design_id=[*wells["design_id"].tolist()[1::-1], np.nan])])
    options = {"wells": again, "designs": designs}
    assert faults(read, "plate,well,value\nP1,A1,1\n", **options) == [(2, "plate", "P1")]
    assert faults(read, "plate,well,round,value\nP1,A1,3,1\nP1,A1,one,1\n", **options) == [
        (2, "well", "A1"), (3, "round", "one"), (3, "well", "A1"),
    ]  # fmt: skip
    assert faults(read, "plate,well,round,value\nP1,A1,,1\nP1,B12,2,1\n", **options) == [(2, "plate", "P1")]
    table = read("plate,well,round,value\nP1,A1,2,1\n", **options).measurements
    assert table["design_id"].tolist() == [wells["design_id"].iloc[1]]
    assert table["round"].tolist() == [2]


def test_a_blank_round_is_the_one_in_which_the_plate_was_laid_out(read):
    table = read("plate,well,round,value\nP1,A1,,1\nP1,B12,1,2\n").measurements
    assert table["round"].tolist() == [1, 1]
    assert table["well"].tolist() == ["A01", "B12"]
    assert faults(read, "plate,well,round,value\nP1,C3,,1\nP1,B12,,2\nP1,A1,2,3\n") == [(2, "well", "C3"), (4, "well", "A1")]


def test_a_space_of_every_kind_is_read(read, mixed):
    file = read(f"{MIXED_HEADER}\n7.5,3,coli,0.5,0.5,12\n7.50,3,coli,0.5,0.5,13\n4,30,yeast,0,1,14\n", mixed)
    assert file.measurements["design_id"].tolist() == mixed.space.ids(
        mixed.space.encode(
            pd.DataFrame(
                {
                    "ph": [7.5, 7.5, 4],
                    "cycles": [3, 3, 30],
                    "host": ["coli", "coli", "yeast"],
                    "tris": [0.5, 0.5, 0],
                    "pbs": [0.5, 0.5, 1],
                }
            )
        )
    )
    assert file.designs["ph"].tolist() == [7.5, 4.0]
    assert file.designs["cycles"].tolist() == [3, 30]


def test_a_design_outside_the_space_is_a_fault_in_every_row_that_has_it(read, mixed):
    rows = ["12,3,coli,.5,.5", "7,3.5,coli,.5,.5", "7,3,human,.5,.5", "7,3,coli,.5,.1", "12,3,coli,.5,.5", "7,3,coli,.5,"]
    text = "\n".join([MIXED_HEADER, *(f"{row},1" for row in rows)]) + "\n"
    found = faults(read, text, mixed)
    assert [row for row, _, _ in found] == [2, 3, 4, 5, 6, 7]
    assert [column for _, column, _ in found][:3] == ["ph", "cycles", "host"]


def test_a_design_that_only_breaks_a_constraint_is_accepted_as_out_of_space(read, mixed):
    file = read(f"{MIXED_HEADER}\n8.5,3,coli,0.5,0.5,12\n7.5,3,coli,0.5,0.5,12\n", mixed)
    assert file.designs["in_space"].tolist() == [False, True]
    assert file.designs["ph"].tolist() == [8.5, 7.5]


# ---- the columns


def test_the_campaigns_mapping_names_the_labs_columns(read, mixed):
    assay = {"rate": {"columns": {"value": "Rate [nM/s]", "ph": "pH value"}}}
    config = parse_config({**MIXED, "assays": assay}, CampaignConfig)
    file = read("pH value,Cycles,HOST,tris,P B S,Rate [nM/s]\n7,3,coli,0.5,0.5,12\n", config)
    assert file.measurements["value"].tolist() == [12]
    assert "value from 'Rate [nM/s]'" in file.dialect
    assert faults(read, "pH value,Cycles,HOST,tris,P B S,Rate [nM/s]\n99,3,coli,0.5,0.5,x\n", config) == [
        (2, "Rate [nM/s]", "x"), (2, "pH value", "99"),
    ]  # fmt: skip
    assert read(f"{MIXED_HEADER}\n7,3,coli,0.5,0.5,12\n", config).measurements["value"].tolist() == [12]


@pytest.mark.parametrize("name", ["Measured at", "measured-at", "MEASURED_AT", "MeasuredAt"])
def test_labloops_own_names_are_found_in_any_spelling(read, name):
    assert read(f"Plate,WELL,Value,{name}\nP1,A1,1,2026-03-01\n").measurements["measured_at"].tolist() == ["2026-03-01"]


def test_a_missing_value_column_shows_the_files_columns_and_the_yaml(read):
    message = str(refused(read, "plate,well,signal\nP1,A1,1\n"))
    assert "plate, well, signal" in message
    assert "assays:\n      pbm:\n        columns:\n          value:" in message


@pytest.mark.parametrize("sep", [";", ",", "\t"], ids=["semicolon", "comma", "tab"])
def test_lines_above_a_list_are_not_taken_for_its_columns(read, sep):
    above = "User: USER;Path: C:\\;Test ID: 3\nTest Name: X;Date: 03.02.2026;Time: 10:11:12\nID1: P1\n\n"
    rows = "Well Row;Well Col;Content;Raw Data (450)\nA;1;Sample X1;1.25\nB;12;Sample X2;1.5\n"
    message = str(refused(read, (above + rows).replace(";", sep)))
    assert "Its columns are: Well Row, Well Col, Content, Raw Data (450)." in message


def test_a_column_of_the_assay_s_own_name_holds_its_values_where_no_other_is_named(read):
    assert read("plate,well,PBM\nP1,A1,3\n").measurements["value"].tolist() == [3.0]
    assert read("plate,well,pbm,value\nP1,A1,3,4\n").measurements["value"].tolist() == [4.0]


def test_a_missing_key_shows_what_would_do(read):
    message = str(refused(read, "name,value\nx,1\n"))
    assert "design_id" in message
    assert "dna" in message
    assert "name, value" in message
    assert "plate:" in str(refused(read, "well,value\nA1,1\n"))


def test_a_mapping_to_a_column_that_is_not_there_is_refused(read):
    config = parse_config({**MIXED, "assays": {"rate": {"columns": {"unit": "Einheit"}}}}, CampaignConfig)
    assert "Einheit" in str(refused(read, f"{MIXED_HEADER}\n7,3,coli,0.5,0.5,12\n", config))
    config = parse_config({**MIXED, "assays": {"rate": {"columns": {"vlaue": "x"}}}}, CampaignConfig)
    assert "vlaue" in str(refused(read, f"{MIXED_HEADER}\n7,3,coli,0.5,0.5,12\n", config))


def test_columns_that_mean_nothing_to_labloop_are_named_in_the_dialect(read):
    assert "ignored operator, lot" in read("operator,plate,well,value,lot\nkb,P1,A1,1,7\n").dialect


def test_a_second_table_beside_the_first_is_not_passed_over(read, mixed):
    for names in ("plate2,well2,value2", "Plate.1,Well.1,Value.1", "well 2,value 2,lot"):
        message = str(refused(read, f"plate,well,value,{names}\nP1,A1,1,P1,B12,2\n"))
        assert "look like a second table beside the first" in message
    for names in ("value2", "well_384,value_2", "sample 1,value 1"):
        text = f"plate,well,sample,value,{names}\nP1,A1,mine,1,2,2\n"
        assert read(text.replace(",2,2\n", ",2" * (1 + names.count(",")) + "\n")).measurements["value"].tolist() == [1]
    config = parse_config({**MIXED, "assays": {"rate": {"columns": {"value": "y1", "well": "well1"}}}}, CampaignConfig)
    text = f"{MIXED_HEADER},plate,well1,y1,y2\n7,3,coli,0.5,0.5,9,mine,A1,12,13\n"
    assert read(text, config).measurements["value"].tolist() == [12]


def test_two_columns_of_values_are_refused_unless_one_is_mapped(read, mixed):
    assert "could both be 'value'" in str(refused(read, "plate,well,value,Value\nP1,A1,1,2\n"))
    config = parse_config({**MIXED, "assays": {"rate": {"columns": {"value": "value"}}}}, CampaignConfig)
    assert read(f"{MIXED_HEADER},Value\n7,3,coli,0.5,0.5,12,13\n", config).measurements["value"].tolist() == [12]


def test_an_assay_that_the_campaign_lacks_is_refused(read, mixed):
    assert "rate, purity" in str(refused(read, f"{MIXED_HEADER}\n7,3,coli,0.5,0.5,12\n", mixed, assay="yield"))
    assert read(f"{MIXED_HEADER}\n7,3,coli,0.5,0.5,12\n", mixed, assay="purity").measurements["assay"].tolist() == ["purity"]


def test_rows_of_another_assay_are_faults(read, mixed):
    text = f"{MIXED_HEADER},assay\n7,3,coli,0.5,0.5,12,rate\n7,3,coli,0.5,0.5,12,purity\n"
    assert faults(read, text, mixed) == [(3, "assay", "purity")]


# ---- the values


@pytest.mark.parametrize(
    ("cell", "value", "qualifier", "status"),
    [
        ("12", 12, "=", "ok"),
        ("+1.5e2", 150, "=", "ok"),
        (">100", 100, ">", "censored_high"),
        ("≥ 100", 100, ">", "censored_high"),
        ("< 0.5", 0.5, "<", "censored_low"),
        ("<=0.5", 0.5, "<", "censored_low"),
        ("<LOD", 0, "<", "censored_low"),
        ("< lloq", 0, "<", "censored_low"),
        (">LLOQ", 0, ">", "censored_high"),
        (">ULOQ", 5000, ">", "censored_high"),
        ("OVRFLW", 5000, ">", "censored_high"),
        ("OVER", 5000, ">", "censored_high"),
        ("12%", 120, "=", "ok"),
        ("1 234.5", 1234.5, "=", "ok"),
        ("1,234.5", 1234.5, "=", "ok"),
    ],
)
def test_a_value_cell_is_understood(read, mixed, cell, value, qualifier, status):
    row = one_value(read, cell, mixed)
    assert (row["value"], row["qualifier"], row["status"], row["unit"]) == (pytest.approx(value), qualifier, status, "nM")


@pytest.mark.parametrize(
    "cell",
    [
        "n.d.", "NaN", "inf", "-inf", "#DIV/0!", "abc", "12 nM", "1e999", "3-Mar", "1,234", "0x1F", "1_000", "12 34", "--",
        "5001", "-1", "٣", "=1+1",
    ],
)  # fmt: skip
def test_a_value_cell_that_is_no_measurement_is_a_fault(read, mixed, cell):
    with pytest.raises(IngestError) as caught:
        one_value(read, cell, mixed)
    assert [(fault.row, fault.column, fault.cell) for fault in caught.value.faults] == [(2, "value", cell)]


def test_a_bound_without_a_number_needs_the_assays_limit(read):
    error = refused(read, "plate,well,value\nP1,A1,<LOD\nP1,B12,OVRFLW\n")
    assert ["assays.pbm.low" in error.faults[0].rule, "assays.pbm.high" in error.faults[1].rule] == [True, True]


def test_an_empty_value_says_why_or_is_a_fault(read):
    header = "plate,well,value,status,note\n"
    file = read(header + "P1,A1,,failed_design,\nP1,B12,,,tip fell off\nP1,H12,MISSED,,\n")
    assert "1 row with a note in place of a value, taken as failed_technical" in file.dialect
    table = file.measurements
    assert table["status"].tolist() == ["failed_design", "failed_technical", "failed_technical"]
    assert table["value"].isna().all()
    assert table["note"].tolist()[1:] == ["tip fell off", "MISSED"]
    assert faults(read, header + "P1,A1,,,\nP1,B12,1,,\nP1,H12,,ok,\n") == [(4, "value", "")]


def test_what_stands_for_nothing_is_read_where_the_status_explains_it(read, mixed):
    header, rest = f"{MIXED_HEADER},status,note", "7,3,coli,0.5,0.5,"
    lines = (f"{rest}n.d.,failed_technical,", f"{rest}n.d.,censored_low,", f"{rest}#DIV/0!,Excluded,pipetted twice")
    table = read("\n".join([header, *lines]) + "\n", mixed).measurements
    assert table["status"].tolist() == ["failed_technical", "censored_low", "excluded"]
    assert table["qualifier"].tolist() == ["=", "<", "="]
    assert np.array_equal(table["value"], [np.nan, 0, np.nan], equal_nan=True)


def test_a_censored_status_makes_a_bound_of_a_plain_value(read):
    table = read("plate,well,value,status\nP1,A1,3,censored_low\nP1,B12,4,censored-high\n").measurements
    assert table["qualifier"].tolist() == ["<", ">"]
    assert faults(read, "plate,well,value,status\nP1,A1,>3,censored_low\n") == [(2, "status", "censored_low")]


def test_an_unknown_status_lists_the_known_ones(read):
    error = refused(read, "plate,well,value,status\nP1,A1,3,failed\n")
    assert all(status in error.faults[0].rule for status in STATUSES)


def test_a_failed_well_may_keep_a_reading_beyond_the_limits(read, mixed):
    row = one_value(read, "9999", mixed, header=f"{MIXED_HEADER},status", more=",failed_technical")
    assert (row["value"], row["status"]) == (9999, "failed_technical")


def test_a_file_that_nobody_filled_in_is_recognised(read):
    assert "empty template: fill in column 'value'" in str(refused(read, TEMPLATE + "P1,A01,,nM,,,\nP1,B12,,nM,,,\n"))


def test_values_that_a_log_transform_cannot_take_are_faults(read):
    config = parse_config({**MIXED, "objective": {"assay": "rate", "transform": "log"}, "assays": {"rate": {}}}, CampaignConfig)
    rest = "7,3,coli,0.5,0.5"
    assert faults(read, f"{MIXED_HEADER}\n{rest},0\n{rest},1\n{rest},-3\n", config) == [(2, "value", "0"), (4, "value", "-3")]


def test_dates_are_iso_8601_or_a_fault(read):
    header = "plate,well,value,measured_at\n"
    table = read(header + "P1,A1,1,2026-03-31 14:05\nP1,B12,1,\n").measurements
    assert table["measured_at"].iloc[0] == "2026-03-31T14:05:00"
    assert pd.isna(table["measured_at"].iloc[1])
    for cell in ("31/03/2026", "3026-03-31", "0206-03-31T14:05"):
        assert faults(read, header + f"P1,A1,1,{cell}\n") == [(2, "measured_at", cell)]


# ---- units


def test_units_are_turned_into_the_objectives(read, mixed):
    rest = "7,3,coli,0.5,0.5"
    table = read(f"{MIXED_HEADER},unit\n{rest},2,uM\n{rest},3,nM\n{rest},4,\n{rest},<LOD,uM\n", mixed).measurements
    assert table["value"].tolist() == [2000, 3, 4, 0]
    assert set(table["unit"]) == {"nM"}


def test_a_unit_that_the_assay_lacks_is_a_fault_that_names_the_setting(read, mixed):
    error = refused(read, f"{MIXED_HEADER},Unit\n7,3,coli,0.5,0.5,2,mM\n", mixed)
    assert [(fault.row, fault.column, fault.cell) for fault in error.faults] == [(2, "Unit", "mM")]
    assert "assays.rate.units" in error.faults[0].rule


def test_without_factors_every_row_must_have_the_first_rows_unit(read):
    assert set(read("plate,well,value,unit\nP1,A1,1,µM\nP1,B12,1,μM\n").measurements["unit"]) == {"μM"}
    assert faults(read, "plate,well,value,unit\nP1,A1,1,nM\nP1,B12,1,uM\nP1,H12,1,\n") == [(3, "unit", "uM"), (4, "unit", "")]


def test_a_percent_sign_that_is_no_unit_of_the_assay_is_a_fault(read):
    config = parse_config({**MIXED, "assays": {"rate": {}}}, CampaignConfig)
    assert faults(read, f"{MIXED_HEADER}\n7,3,coli,0.5,0.5,12%\n", config) == [(2, "value", "12%")]


# ---- dialects


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_every_common_dialect_gives_the_same_rows(read, delimiter, encoding, newline):
    lines = ["plate,well,value,unit,note", "P1,A1,0.5,µM,frozen µ", "P1,B12,0.25,µM,"]
    table = read((newline.join(lines).replace(",", delimiter) + newline).encode(encoding)).measurements
    assert table["value"].tolist() == [0.5, 0.25]
    assert table["note"].iloc[0] == "frozen µ"
    assert set(table["unit"]) == {"μM"}


@pytest.mark.parametrize("delimiter", [";", "\t"], ids=["semicolon", "tab"])
def test_a_decimal_comma_is_recognised_in_values_and_designs(read, mixed, delimiter):
    rows = [MIXED_HEADER.split(","), ["7,5", "3", "coli", "0,5", "0,5", "1.234,5"], ["4", "3", "coli", "0,5", "0,5", "1,234"]]
    file = read("\n".join(delimiter.join(row) for row in rows) + "\n", mixed)
    assert file.measurements["value"].tolist() == [1234.5, 1.234]
    assert file.designs["ph"].tolist() == [7.5, 4.0]
    assert "decimal comma" in file.dialect


def test_a_decimal_comma_in_quotes_is_read_between_commas_too(read):
    assert read('plate,well,value\nP1,A1,"0,5"\nP1,B12,"1,234"\n').measurements["value"].tolist() == [0.5, 1.234]


@pytest.mark.parametrize("cell", ["1,234", "1.234", "12.345", "-1,234"])
def test_a_number_that_could_be_a_thousand_is_not_guessed(read, cell):
    assert faults(read, f"plate;well;value\nP1;A1;{cell}\nP1;B12;17\n") == [(2, "value", cell)]


@pytest.mark.parametrize(("cell", "value"), [("0,123", 0.123), ("12,3456", 12.3456), ("1,5E3", 1500), ("1.234.567", 1234567)])
def test_a_number_that_can_be_read_only_one_way_decides(read, cell, value):
    assert read(f"plate;well;value\nP1;A1;{cell}\n").measurements["value"].tolist() == [value]


def test_a_grouping_that_the_file_shows_is_followed(read):
    table = read("plate;well;value\nP1;A1;1.234,5\nP1;B12;1.234\n").measurements
    assert table["value"].tolist() == [1234.5, 1234]


def test_the_odd_decimal_mark_out_is_a_fault(read):
    assert faults(read, "plate;well;value\nP1;A1;0,5\nP1;B12;0,25\nP1;H12;0.75\n") == [(4, "value", "0.75")]


def test_excels_separator_line_is_obeyed_and_counted(read):
    assert read("sep=;\nplate;well;value\nP1;A1;1\n").measurements["row"].tolist() == [3]


def test_an_ambiguous_separator_is_refused_with_the_choices(read):
    assert "comma or semicolon" in str(refused(read, "a;b,c\n1;2,3\n"))


def test_blank_lines_and_trailing_blank_columns_are_passed_over_and_lines_still_counted(read):
    table = read("\n,,,,\nplate,well,value,,\n\nP1,A1,1,,\n,,,,\n  \nP1,B12,2,,,,\n\n").measurements
    assert table["row"].tolist() == [5, 8]
    assert table["value"].tolist() == [1, 2]


def test_rows_count_as_an_editor_does_even_after_a_cell_of_two_lines(read):
    assert faults(read, 'plate,well,value,note\nP1,A1,1,"one\ntwo"\nP1,B12,x,\n') == [(4, "value", "x")]


def test_quoting_a_cell_changes_nothing(read):
    plain = TEMPLATE + "P1,A1,0.5,nM,,2026-03-01,fine\n\nP1,B12,0.25,nM,,,\nP1,H12,<3,nM,,,\n"
    pd.testing.assert_frame_equal(read(plain).measurements, read(plain.replace("fine", '"fine"')).measurements)


def test_an_unnamed_column_is_ignored_and_said_so(read):
    file = read(",plate,well,value\n0,P1,A1,1\n1,P1,B12,2\n")
    assert len(file.measurements) == 2
    assert "ignored column 1, which has no name" in file.dialect


def test_separators_that_excel_leaves_out_after_blank_cells_are_blank_cells(read):
    file = read("plate,well,value,unit,note\nP1,A1,1,,x\nP1,B12,2\nP1,H12,3\n")
    assert file.measurements["value"].tolist() == [1, 2, 3]
    assert "2 rows end before the last column" in file.dialect


def test_the_apostrophe_that_guards_a_formula_is_taken_off(read, tfbind8_config):
    wells, designs = laid_out(tfbind8_config)
    text = "plate,well,value\n'-P1,A1,-2\n"
    table = read(text, wells=wells.assign(plate="-P1"), designs=designs).measurements
    assert (table["plate"].iloc[0], table["value"].iloc[0]) == ("-P1", -2)


# ---- whole files


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n  \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b",,\n;", "empty"),
        (b"sep=;\n;;\n", "names none"),
        (b"plate,well,value\n", "no rows"),
        (b"plate,well,value\n,,\n", "no rows"),
        (b"PK\x03\x04\x14\x00", "Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook"),
        (b"%PDF-1.7\n", "PDF"),
        (b'{"a": 1}', "is JSON, which labloop does not read: export CSV or Excel"),
        (b'[\n  {"well": "A1", "value": 1},\n', "is JSON"),
        (b'<?xml version="1.0"?>\n<plate/>\n', "is XML"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (bytes(range(256)), "save it as CSV"),
        (b"plate,well,value\nP1,A1,\x00\x00\n", "save it as CSV"),
        (b"plate,well,value\nP1,A1,1\nP1,B", "cut short"),
        (b'plate,well,value\nP1,A1,"1\nP1,B12,2\n', "never closed"),
        (b'plate,well,value\nP1,"A1"x,1\n', "no proper CSV"),
        (b"plate,well,value,value\nP1,A1,1,2\n", "value stands twice"),
        (b"plate,well,Value,VALUE\nP1,A1,1,2\n", "could both be 'value'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_whole_is_refused(read, content, said):
    assert said in str(refused(read, content))


def test_a_row_with_more_fields_than_the_header_is_a_fault(read):
    error = refused(read, "plate,well,value,note\nP1,A1,1,fine, really\nP1,B12,1,\n")
    assert [(fault.row, fault.cell) for fault in error.faults] == [(2, "really")]


def test_a_missing_file_or_a_folder_is_an_error_with_its_path(tmp_path, tfbind8_config):
    wells, designs = laid_out(tfbind8_config)
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(IngestError, match=path.name):
            read_assay(path, tfbind8_config, wells=wells, designs=designs)
        with pytest.raises(IngestError, match=path.name):
            sha256_of(path)


def test_all_faults_come_at_once_in_the_order_of_the_file(read):
    text = TEMPLATE + "P1,A1,x,,,,\nP1,A1,1,,broken,,\nP7,A1,2,,,yesterday,\n"
    assert faults(read, text) == [
        (2, "value", "x"), (3, "status", "broken"), (3, "well", "A1"), (4, "plate", "P7"), (4, "measured_at", "yesterday"),
    ]  # fmt: skip


def test_the_file_is_known_by_its_bytes(read):
    content = b"plate,well,value\nP1,A1,1\n"
    file = read(content)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.name == "assay.csv"
    assert "UTF-8, comma-separated, decimal point" in file.dialect


@pytest.mark.parametrize("name", ["tfbind8", "mixed"])
def test_what_was_read_goes_into_a_new_ledger_and_is_known_from_then_on(read, tmp_path, tfbind8_config, mixed, name):
    config = {"tfbind8": tfbind8_config, "mixed": mixed}[name]
    text = {
        "tfbind8": "dna,value,status\nACGTACGA,0.4,\nTTTTTTTT,>0.5,\nTTTTTTTT,,failed_technical\n",
        "mixed": f"{MIXED_HEADER},status\n8.5,3,coli,0.5,0.5,1,\n7.5,3,coli,0.5,0.5,>2,\n7.5,3,coli,0.5,0.5,,failed_design\n",
    }[name]
    ledger = Ledger.open(tmp_path / "ledger.db")
    ledger.add_campaign(config.name, config.model_dump_json())
    known = {"wells": ledger.wells(config.name), "designs": ledger.designs(config.name)}
    file = read(text, config, **known)
    assert len(file.new) == 2
    assert ledger.add_file(
        config.name,
        sha256=file.sha256,
        name=file.name,
        designs=file.designs,
        measurements=file.measurements.drop(columns="control"),
    )
    stored = ledger.measurements(config.name)
    for column in ("design_id", "qualifier", "status", "row"):
        assert stored[column].tolist() == file.measurements[column].tolist()
    again = read(text, config, wells=ledger.wells(config.name), designs=ledger.designs(config.name))
    assert again.new == ()
    assert again.designs["in_space"].tolist() == file.designs["in_space"].tolist() == [name == "tfbind8", True]


# ---- whatever comes


GOOD = (
    TEMPLATE + 'P1,A1,0.5,nM,,2026-03-01,"a, b"\nP1,B12,<0.25,nM,,,\nP1,H12,,,failed_technical,,\n',
    "dna;value\nACGTACGA;0,5\nTTTTTTTT;1.234,5\n",
)
WORDS = [
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    '"',
    "'",
    "<",
    ">",
    "%",
    "NaN",
    "-",
    "1e400",
    "1,5",
    "\ufeff",
    "µ",
    "\x00",
    "=",
    "P1",
    "A1",
    "٣",
    "²",
]


def only_ingest_errors(tmp_path_factory, config, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "file.csv"
    path.write_bytes(content)
    wells, designs = laid_out(config)
    try:
        file = read_assay(path, config, wells=wells, designs=designs)
    except IngestError:
        return
    table = file.measurements
    taught = table["status"].isin(["ok", "censored_low", "censored_high"])
    assert len(table)
    assert np.isfinite(table["value"][taught]).all()
    assert (table["design_id"].notna() ^ table["control"].notna()).all()
    assert set(table["design_id"].dropna()) == set(file.designs["design_id"])


fuzz = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(content=st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(tmp_path_factory, tfbind8_config, content):
    only_ingest_errors(tmp_path_factory, tfbind8_config, content)


@fuzz
@given(
    text=st.sampled_from(GOOD),
    edits=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 8), st.sampled_from(WORDS) | st.text(max_size=3)), max_size=3),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
    cut=st.just(0) | st.integers(0, 60),
)
def test_mutated_and_cut_files_are_read_or_refused(tmp_path_factory, tfbind8_config, text, edits, encoding, cut):
    for place, length, word in edits:
        text = text[:place] + word + text[place + length :]
    content = text.encode(encoding, errors="replace")
    only_ingest_errors(tmp_path_factory, tfbind8_config, content[: len(content) - cut])


CELL = st.sampled_from(
    ["", "7", "7.5", "0.5", "0.50", "1", "coli", "x", "nan", ">3", "1e400", "1,2", "P1", "A1", "n.d.", "%"]
) | st.text(max_size=4)


@fuzz
@given(
    rows=st.lists(st.dictionaries(st.integers(0, 9), CELL, max_size=2), max_size=4),
    extra=st.sampled_from([[], ["plate", "well"], ["status", "unit", "note"]]),
)
def test_odd_cells_in_a_table_of_a_mixed_space_are_read_or_refused(tmp_path_factory, mixed, rows, extra):
    lines = [[*MIXED_HEADER.split(","), *extra]]
    for odd in rows:
        row = ["7.5", "3", "coli", "0.5", "0.5", "12", *[""] * len(extra)]
        lines.append([odd.get(i, cell) for i, cell in enumerate(row)])
    only_ingest_errors(tmp_path_factory, mixed, "\n".join(map(",".join, lines)).encode(errors="replace"))


# ---- what a form, a round, a name and a pipe can be


def test_blank_rows_of_a_form_go_on_waiting(read):
    file = read(TEMPLATE + "P1,A1,0.5,,,,\nP1,B12,,nM,,,\nP1,H12,,,,,\n")
    assert file.measurements["well"].tolist() == ["A01"]
    assert "2 blank rows not measured yet, which go on waiting: B12 of P1, H12 of P1" in file.dialect


@pytest.mark.parametrize("said", ["status", "measured_at", "note"])
def test_a_row_of_a_form_in_which_anything_is_said_is_no_blank_one(read, said):
    cell = {"status": "ok", "measured_at": "2026-03-01", "note": "lost"}[said]
    text = f"plate,well,value,{said}\nP1,A1,0.5,\nP1,B12,,{cell}\n"
    if said == "note":
        assert read(text).measurements["status"].tolist() == ["ok", "failed_technical"]
    else:
        assert faults(read, text) == [(3, "value", "")]


def test_a_blank_row_of_a_table_that_is_no_form_is_a_value_lost(read):
    assert faults(read, "dna,value\nACGTACGA,0.5\nTTTTTTTT,\n") == [(3, "value", "")]
    assert faults(read, "dna,plate,well,value\nACGTACGA,MINE,A1,0.5\nTTTTTTTT,MINE,A2,\n") == [(3, "value", "")]


@pytest.mark.parametrize("cell", ["1.5", "1e18", "1e300", "-5", "99", "inf", "x"])
def test_a_round_that_the_campaign_cannot_have_is_a_fault_in_its_row(read, cell):
    error = refused(read, f"dna,value,round\nACGTACGA,0.4,1\nTTTTTTTT,0.1,{cell}\n")
    assert [(fault.row, fault.column, fault.cell) for fault in error.faults] == [(3, "round", cell)]


def test_rounds_are_those_planned_and_those_laid_out_and_none(read, tfbind8_config):
    wells, designs = laid_out(tfbind8_config)
    last = tfbind8_config.rounds + 3
    text = f"dna,value,round\nACGTACGA,0.4,0\nTTTTTTTT,0.1,{tfbind8_config.rounds}\nTTTTTTTT,0.2,\nTTTTTTTT,0.3,{last}\n"
    assert faults(read, text) == [(5, "round", str(last))]
    rounds = read(text, wells=wells.assign(round=[1, 1, last]), designs=designs).measurements["round"]
    assert rounds.tolist()[:2] == [0, tfbind8_config.rounds]
    assert rounds.tolist()[3] == last


def test_equal_faults_are_one_line_with_their_rows(read):
    rows = "".join(f"{'ACGTACGA' if i % 2 else 'TTTTTTTT'},{'x' if i in (2, 3, 4, 9) else 0.5}\n" for i in range(1, 12))
    error = refused(read, "dna,value\n" + rows + "TTTTTTTT,\n")
    assert len(error.faults) == 5
    assert "rows 3-5, 10, value: is not a number (got 'x')" in str(error)
    assert "row 13, value: there is no value" in str(error)
    assert len(str(error).splitlines()) == 3


def test_a_group_of_faults_shows_its_first_rows_and_cells():
    faults = [Fault(2 * i, f"well A{i:02d}, value", "is odd", f"c{i}") for i in range(1, 31)]
    (group,) = grouped(faults)
    assert group.rows == ", ".join(str(2 * i) for i in range(1, 13)) + ", … (30 rows)"
    assert group.column == "well A01, well A02, well A03, well A04, …, value"
    assert group.cells == "'c1', 'c2', 'c3', 'c4', …"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_whoever_writes_to_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(IngestError, match=r"pipe\.csv: is a pipe"):
        sha256_of(tmp_path / "pipe.csv")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_name_that_is_no_utf_8_is_stored_as_any_program_can_print_it(tmp_path, tfbind8_config):
    path = tmp_path / os.fsdecode(b"m\xfcller.csv")
    wells, designs = laid_out(tfbind8_config)
    path.write_text("plate,well,value\nP1,A1,0.5\n")
    assert read_assay(path, tfbind8_config, wells=wells, designs=designs).name == "m\ufffdller.csv"
    path.write_text("plate,well,value\nP1,A1,x\n")
    with pytest.raises(IngestError, match="m\ufffdller"):
        read_assay(path, tfbind8_config, wells=wells, designs=designs)
    with pytest.raises(IngestError, match="m\ufffdssing"):
        sha256_of(tmp_path / os.fsdecode(b"m\xfcssing.csv"))


def test_a_text_of_endless_cells_is_refused(read, monkeypatch):
    monkeypatch.setattr("labloop.assays.ingest.text.CELLS", 1000)
    with pytest.raises(IngestError, match="more than 1,000 cells"):
        read("dna,value\n" + "," * 1000 + "\n")
