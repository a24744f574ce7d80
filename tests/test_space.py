"""What a design space promises: every decoded design is valid, decode undoes encode, twins are one."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from labloop.errors import DesignError, SpaceError
from labloop.space.constraints import Allowed, Excluded, ForbiddenMotifs, GCRange, LinearInequality, MaxHomopolymer
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Integer, Mixture, Real, Sequence
from labloop.space.quantities import FINER, to_digits
from labloop.testing import TOY_SPACES

CONSTRAINED = DesignSpace(
    parameters=(
        Sequence(name="dna", length=8),
        Real(name="ph", low=4, high=9),
        Real(name="dose", low=1e-3, high=10, scale="log"),
        Real(name="heat", low=20, high=95, step=2.5),
        Integer(name="cycles", low=1, high=30),
        Choice(name="base", options=("KOAc", "KOPiv", 3)),
        Mixture(name="metals", components=("Ni", "Fe", "Co"), step=0.1),
    ),
    constraints=(
        ForbiddenMotifs(parameter="dna", motifs=("GAATTC", "GGN")),
        GCRange(parameter="dna", low=0.25, high=0.75),
        MaxHomopolymer(parameter="dna", length=2),
        LinearInequality(weights={"ph": 1.0, "Ni": 2.0}, high=8.0),
        Excluded(combinations=({"base": 3, "cycles": 4}, {"base": "KOAc", "heat": 95.0})),
    ),
    symmetries=("reverse_complement",),
)
SPACES = {**TOY_SPACES, "constrained": CONSTRAINED}


@pytest.fixture(params=sorted(SPACES))
def space(request: pytest.FixtureRequest) -> DesignSpace:
    return SPACES[request.param]


def revcomp(dna: str) -> str:
    return dna[::-1].translate(str.maketrans("ACGT", "TGCA"))


@pytest.mark.parametrize("name", sorted(SPACES))
@settings(max_examples=25)
@given(data=st.data())
def test_any_matrix_decodes_to_valid_designs(name, data):
    space = SPACES[name]
    X = data.draw(arrays(float, (4, space.d), elements=st.floats(-1e9, 1e9)))
    designs = space.decode(X)
    assert space.check(designs) == []


def test_numbers_are_rounded_to_digits_as_their_text_is():
    rng = np.random.default_rng(0)
    odd = [np.nan, 1e-300, 5e-324, 1e300, 0.5, 1.5, 2.5, 1.25, 9.9999999999, 1e22, 1e-15, np.nextafter(1000.0, 0)]
    values = np.concatenate([10.0 ** rng.uniform(-30, 30, 3_000), np.arange(1, 300) / 8, odd])
    for digits in (0, 2, 8):
        np.testing.assert_array_equal(to_digits(values, digits), [float(f"{value:.{digits}e}") for value in values])


def test_decode_undoes_encode(space):
    designs = space.decode(space.sample(300, np.random.default_rng(0)))
    again = space.decode(space.encode(designs))
    pd.testing.assert_frame_equal(designs, again)


def test_encode_undoes_decode_on_canonical_designs(space):
    X = space.sample(300, np.random.default_rng(1))
    np.testing.assert_allclose(space.encode(space.decode(X)), X, atol=1e-9)
    assert space.ids(space.encode(space.decode(X))) == space.ids(X)


def test_designs_survive_a_csv_file(space, tmp_path):
    X = space.sample(50, np.random.default_rng(2))
    space.decode(X).to_csv(tmp_path / "designs.csv", index=False)
    read = pd.read_csv(tmp_path / "designs.csv", dtype=str)
    assert space.ids(space.encode(read)) == space.ids(X)


def test_a_space_survives_json_and_is_compared_by_what_it_says(space):
    again = DesignSpace.model_validate_json(space.model_dump_json())
    if space.listable:
        space.listing()
    assert again == space
    assert hash(again) == hash(space)
    assert space != DesignSpace(parameters=(Real(name="other", low=0, high=1),))


def test_decode_is_deterministic_and_repairs_without_moving_valid_designs():
    X = CONSTRAINED.sample(100, np.random.default_rng(3))
    np.testing.assert_array_equal(CONSTRAINED.repair(X), X)
    Z = np.random.default_rng(4).normal(size=(100, CONSTRAINED.d))
    np.testing.assert_array_equal(CONSTRAINED.repair(Z), CONSTRAINED.repair(Z[::-1])[::-1])


def test_mutants_and_neighbours_are_valid_and_different(space):
    X = space.sample(60, np.random.default_rng(5))
    mutants = space.mutate(X, np.random.default_rng(6))
    assert space.check(space.decode(mutants)) == []
    assert np.mean([a != b for a, b in zip(space.ids(X), space.ids(mutants), strict=True)]) > 0.8
    near = space.neighbours(X[0])
    assert space.check(space.decode(near)) == []
    assert space.ids(X[:1])[0] not in space.ids(near)
    assert len(set(space.ids(near))) == len(near)


def test_an_eight_mer_has_24_neighbours_at_distance_one():
    space = DesignSpace(parameters=(Sequence(name="dna", length=8),))
    x = space.encode(pd.DataFrame({"dna": ["ACGTACGT"]}))
    near = space.neighbours(x[0])
    assert len(near) == 24
    np.testing.assert_array_equal(space.distance(x, near), np.ones((1, 24)))


def test_listing_holds_every_valid_design_once():
    space = DesignSpace(
        parameters=(Sequence(name="dna", length=4), Choice(name="salt", options=("Na", "K"))),
        constraints=(ForbiddenMotifs(parameter="dna", motifs=("GG",), reverse_complement=False),),
    )
    expected = {
        ("".join(letters), salt)
        for letters in itertools.product("ACGT", repeat=4)
        for salt in ("Na", "K")
        if "GG" not in "".join(letters)
    }
    listed = space.decode(space.listing())
    assert set(listed.itertuples(index=False, name=None)) == expected
    assert len(listed) == len(expected) == len(set(space.listing_ids))


def test_mixtures_are_listed_whole():
    mixture = Mixture(name="oxide", components=("Ni", "Fe", "Co", "Mn", "Ce", "La"), step=0.1)
    X = DesignSpace(parameters=(mixture,)).listing()
    assert len(X) == mixture.size == 3003
    np.testing.assert_allclose(X.sum(1), 1)
    assert len(np.unique(np.round(X * 10).astype(int), axis=0)) == 3003


@pytest.mark.parametrize(
    ("written", "kept"),
    [(2.5, 2.5), (2.51, 2.5), (1, 1), (3.99, 4.0), (2.7, None), (2.26, None), (4.2, None)],
)
def test_a_number_off_the_steps_is_a_fault_and_no_other_number(written, kept):
    space = DesignSpace(parameters=(Real(name="loading", low=1, high=4.2, step=0.5),))
    faults = space.check(pd.DataFrame({"loading": [written]}))
    assert [fault.rule for fault in faults] == ([] if kept else [f"is not 1 plus steps of 0.5 ({FINER})"])
    if kept:
        assert space.decode(space.encode(pd.DataFrame({"loading": [written]})))["loading"].tolist() == [kept]


@pytest.mark.parametrize(
    ("low", "high", "step", "decimals"), [(0, 1, 0.25, 1), (-5, 30, 0.7, 0), (0, 300, 1 / 3, 1), (0, 1, 0.0625, 2)]
)
def test_steps_that_are_written_with_fewer_decimals_are_read_again(low, high, step, decimals):
    space = DesignSpace(parameters=(Real(name="a", low=low, high=high, step=step, decimals=decimals),))
    designs = space.decode(space.sample(200, np.random.default_rng(0)))
    assert not space.check(designs)
    assert space.ids(space.encode(designs)) == space.ids(space.encode(space.decode(space.encode(designs))))


@pytest.mark.parametrize(
    ("step", "decimals", "written", "kept"),
    [
        (0.025, 2, 0.03, 0.02), (0.025, 2, 0.02, 0.02), (0.025, 2, 0.025, 0.02), (0.025, 2, 0.08, 0.08), (0.025, 2, 0.07, 0.08),
        (0.125, 2, 0.13, 0.12), (0.125, 2, 0.38, 0.38), (1 / 3, 2, 0.67, 0.67), (1 / 3, 2, 0.66, 0.67), (0.025, 2, 0.01, None),
        (0.025, 2, 0.015, None), (0.025, None, 0.03, None), (0.025, None, 0.025, 0.025), (1 / 3, None, 0.33, 0.333333333),
    ],
)  # fmt: skip
def test_steps_are_read_however_their_last_decimal_was_rounded(step, decimals, written, kept):
    space = DesignSpace(parameters=(Real(name="a", low=0, high=1, step=step, decimals=decimals),))
    told = pd.DataFrame({"a": [written]})
    assert bool(space.check(told)) == (kept is None)
    if kept is not None:
        assert space.decode(space.encode(told))["a"].tolist() == [kept]


@pytest.mark.parametrize("step", [0.025, 0.125, 1 / 3, 0.0625])
def test_steps_are_shown_exactly_where_no_decimals_are_named(step):
    shown = Real(name="a", low=0, high=1, step=step).listing()
    np.testing.assert_allclose(shown, np.arange(len(shown)) * step, atol=1e-9)


def test_a_step_that_does_not_divide_one_names_one_that_does():
    with pytest.raises(ValidationError, match=r"step 0\.333 of 'b' must divide one, as 0\.3333333333 does"):
        Mixture(name="b", components=("p", "q"), step=0.333)
    assert Mixture(name="b", components=("p", "q"), step=0.3333333333).size == 4


def test_a_fraction_off_the_steps_is_a_fault_and_no_other_fraction():
    space = DesignSpace(parameters=(Mixture(name="metals", components=("Ni", "Fe"), step=0.05),))
    faults = space.check(pd.DataFrame({"Ni": [0.3, 0.3001, 0.33], "Fe": [0.7, 0.6999, 0.67]}))
    assert {(fault.row, fault.column) for fault in faults} == {(2, "Ni"), (2, "Fe")}
    assert "is not in steps of 0.05" in faults[0].rule


def test_both_strands_are_one_design():
    space = DesignSpace(parameters=(Sequence(name="dna", length=8),), symmetries=("reverse_complement",))
    strands = pd.DataFrame({"dna": ["TGATACCT", revcomp("TGATACCT"), "ACGTACGT"]})
    X = space.encode(strands)
    first, second, other = space.ids(X)
    assert first == second != other
    assert space.distance(X[:1], X[1:2])[0, 0] == 0
    assert len(space.listing()) == (4**8 + 4**4) // 2  # 32,896 duplexes, 256 of them their own twin
    twins = space.orbit(X)
    assert twins.shape == (2, 3, 32)
    np.testing.assert_array_equal(space.canonical(twins[1]), X)


def test_distance_to_a_twin_is_the_shorter_way():
    space = DesignSpace(parameters=(Sequence(name="dna", length=6),), symmetries=("reverse_complement",))
    a, b = "AACCGT", "TTTGGT"
    X = space.encode(pd.DataFrame({"dna": [a, b]}))
    hamming = min(sum(x != y for x, y in zip(a, other, strict=True)) for other in (b, revcomp(b)))
    assert space.distance(X[:1], X[1:])[0, 0] == hamming


def test_without_the_symmetry_strands_stay_apart():
    space = DesignSpace(parameters=(Sequence(name="dna", length=8),))
    assert len(set(space.ids(space.encode(pd.DataFrame({"dna": ["TGATACCT", "AGGTATCA"]}))))) == 2


def test_design_ids_do_not_depend_on_the_range_or_the_order_of_parameters():
    row = pd.DataFrame({"ph": ["7.10"], "dna": ["acg t"]})
    narrow = DesignSpace(parameters=(Sequence(name="dna", length=4), Real(name="ph", low=6, high=8)))
    wide = DesignSpace(parameters=(Real(name="ph", low=1, high=13), Sequence(name="dna", length=4)))
    assert narrow.ids(narrow.encode(row)) == wide.ids(wide.encode(row))


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ({"dna": "ACGTACGN"}, "letters 'N' are not in the alphabet ACGT"),
        ({"dna": "ACG"}, "length 3 is not 8"),
        ({"ph": "nine"}, "is not a finite number"),
        ({"ph": "nan"}, "is not a finite number"),
        ({"ph": "9.5"}, "is outside 4 … 9"),
        ({"cycles": "2.5"}, "is not a whole number"),
        ({"base": "NaOH"}, "is none of the options"),
        ({"Ni": "0.9"}, "Ni + Fe + Co is 1.7, not 1"),
        ({"dna": "ATGGAACA"}, "has none of the motifs GAATTC, GGN"),
        ({"dna": "AATTAATC"}, "GC fraction"),
        ({"base": "3", "cycles": "4"}, "avoids base=3 with cycles=4"),
        ({"ph": "7.9"}, "keeps"),
    ],
)
def test_a_fault_names_row_column_rule_and_cell(cells, rule):
    good = {
        "dna": "ATCAGATC", "ph": "5", "dose": "0.1", "heat": "20", "cycles": "7", "base": "KOPiv",
        "Ni": "0.2", "Fe": "0.3", "Co": "0.5",
    }  # fmt: skip
    assert CONSTRAINED.check(pd.DataFrame([good, good])) == []
    (fault, *_) = CONSTRAINED.check(pd.DataFrame([good, {**good, **cells}]))
    assert fault.row == 1
    assert rule in fault.rule
    assert next(iter(cells.values())) in fault.cell
    with pytest.raises(DesignError, match="not of this design space"):
        CONSTRAINED.encode(pd.DataFrame([good, {**good, **cells}]))


def test_missing_design_columns_are_named():
    with pytest.raises(DesignError, match="ph"):
        CONSTRAINED.encode(pd.DataFrame({"dna": ["ATCAGATC"]}))


@pytest.mark.parametrize(
    "broken",
    [
        {"parameters": []},
        {"parameters": [{"type": "sequence", "name": "s", "length": 0}]},
        {"parameters": [{"type": "sequence", "name": "s", "length": 4, "alphabet": "AAC"}]},
        {"parameters": [{"type": "real", "name": "r", "low": 2, "high": 1}]},
        {"parameters": [{"type": "real", "name": "r", "low": 0, "high": 1, "scale": "log"}]},
        {"parameters": [{"type": "choice", "name": "c", "options": [1, "1.0"]}]},
        {"parameters": [{"type": "mixture", "name": "m", "components": ["a", "b"], "step": 0.3}]},
        {"parameters": [{"type": "integer", "name": "i", "low": 0, "high": 5}] * 2},
        {"parameters": [{"type": "sequence", "name": "p", "length": 4, "alphabet": "HP"}], "symmetries": ["reverse_complement"]},
        {
            "parameters": [{"type": "sequence", "name": "s", "length": 4}],
            "constraints": [{"type": "forbidden_motifs", "parameter": "s", "motifs": ["AXA"]}],
        },
    ],
    ids=lambda broken: str(broken)[:60],
)
def test_a_space_that_cannot_be_is_refused(broken):
    with pytest.raises(ValidationError):
        DesignSpace.model_validate(broken)


@pytest.mark.parametrize(
    "rule", [Excluded(combinations=({"base": "KOAc"},)), Allowed(parameter="base", values=("none", "KOtBu"))]
)
def test_a_rule_that_two_spaces_share_means_the_same_option_in_both(rule):
    """Whichever place that has in either one's list."""
    orders = (("KOAc", "none", "KOtBu"), ("none", "KOtBu", "KOAc"))
    spaces = [DesignSpace(parameters=(Choice(name="base", options=one),), constraints=(rule,)) for one in orders]
    for space in (*spaces, *spaces):
        designs = pd.DataFrame({"base": orders[0]})
        assert [fault.row for fault in space.check(designs)] == [0]


