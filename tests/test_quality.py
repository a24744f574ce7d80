"""Quality control finds what was planted, leaves clean plates alone at the stated rate, and says so where it cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from labloop.assays.quality import plates
from labloop.assays.quality.layout import mistaken, turned
from labloop.assays.quality.normalise import normalise
from labloop.assays.quality.plates import find_flags, plate_quality, plates_of, replicates
from labloop.assays.quality.statistics import (
    cv,
    drift,
    edge_effect,
    icc,
    median_polish,
    outliers,
    pooled_sd,
    signal_window,
    z_prime,
)
from labloop.assays.quality.survey import survey
from labloop.config.policies import POLICIES, TRANSFER
from labloop.config.read import parse_config
from labloop.errors import ConfigError, QualityError
from labloop.plates.layout import lay_out
from labloop.plates.vessel import Plate

SHAPE = (8, 12)
LEVELS = {"full": 10.0, "none": 1.0}
ROLES = {"full": "positive", "none": "negative"}
LEVEL_ROLES = ("positive", "negative")
CONTROLS = [{"name": name, "wells": 4, "role": role} for name, role in ROLES.items()]
PLATE = parse_config({"wells": 96, "controls": CONTROLS}, Plate)


def rng_of(seed):
    return np.random.default_rng(seed)


def laid_out(seed=0, plates=1, number=1):
    """Plates as labloop lays them out: 88 designs and 8 controls on each."""
    names = [f"R{number}-P{i + 1}" for i in range(plates)]
    picks = pd.DataFrame({"arm": "a", "design_id": [f"{number}-{i:04d}" for i in range(88 * plates)]})
    return lay_out(PLATE, picks, plates=plates, names=names, seed=seed).assign(round=float(number))


def measured(wells, seed=0, *, noise=0.2):
    """A clean measurement: designs spread widely, controls at their levels, nothing depends on the place."""
    rng = rng_of(seed)
    design = rng.normal(4.0, 2.0, len(wells))
    value = wells["control"].map(LEVELS).to_numpy(float, na_value=np.nan) + rng.normal(0, noise, len(wells))
    value = np.where(np.isnan(value), design, value)
    return wells.assign(
        id=np.arange(1, len(wells) + 1), assay="assay", value=value, scaled=value, role=wells["control"].map(ROLES), status="ok",
        measured_at=np.nan, note=np.nan, file="a.csv", n_rows=SHAPE[0], n_columns=SHAPE[1],
    )  # fmt: skip


def with_values(rows, value):
    return rows.assign(value=value, scaled=value)


def rules(rows, wells):
    return {rule for _, rule, _ in find_flags(rows, wells)}


# ---- figures


def test_z_prime_is_one_less_three_spreads_over_the_gap():
    positive, negative = np.array([9.0, 10.0, 11.0]), np.array([0.0, 1.0, 2.0])
    assert z_prime(positive, negative).value == pytest.approx(1 - 3 * (1 + 1) / 9)
    assert z_prime(negative, positive).value == pytest.approx(1 - 3 * (1 + 1) / 9)  # an inhibitor's controls stand the other way
    assert signal_window(positive, negative).value == pytest.approx((9 - 6) / 1)
    assert z_prime(positive, negative, robust=True).value == pytest.approx(1 - 3 * 2 * 1.4826 / 9)
    assert cv(positive).value == pytest.approx(0.1)


def test_one_bad_control_well_spoils_z_prime_and_not_the_robust_one():
    positive, negative = np.array([10.0, 10.1, 9.9, 10.05, 9.95]), np.array([1.0, 1.1, 0.9, 1.05, 9.0])
    assert z_prime(positive, negative).value < 0
    assert z_prime(positive, negative, robust=True).value > 0.9


@pytest.mark.parametrize(
    ("positive", "negative", "why"),
    [
        ([1.0], [0.0, 0.1], "positive control has 1"),
        ([1.0, 1.1], [], "negative control has 0"),
        ([1.0, 1.0], [1.0, 1.0], "the same"),
    ],
    ids=["one well", "no well", "no gap"],
)
def test_a_statistic_that_cannot_be_told_has_a_reason_and_no_number(positive, negative, why):
    found = z_prime(np.array(positive), np.array(negative))
    assert found.value is None
    assert why in found.why
    assert signal_window(np.array(positive), np.array(negative)).value is None


def test_the_median_polish_takes_a_plate_apart_into_what_it_was_made_of():
    rows, columns = np.linspace(-1, 1, 8), np.linspace(2, -2, 12)
    grid = 5 + rows[:, None] + columns
    grid[3, 4] += 100  # one extreme design
    grid[0, 0] = np.nan
    found = median_polish(grid)
    assert np.allclose(found.rows - found.rows.mean(), rows - rows.mean(), atol=1e-9)
    assert np.allclose(found.columns - found.columns.mean(), columns - columns.mean(), atol=1e-9)
    assert found.residual[3, 4] == pytest.approx(100)
    assert math.isnan(found.residual[0, 0])
    rebuilt = found.overall + found.rows[:, None] + found.columns + found.residual
    assert np.allclose(rebuilt[np.isfinite(grid)], grid[np.isfinite(grid)])


def test_icc_is_the_share_of_the_variance_between_designs():
    rng = rng_of(0)
    groups = np.repeat(np.arange(2000), 3)
    values = np.repeat(rng.normal(0, 2, 2000), 3) + rng.normal(0, 1, 6000)
    assert icc(values, groups).value == pytest.approx(4 / 5, abs=0.02)
    assert pooled_sd(values, groups).value == pytest.approx(1, abs=0.03)
    assert icc(values[:3], groups[:3]).value is None
    assert pooled_sd(values[::3], groups[::3]).value is None


# ---- planted effects, and clean plates


def test_a_planted_edge_effect_is_found_and_only_outer_wells_are_flagged():
    found = 0
    for seed in range(20):
        wells = laid_out(seed)
        rows = measured(wells, seed)
        outer = rows["row"].isin([1, 8]) | rows["column"].isin([1, 12])
        rows = with_values(rows, rows["value"] + 3.0 * outer)
        flags = [(one, rule) for one, rule, _ in find_flags(rows, wells) if rule == "edge"]
        found += bool(flags)
        assert {one for one, _ in flags} <= set(rows.loc[outer, "id"])
    assert found >= 19


@pytest.mark.parametrize("by", ["wells", "times"])
def test_a_planted_drift_is_found_over_the_order_of_reading(by):
    found = 0
    for seed in range(20):
        wells = laid_out(seed)
        rows = measured(wells, seed)
        order = (rows["row"] * 100 + rows["column"]).rank().to_numpy()
        if by == "times":
            order = rng_of(seed + 100).permutation(len(rows)).astype(float)
            at = pd.Timestamp("2026-03-01") + pd.to_timedelta(order, unit="s")
            rows = rows.assign(measured_at=[one.isoformat() for one in at])
        rows = with_values(rows, rows["value"] + 5.0 * order / len(rows))
        figures = plate_quality("assay", "R1-P1", rows)
        assert figures.order.startswith("measured_at" if by == "times" else "wells")
        found += "drift" in rules(rows, wells)
    assert found >= 18


def test_clean_plates_are_flagged_no_more_often_than_stated():
    """Each rule may flag one clean plate in a hundred; more than 6 of 150 would happen once in a thousand times."""
    counts = dict.fromkeys(POLICIES, 0)
    for seed in range(150):
        wells = laid_out(seed)
        for rule in rules(measured(wells, seed), wells):
            counts[rule] += 1
    assert max(counts.values()) <= 6, counts


def test_clean_replicates_are_called_outliers_no_more_often_than_stated():
    any_flag = 0
    for seed in range(400):
        rng = rng_of(seed)
        groups = np.repeat(np.arange(20), 3)
        values = np.repeat(rng.normal(0, 5, 20), 3) + rng.normal(0, 1, 60)
        any_flag += outliers(values, groups)[0].any()
    assert any_flag <= 11  # 4 expected at most


def test_a_replicate_that_disagrees_is_found_and_its_neighbours_are_not():
    rng = rng_of(1)
    groups = np.repeat(np.arange(30), 3)
    values = np.repeat(rng.normal(0, 5, 30), 3) + rng.normal(0, 0.5, 90)
    values[7] += 10
    found, off = outliers(values, groups)
    assert np.flatnonzero(found).tolist() == [7]
    assert off[7] > 8


def test_an_extreme_design_is_never_an_outlier_on_its_value_alone():
    wells = laid_out(0)
    rows = measured(wells, 0)
    best = rows.index[rows["design_id"].notna()][0]
    value = rows["value"].to_numpy(copy=True)
    value[best] = 1e6
    assert "outlier" not in rules(with_values(rows, value), wells)
    twice = pd.concat([rows, rows.assign(id=rows["id"] + 1000, plate="own", row=np.nan, well=np.nan)])
    assert not [one for one, rule, _ in find_flags(twice, wells) if rule == "outlier" and one == rows["id"][best]]


def test_too_few_wells_have_no_edge_and_no_drift():
    values = np.arange(5.0)
    assert edge_effect(values, np.array([True, True, False, False, False])).why
    assert drift(values, values, rng_of(0)).why
    assert drift(np.ones(50), np.arange(50.0), rng_of(0)).p is None


def test_controls_that_overlap_flag_their_plate():
    wells = laid_out(0)
    rows = measured(wells, 0, noise=6.0)
    assert "z_prime" in rules(rows, wells)


# ---- swapped and turned plates


def swapped(rows, a, b):
    """Give two plates' files each other's name: the values of a are read as those of b."""
    first, second = (rows[rows["plate"] == name].set_index("well")["value"] for name in (a, b))
    value = rows["value"].to_numpy(copy=True)
    mine, other = ((rows["plate"] == name).to_numpy() for name in (a, b))
    value[mine] = second.reindex(rows.loc[mine, "well"]).to_numpy()
    value[other] = first.reindex(rows.loc[other, "well"]).to_numpy()
    return with_values(rows, value)


def test_swapped_plates_are_found_by_their_controls_and_the_others_are_left_alone():
    found = 0
    for seed in range(20):
        wells = laid_out(seed, plates=3)
        rows = swapped(measured(wells, seed), "R1-P1", "R1-P3")
        flags = [(one, rule, detail) for one, rule, detail in find_flags(rows, wells) if rule in ("swapped", "turned")]
        plates = {rows.set_index("id")["plate"][one]: detail["reads_like"] for one, _, detail in flags}
        found += plates == {"R1-P1": "R1-P3", "R1-P3": "R1-P1"}
        assert "R1-P2" not in plates
    assert found >= 17


def test_plates_that_were_not_swapped_or_turned_are_not_called_so():
    for seed in range(40):
        wells = laid_out(seed, plates=2)
        assert not rules(measured(wells, seed), wells) & {"swapped", "turned"}


def test_controls_that_read_like_designs_accuse_no_plate():
    """Where the controls tell nothing, no plate is blamed more often than one in a hundred."""
    blamed = 0
    for seed in range(40):
        wells = laid_out(seed, plates=2)
        value = rng_of(seed).normal(0, 1, len(wells))
        blamed += bool(rules(with_values(measured(wells, seed), value), wells) & {"swapped", "turned"})
    assert blamed <= 4  # 80 plates: 0.8 expected at most


def test_a_plate_read_upside_down_is_found():
    found = 0
    for seed in range(20):
        wells = laid_out(seed)
        rows = measured(wells, seed)
        at = rows.set_index(["row", "column"])["value"]
        upside = at.reindex(list(zip(9 - rows["row"], 13 - rows["column"], strict=True))).to_numpy()
        found += "turned" in rules(with_values(rows, upside), wells)
    assert found >= 19


def test_known_levels_from_other_rounds_tell_a_swap_even_with_two_control_wells():
    layouts = {"a": {"c": [(1, 1), (5, 5)]}, "b": {"c": [(2, 2), (6, 6)]}}
    rng = rng_of(0)
    values = {(r, c): float(rng.normal(0, 1)) for r in range(1, 9) for c in range(1, 13)}
    values[(2, 2)], values[(6, 6)] = 7.0, 7.05
    found = mistaken(values, layouts, "a", {"c": 7.0}, rng)
    assert found.name == "b"
    assert found.p <= 0.01 < found.own_p
    assert mistaken(values, layouts, "b", {"c": 7.0}, rng) is None
    assert turned({"c": [(1, 1)]}, SHAPE) == {"c": [(8, 12)]}


def test_a_plate_of_which_only_a_part_is_in_is_not_judged_by_wells_that_are_missing():
    layouts = {"a": {"c": [(1, 1), (5, 5)]}, "b": {"c": [(1, 3), (2, 3)]}}
    values = {(r, 3): 1.0 for r in range(1, 9)}
    assert mistaken(values, layouts, "a", {}, rng_of(0)) is None


# ---- rules about single wells


def reading(**cells):
    return {
        "id": 1, "assay": "assay", "plate": "P1", "well": "A01", "row": 1.0, "column": 1.0, "round": 1.0, "design_id": "d",
        "control": None, "role": None, "value": 1.0, "scaled": 1.0, "status": "ok", "measured_at": None, "note": None,
        "n_rows": SHAPE[0], "n_columns": SHAPE[1], **cells,
    }  # fmt: skip


FAILED = {"value": np.nan, "scaled": np.nan, "status": "failed_technical", "note": TRANSFER + "MM0202007: no fluid"}
NOTHING_LAID = pd.DataFrame(columns=["round", "plate", "row", "column", "control"])


@pytest.mark.parametrize("failed_first", [True, False], ids=["report first", "value first"])
def test_a_value_of_a_well_that_was_never_filled_is_doubtful_whichever_came_first(failed_first):
    ids = (1, 2) if failed_first else (2, 1)
    rows = pd.DataFrame(sorted([reading(id=ids[0], **FAILED), reading(id=ids[1])], key=lambda row: row["id"]))
    assert [(one, rule) for one, rule, _ in find_flags(rows, NOTHING_LAID)] == [(ids[1], "transfer_failed")]


def test_a_well_that_the_reader_skipped_and_then_read_is_good():
    rows = pd.DataFrame([reading(id=1, **{**FAILED, "note": "MISSED"}), reading(id=2)])
    assert find_flags(rows, NOTHING_LAID) == []


def test_of_a_well_that_was_read_again_the_latest_reading_counts():
    rows = pd.DataFrame([reading(id=1), reading(id=2), reading(id=3), reading(id=4, assay="other")])
    assert [(one, rule) for one, rule, _ in find_flags(rows, NOTHING_LAID)] == [(1, "reread"), (2, "reread")]


def test_an_exclusion_takes_earlier_values_of_the_well_and_not_later_ones():
    gone = {"value": np.nan, "scaled": np.nan, "status": "excluded", "note": "bubble"}
    rows = pd.DataFrame([reading(id=1), reading(id=2, **gone), reading(id=3)])
    assert {(one, rule) for one, rule, _ in find_flags(rows, NOTHING_LAID)} == {(1, "excluded"), (1, "reread")}


# ---- normalisation


def plates_with_replicates(seed=0, *, factor=(1.0, 1.6, 0.7), noise=0.1, control_noise=0.02):
    """Three plates of the same 40 designs, each read on its own scale, with controls on that scale."""
    rng = rng_of(seed)
    truth = rng.uniform(5, 15, 40)
    rows = []
    for i, f in enumerate(factor):
        held = [("full", 10.0)] * 4 + [("none", 1.0)] * 4
        for j, (what, level) in enumerate([*((f"d{k}", v) for k, v in enumerate(truth)), *held]):
            spread = noise if what.startswith("d") else control_noise
            rows.append({
                "plate": f"P{i}", "row": float(j // 12 + 1), "column": float(j % 12 + 1),
                "design_id": what if what.startswith("d") else None, "control": None if what.startswith("d") else what,
                "role": ROLES.get(what), "status": "ok", "value": f * level * float(np.exp(rng.normal(0, spread))),
                "file": "a.csv",
            })  # fmt: skip
    return pd.DataFrame(rows)


def run(rows, method, **options):
    return normalise(rows, method, **{"log": False, "place": "assays.x", **options})


@pytest.mark.parametrize("method", ["percent_of_control", "z_score", "robust_z", "b_score"])
@pytest.mark.parametrize("log", [False, True], ids=["identity", "log"])
def test_plates_on_different_scales_are_put_on_the_first_plates(method, log):
    rows = plates_with_replicates()
    if method == "percent_of_control" and log:
        rows["role"] = rows["role"].where(rows["role"] == "positive")  # divided by one control: no zero line, nothing negative
    found = run(rows, method, log=log)
    assert found.agreement.after.value > max(0.8, found.agreement.before.value + 0.05)
    first = (rows["plate"] == "P0").to_numpy()
    if method != "b_score":
        assert np.allclose(found.value[first], rows["value"][first])
    assert np.corrcoef(found.value, rows["value"])[0, 1] > 0.5  # more is still more, in the lab's unit
    assert 0.5 < np.median(found.value) / np.median(rows.loc[first, "value"]) < 1.5


def test_a_value_never_moves_when_later_plates_come_in():
    rows = plates_with_replicates()
    before = run(rows[rows["plate"] != "P2"], "percent_of_control").value
    assert np.array_equal(run(rows, "percent_of_control").value[: len(before)], before)


def test_percent_of_control_is_the_percentage_up_to_the_first_plates_scale():
    rows = plates_with_replicates(control_noise=0.0)
    rows["role"] = rows["role"].where(rows["role"] == "positive")
    value = run(rows, "percent_of_control").value
    percent = np.concatenate(
        [100 * part["value"] / part.loc[part["role"] == "positive", "value"].median() for _, part in rows.groupby("plate")]
    )
    assert np.allclose(value / percent, value[0] / percent[0])


def test_a_normalisation_that_lowers_the_agreement_of_replicates_is_refused_with_the_figures():
    rows = plates_with_replicates(factor=(1.0, 1.0, 1.0), noise=0.05, control_noise=0.6)  # as the real plates of ALDE's round 2
    with pytest.raises(
        QualityError, match=r"percent_of_control lowers .* ICC 0\.\d\d before, 0\.\d\d after \(40 designs.*normalise: none"
    ):
        run(rows, "percent_of_control")


def test_z_scores_would_undo_the_progress_of_a_campaign_and_are_refused():
    """A later plate of better designs: its controls, read the same, fall apart when plates are made alike."""
    rows = plates_with_replicates(factor=(1.0, 1.0))
    later = (rows["plate"] == "P1") & rows["design_id"].notna()
    rows.loc[later, "value"] += 20
    rows.loc[later, "design_id"] += "x"
    with pytest.raises(QualityError, match="lowers the agreement"):
        run(rows, "z_score")
    without = rows[rows["control"].isna()]
    with pytest.raises(QualityError, match="nothing that was read on two plates can tell"):
        run(without, "z_score")


def test_seed_data_without_plates_cannot_stand_beside_normalised_plates():
    rows = plates_with_replicates()
    seeds = rows[rows["design_id"].notna()].head(5).assign(plate=None, file="history.csv")
    with pytest.raises(QualityError, match=r"5 of 149 have none \(from history\.csv\).*column plate.*normalise: none"):
        run(pd.concat([seeds, rows], ignore_index=True), "percent_of_control")
    assert np.array_equal(run(seeds, "percent_of_control").value, seeds["value"])
    assert "no reading names a plate" in run(seeds, "percent_of_control").note


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.assign(role=None), "needs a control with a role"),
        (lambda rows: rows[~((rows["plate"] == "P1") & (rows["role"] == "positive"))], "P1 has 0"),
        (
            lambda rows: rows.assign(value=rows["value"].where((rows["plate"] != "P2") | rows["role"].isna(), 3.0)),
            "give no scale",
        ),
    ],
    ids=["no role", "plate without controls", "controls that read the same"],
)
def test_what_percent_of_control_lacks_is_named_with_the_plate(spoil, message):
    with pytest.raises(QualityError, match=message):
        run(spoil(plates_with_replicates()), "percent_of_control")


def test_none_changes_nothing():
    rows = plates_with_replicates()
    assert np.array_equal(run(rows, "none").value, rows["value"])


# ---- figures of plates and configuration


def test_a_plates_figures_come_from_its_controls_and_designs():
    wells = laid_out(0, plates=2)
    rows = measured(wells, 0)
    ((_, first), _) = list(plates_of(rows))
    found = plate_quality("assay", "R1-P1", first)
    assert found.z_prime.value > 0.7
    assert {(one.name, one.role, one.n) for one in found.controls} == {("full", "positive", 4), ("none", "negative", 4)}
    assert found.n_designs == 88
    assert replicates(rows).n_designs == 0
    assert "replicates" in replicates(rows).icc.why
    bare = plate_quality("assay", "R1-P1", first.assign(role=None))
    assert bare.z_prime.value is None
    assert "role" in bare.z_prime.why


def test_unknown_rules_policies_and_methods_are_refused_with_their_place():
    from labloop.config.assay import Assay

    for raw in ({"quality": {"outlir": "drop"}}, {"quality": {"outlier": "ignore"}}, {"normalise": "percent"}):
        with pytest.raises(ConfigError, match=next(iter(raw))):
            parse_config(raw, Assay)
    assert parse_config({"quality": {"edge": "downweight"}}, Assay).policies == {**POLICIES, "edge": "downweight"}


def test_plates_of_a_history_may_be_larger_than_the_campaigns():
    spots = [(row, column) for row in range(1, 17) for column in range(1, 25)]
    rows = pd.DataFrame(spots, columns=["row", "column"])
    rows = rows.assign(scaled=np.random.default_rng(0).normal(size=len(rows)) + 10 * (rows["row"] == 16))
    assert plates._effects(rows)[0].value > 5


def test_of_many_plates_the_latest_the_flagged_and_those_with_the_worst_controls_are_kept():
    def plate(i, spread):
        wells = [("positive", 10 + spread), ("positive", 10 - spread), ("negative", 1 + spread), ("negative", 1 - spread)]
        return [
            {"id": 10 * i + j, "assay": "a", "plate": f"P{i:02d}", "row": 1.0, "column": 1.0 + j, "value": value, "role": role}
            for j, (role, value) in enumerate(wells)
        ]

    rows = pd.DataFrame([row for i in range(20) for row in plate(i, 1.5 if i == 3 else 0.1)])
    flags = pd.DataFrame({"assay": ["a", "a"], "measurement": [70, 71]})
    kept, told = survey(rows, flags, 6)
    assert kept["plate"].unique().tolist() == ["P00", "P01", "P03", "P07", "P18", "P19"]
    found = told["a"]
    assert (found.n, found.shown, found.n_flagged, found.n_controlled, found.n_poor) == (20, 6, 1, 20, 1)
    everything = dict(iter(rows.groupby("plate")))
    z = [
        z_prime(*(one.loc[one["role"] == role, "value"].to_numpy() for role in LEVEL_ROLES)).value for one in everything.values()
    ]
    assert found.z_prime == pytest.approx((min(z), np.median(z), max(z)))
    assert "14 are left out" in found.said
    assert survey(rows, flags, 20)[1] == {}
