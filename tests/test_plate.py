"""Layouts: controls that rotate, arms that share the plate fairly, and a seed that decides alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labloop.errors import BatchError
from labloop.plates.layout import apportion, lay_out
from labloop.plates.vessel import Control, Plate
from labloop.plates.wells import parse_well, well_name

POSITIVE, NEGATIVE = Control(name="positive", wells=4), Control(name="negative", wells=4)


def picks(**arms: int) -> pd.DataFrame:
    rows = [(arm, f"{arm}-{i:03d}", i + 1) for arm, n in arms.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["arm", "design_id", "rank"])


def lay(plate: Plate, table: pd.DataFrame, *, plates: int = 1, seed: int = 0) -> pd.DataFrame:
    return lay_out(plate, table, plates=plates, names=[f"P{i + 1}" for i in range(plates)], seed=seed)


def arm_of(layout: pd.DataFrame) -> pd.Series:
    return layout["design_id"].str.split("-").str[0]


def control_map(layout: pd.DataFrame, plate: str) -> dict[str, str]:
    held = layout[(layout["plate"] == plate) & layout["control"].notna()]
    return dict(zip(held["well"], held["control"], strict=True))


@pytest.mark.parametrize(("wells", "shape"), [(96, (8, 12)), (384, (16, 24))])
def test_a_full_plate_uses_every_well_once(wells: int, shape: tuple[int, int]) -> None:
    plate = Plate(wells=wells, controls=(POSITIVE, NEGATIVE))
    layout = lay(plate, picks(offline=plate.capacity // 2, bo=plate.capacity - plate.capacity // 2))
    assert len(layout) == layout["well"].nunique() == wells
    assert (layout["row"].max(), layout["column"].max()) == shape
    assert layout["design_id"].nunique() == plate.capacity
    assert layout["control"].value_counts().to_dict() == {"positive": 4, "negative": 4}
    assert (layout["design_id"].isna() ^ layout["control"].isna()).all()
    assert [well_name(r, c) for r, c in zip(layout["row"], layout["column"], strict=True)] == layout["well"].tolist()


@pytest.mark.parametrize("wells", [96, 384])
def test_an_empty_edge_leaves_the_outer_ring_unused(wells: int) -> None:
    plate = Plate(wells=wells, edge="empty", controls=(POSITIVE,))
    layout = lay(plate, picks(offline=plate.capacity))
    rows, columns = plate.shape
    assert len(layout) == (rows - 2) * (columns - 2)
    assert layout["row"].between(2, rows - 1).all()
    assert layout["column"].between(2, columns - 1).all()


def test_controls_keep_off_the_edge_while_the_inside_has_room() -> None:
    for n in (1, 8, 60):
        plate = Plate(controls=(Control(name="blank", wells=n),))
        held = lay(plate, picks(bo=plate.capacity)).dropna(subset="control")
        assert held["row"].between(2, 7).all()
        assert held["column"].between(2, 11).all()
    crowded = Plate(controls=(Control(name="blank", wells=61),))
    assert lay(crowded, picks(bo=35))["control"].notna().sum() == 61


@pytest.mark.parametrize("seed", range(20))
def test_each_kind_of_control_is_spread_over_the_plate(seed: int) -> None:
    held = lay(Plate(controls=(POSITIVE, NEGATIVE)), picks(bo=88), seed=seed).dropna(subset="control")
    assert held.groupby([held["row"] > 4, held["column"] > 6]).size().min() >= 1
    for _, kind in held.groupby("control"):
        assert kind["column"].max() - kind["column"].min() >= 4
        places = kind[["row", "column"]].to_numpy()
        assert min(np.abs(a - b).max() for a, b in combinations(places, 2)) >= 2


@pytest.mark.parametrize("seed", range(5))
def test_controls_rotate_so_that_swapped_plates_show(seed: int) -> None:
    plate = Plate(controls=(POSITIVE, NEGATIVE))
    layout = lay(plate, picks(bo=4 * 88), plates=4, seed=seed)
    maps = [control_map(layout, f"P{i}") for i in (1, 2, 3, 4)]
    for a, b in combinations(maps, 2):
        assert len(a) == len(b) == 8
        assert not set(a.items()) & set(b.items())


def test_a_design_of_two_arms_takes_one_well() -> None:
    table = picks(offline=10, bo=10)
    table.loc[table["design_id"] == "bo-003", "design_id"] = "offline-007"
    layout = lay(Plate(), table)
    assert len(layout) == 19
    assert (layout["design_id"] == "offline-007").sum() == 1


def test_every_neighbourhood_holds_every_arms_share() -> None:
    # A quarter of the plate is two neighbourhoods, each less than one well from its share of 12 wells in three arms: 4.
    for seed in range(15):
        layout = lay(Plate(), picks(offline=32, bo=32, free=32), seed=seed)
        quarters = layout.groupby([arm_of(layout), layout["row"] > 4, (layout["column"] - 1) // 6]).size()
        assert (quarters == 8).all()
    for seed in range(15):
        layout = lay(Plate(controls=(POSITIVE, NEGATIVE)), picks(offline=50, bo=30, free=8), seed=seed)
        there = layout.dropna(subset="design_id")
        n = there.groupby([there["row"] > 4, (there["column"] - 1) // 6]).size()
        for arm, k in (("offline", 50), ("bo", 30), ("free", 8)):
            mine = there[arm_of(there) == arm]
            held = mine.groupby([mine["row"] > 4, (mine["column"] - 1) // 6]).size().reindex(n.index, fill_value=0)
            assert ((held - n * k / 88).abs() < 2).all()


def test_no_arm_sits_on_one_side() -> None:
    for seed in range(15):
        layout = lay(Plate(controls=(POSITIVE,)), picks(offline=40, bo=32, free=20), seed=seed)
        middle = layout.dropna(subset="design_id")[["row", "column"]].mean()
        for _, mine in layout.groupby(arm_of(layout)):
            off = mine[["row", "column"]].mean() - middle
            assert abs(off["row"]) < 1.2
            assert abs(off["column"]) < 1.2


def test_over_seeds_the_edge_belongs_to_the_arms_in_proportion() -> None:
    plate, sizes, seeds = Plate(controls=(POSITIVE,)), {"offline": 50, "bo": 30, "free": 12}, 100
    counts = np.zeros((seeds, 3))
    for seed in range(seeds):
        layout = lay(plate, picks(**sizes), seed=seed)
        edge = layout[layout["row"].isin([1, 8]) | layout["column"].isin([1, 12])]
        counts[seed] = [(arm_of(edge) == arm).sum() for arm in sizes]
    expected = np.array(list(sizes.values())) / 92 * 36
    error = counts.std(0, ddof=1) / np.sqrt(seeds)
    assert (np.abs(counts.mean(0) - expected) < 4 * error).all()


def test_every_single_well_goes_to_an_arm_with_its_share() -> None:
    seeds, n = 200, {"a": 5, "b": 11, "c": 1}
    hits = np.zeros(17)
    for seed in range(seeds):
        hits += (arm_of(lay(Plate(), picks(**n), seed=seed)) == "b").to_numpy()
    share = 11 / 17
    assert (np.abs(hits / seeds - share) < 4.5 * np.sqrt(share * (1 - share) / seeds)).all()


@pytest.mark.parametrize("sizes", [(5, 3, 2), (1, 1, 8), (4, 3, 3)], ids=str)
def test_shares_are_rounded_without_favour(sizes: tuple[int, ...]) -> None:
    totals, draws, rng = np.array([4, 5, 1]), 1500, np.random.default_rng(0)
    tables = np.array([apportion(np.array(sizes), totals, rng) for _ in range(draws)])
    share = np.outer(sizes, totals) / 10
    assert (tables.sum(2) == sizes).all()
    assert (tables.sum(1) == totals).all()
    assert (np.abs(tables - share) < 1).all()
    fraction = share % 1  # a cell is its share rounded up with this probability, else down
    assert (np.abs(tables.mean(0) - share) <= 4.5 * np.sqrt(fraction * (1 - fraction) / draws) + 1e-9).all()


def test_arms_and_designs_share_the_plates_evenly() -> None:
    layout = lay(Plate(controls=(POSITIVE,)), picks(offline=75, bo=50, free=26), plates=2, seed=3)
    designs = layout.dropna(subset="design_id")
    assert designs.groupby("plate").size().to_dict() == {"P1": 76, "P2": 75}
    by_arm = designs.groupby(["plate", arm_of(designs)]).size().unstack()
    for arm, n in (("offline", 75), ("bo", 50), ("free", 26)):
        assert (np.abs(by_arm[arm] - np.array([76, 75]) * n / 151) < 1).all()


def test_a_partly_filled_plate_is_filled_column_by_column() -> None:
    layout = lay(Plate(), picks(bo=20))
    assert layout.sort_values(["column", "row"])["well"].tolist() == [well_name(i % 8 + 1, i // 8 + 1) for i in range(20)]


def test_rank_does_not_decide_the_place() -> None:
    columns = np.zeros(96)
    for seed in range(100):
        layout = lay(Plate(), picks(bo=96), seed=seed).set_index("design_id")
        columns += layout["column"].sort_index().to_numpy()
    assert abs(np.corrcoef(columns, np.arange(96))[0, 1]) < 0.35


def test_equal_seeds_agree_whatever_the_order_of_rows_and_other_seeds_do_not() -> None:
    plate, table = Plate(controls=(POSITIVE, NEGATIVE)), picks(offline=44, bo=44)
    first = lay(plate, table, seed=5)
    pd.testing.assert_frame_equal(first, lay(plate, table, seed=5))
    pd.testing.assert_frame_equal(first, lay(plate, table.sample(frac=1, random_state=1), seed=5))
    other = lay(plate, table, seed=6)
    assert (first["design_id"].fillna("") != other["design_id"].fillna("")).mean() > 0.5


def test_no_global_generator_is_touched() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    lay(Plate(controls=(POSITIVE,)), picks(bo=92))
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index] # noqa: NPY002


def test_too_many_designs_are_refused_with_the_wells_there_are() -> None:
    with pytest.raises(BatchError, match=r"185 designs do not fit: 2 x 96 wells, with 4 controls a plate, leave 184.*1 fewer"):
        lay(Plate(controls=(POSITIVE,)), picks(offline=100, bo=85), plates=2)
    with pytest.raises(BatchError, match=r"outer ones empty.* leave 60"):
        lay(Plate(edge="empty"), picks(bo=61))


def test_a_plate_without_designs_is_refused() -> None:
    with pytest.raises(BatchError, match="lower plates"):
        lay(Plate(), picks(bo=1), plates=2)
    with pytest.raises(BatchError, match="lower plates"):
        lay(Plate(), picks())


def test_a_design_twice_in_one_arm_and_wrong_names_are_a_programmers_mistake() -> None:
    twice = pd.concat([picks(bo=3), picks(bo=1)])
    with pytest.raises(ValueError, match="twice"):
        lay(Plate(), twice)
    with pytest.raises(ValueError, match="distinct names"):
        lay_out(Plate(), picks(bo=3), plates=2, names=["P1", "P1"], seed=0)


@pytest.mark.parametrize(
    ("text", "wells", "place"),
    [("A1", 96, (1, 1)), ("a01", 96, (1, 1)), (" H12 ", 96, (8, 12)), ("A001", 96, (1, 1)), ("p24", 384, (16, 24))],
)
def test_wells_are_read_as_people_write_them(text: str, wells: int, place: tuple[int, int]) -> None:
    assert parse_well(text, wells) == place


@pytest.mark.parametrize(
    ("text", "wells"),
    [("I1", 96), ("A13", 96), ("A0", 96), ("A00", 384), ("Q1", 384), ("A25", 384), ("1A", 384), ("", 96), ("AA1", 384),
     ("A1.0", 96), ("A¹", 96), ("nan", 96), ("-A1", 96)],
)  # fmt: skip
def test_other_texts_are_refused_with_the_plates_format(text: str, wells: int) -> None:
    with pytest.raises(
        ValueError, match=f"no well of a {wells}-well plate, whose wells are A1 to {'H12' if wells == 96 else 'P24'}"
    ):
        parse_well(text, wells)


def test_well_names_and_places_undo_each_other() -> None:
    names = [well_name(r, c) for r in range(1, 17) for c in range(1, 25)]
    assert len(set(names)) == 384
    assert [parse_well(name) for name in names] == [(r, c) for r in range(1, 17) for c in range(1, 25)]
    with pytest.raises(ValueError, match="on no plate"):
        well_name(0, 1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Plate, pd.DataFrame, int]:
    wells, edge = draw(st.sampled_from([96, 384])), draw(st.sampled_from(["use", "empty"]))
    inside = 60 if wells == 96 else 308
    kinds = draw(st.lists(st.integers(1, inside // 4), max_size=3))
    plate = Plate(wells=wells, edge=edge, controls=tuple(Control(name=f"c{i}", wells=n) for i, n in enumerate(kinds)))
    plates = draw(st.integers(1, 3))
    n = draw(st.integers(plates, plates * plate.capacity) | st.just(plates * plate.capacity))
    arms = draw(st.integers(1, 5))
    owner = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 2**arms, size=n)  # the set of arms, as bits
    rows = [(f"arm{a}", f"{i:05d}", i) for i in range(n) for a in range(arms) if owner[i] >> a & 1]
    return plate, pd.DataFrame(rows, columns=["arm", "design_id", "rank"]), plates


@settings(max_examples=40, deadline=None)
@given(case=cases(), seed=st.integers(0, 2**62))
def test_any_picks_that_fit_are_laid_out_exactly(case: tuple[Plate, pd.DataFrame, int], seed: int) -> None:
    plate, table, plates = case
    layout = lay(plate, table, plates=plates, seed=seed)
    assert sorted(layout["design_id"].dropna()) == sorted(set(table["design_id"]))
    assert not layout.duplicated(["plate", "well"]).any()
    sizes = layout.groupby("plate")["design_id"].count()
    assert sizes.max() - sizes.min() <= 1
    expected = {control.name: control.wells for control in plate.controls}
    for _, one in layout.groupby("plate"):
        assert one["control"].value_counts().to_dict() == expected
    ring = 1 if plate.edge == "empty" else 0
    assert layout["row"].between(1 + ring, plate.shape[0] - ring).all()
    assert layout["column"].between(1 + ring, plate.shape[1] - ring).all()
    sets = table.groupby("design_id")["arm"].agg("+".join)
    shares = layout.assign(arms=layout["design_id"].map(sets)).groupby(["plate", "arms"]).size().unstack(fill_value=0)
    ideal = np.outer(sizes[shares.index], sets.value_counts()[shares.columns]) / len(sets)
    assert (np.abs(shares - ideal) < 1).all().all()