def test_a_copy_of_a_rule_with_other_values_means_those():
    """Though pydantic lets a copy have what its original has read already."""
    base = Choice(name="base", options=("KOAc", "none", "KOtBu"))
    rule = Allowed(parameter="base", values=("none",))
    for values, allowed in ((("none",), [1]), (("KOAc", "KOtBu"), [0, 2])):
        space = DesignSpace(parameters=(base,))
        codes = {"base": np.arange(3)}
        rule.holds(codes, space._by_name)
        assert np.flatnonzero(rule.model_copy(update={"values": values}).holds(codes, space._by_name)).tolist() == allowed


def test_constraints_that_leave_nothing_say_so():
    space = DesignSpace(
        parameters=(Sequence(name="dna", length=3),), constraints=(ForbiddenMotifs(parameter="dna", motifs=("N",)),)
    )
    with pytest.raises(SpaceError, match="loosen"):
        space.sample(50_000, np.random.default_rng(0))  # so many come in large draws: few would take a million small ones
    with pytest.raises(SpaceError, match="loosen"):
        _ = space.listing()


def test_a_space_too_large_to_list_says_so():
    with pytest.raises(SpaceError, match="too large to list"):
        DesignSpace(parameters=(Sequence(name="dna", length=20),)).listing()


def test_forbidden_motifs_count_on_both_strands():
    space = DesignSpace(
        parameters=(Sequence(name="dna", length=6),), constraints=(ForbiddenMotifs(parameter="dna", motifs=("GGTCTC",)),)
    )
    good = space.feasible(space.encode(pd.DataFrame({"dna": ["GGTCTC", "GAGACC", "GGTCTA"]}), strict=False))
    assert good.tolist() == [False, False, True]


BENCH = DesignSpace(
    parameters=(
        Real(name="heat", low=40, high=140),
        Real(name="dose", low=1e-3, high=10, scale="log"),
        Real(name="ph", low=4, high=9, decimals=2),
        Real(name="time", low=0.1, high=1.3, step=0.1),
        Mixture(name="metals", components=("Ni", "Fe", "Co")),
        Mixture(name="gas", components=("Ar", "O2"), step=1e-4),
    )
)
MEASURED = {"heat": 139.9999991, "dose": 0.123456789, "ph": 6.54, "time": 0.3, "Ni": 0.123456, "Fe": 0.654321, "Co": 0.222223}
MEASURED |= {"Ar": 0.1234, "O2": 0.8766}


def in_steps(designs: pd.DataFrame) -> None:
    for name, decimals in {"heat": 1, "ph": 2, "time": 1, "Ni": 3, "Fe": 3, "Co": 3, "Ar": 4, "O2": 4}.items():
        assert designs[name].map(lambda value, d=decimals: value == round(value, d)).all(), name
    assert designs["dose"].map(lambda value: value == float(f"{value:.2e}")).all()


def test_what_the_lab_measured_keeps_its_digits():
    design = pd.DataFrame([MEASURED])
    assert BENCH.decode(BENCH.encode(design)).to_dict("records") == [MEASURED]
    X = BENCH.encode(design)
    np.testing.assert_array_equal(BENCH.project(X), X)


def test_what_is_made_up_comes_in_steps_that_a_bench_can_set():
    rng, X = np.random.default_rng(0), BENCH.encode(pd.DataFrame([MEASURED]))
    mutants = BENCH.mutate(np.repeat(X, 200, axis=0), rng)
    made = {
        "sampled": BENCH.sample(200, rng),
        "mutated": mutants[(mutants != X).any(1)],
        "next to it": BENCH.neighbours(X[0]),
        "projected": BENCH.project(np.random.default_rng(1).random((200, BENCH.d))),
        "nearly measured": BENCH.repair(X + 1e-7),
    }
    for designs in made.values():
        assert BENCH.check(BENCH.decode(designs)) == []
        in_steps(BENCH.decode(designs))
        np.testing.assert_array_equal(BENCH.project(designs), designs)
    assert len(made["mutated"]) > 150


def test_a_design_that_only_its_digits_keep_valid_is_left_as_it_is():
    space = DesignSpace(
        parameters=(Real(name="x", low=0, high=1),), constraints=(LinearInequality(weights={"x": 1}, high=0.50049),)
    )
    X = space.encode(pd.DataFrame({"x": [0.50049, 0.70049 - 0.2 - 2e-5]}))
    np.testing.assert_array_equal(space.settable(X)[:, 0], [0.5, 0.5])
    low = space.model_copy(update={"constraints": (LinearInequality(weights={"x": 1}, low=0.49951, high=0.49999),)})
    X = low.encode(pd.DataFrame({"x": [0.49975]}))
    np.testing.assert_array_equal(low.settable(X), X)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (DesignSpace(parameters=(Sequence(name="dna", length=8),)), "65,536 designs"),
        (DesignSpace(parameters=(Sequence(name="dna", length=50),)), "about 1.27e+30 designs"),
        (DesignSpace(parameters=(Sequence(name="dna", length=700),)), "more than 1e300 designs"),
        (BENCH, "a continuous space (heat, dose, ph, metals, gas), which has no number of designs"),
    ],
    ids=["listed", "large", "huge", "continuous"],
)
def test_a_space_tells_its_size_in_words(space, told):
    assert space.extent == told
    if not space.listable:
        with pytest.raises(SpaceError, match="too large to list") as refused:
            space.listing()
        assert told in str(refused.value)
