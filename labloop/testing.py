"""Contract suites for plug-in authors: subclass one in a test file, and pytest runs every clause of the contract.

For example `class TestMine(ProposerContract): proposer = Mine(epochs=2)`.
"""

from __future__ import annotations

import random
import sys
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from labloop.assays.ingest.reader import Reader
from labloop.errors import DesignError, IngestError, MethodError
from labloop.plates.exporter import Exporter
from labloop.plates.transfer import TransferPlan
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.protocols import Proposer
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Choice, Integer, Mixture, Real, Sequence
from labloop.studies.labs.lab import Lab
from labloop.types import FloatArray

TOY_SPACES = {
    "sequence": DesignSpace(parameters=(Sequence(name="dna", length=6),)),
    "duplex": DesignSpace(parameters=(Sequence(name="dna", length=5),), symmetries=("reverse_complement",)),
    "continuous": DesignSpace(parameters=(Real(name="ph", low=4, high=9), Real(name="conc", low=0.01, high=10, scale="log"))),
    "categorical": DesignSpace(
        parameters=tuple(Choice(name=name, options=("a", "b", "c", "d")) for name in ("base", "ligand", "solvent", "salt"))
    ),
    "mixed": DesignSpace(
        parameters=(
            Sequence(name="dna", length=4),
            Real(name="ph", low=4, high=9),
            Integer(name="cycles", low=1, high=30),
            Choice(name="host", options=("coli", "yeast", "cho")),
            Mixture(name="buffer", components=("tris", "hepes", "pbs"), step=0.05),
        )
    ),
}


def toy_truth(space: DesignSpace, X: FloatArray) -> FloatArray:
    """Score designs of any space: a fixed smooth function of X with a mild interaction, twins alike; larger is better, (n,)."""
    rng = generator(7, "toy", space.d)
    linear, bend = rng.normal(size=space.d), rng.normal(size=space.d) / np.sqrt(space.d)
    return np.mean([x @ linear + 0.3 * np.sin(3 * x @ bend) for x in space.orbit(X)], axis=0)  # type: ignore[no-any-return]


def toy_data(space: DesignSpace, n: int = 60, *, seed: int = 0, noise: float = 0.05) -> Dataset:
    """Measure up to n random designs of a toy space, the better half kept out."""
    rng = generator(seed, "toy data")
    X = space.sample(4 * n, rng)
    X = X[space.fresh(X)]
    order = np.argsort(toy_truth(space, X))[: min(n, len(X) // 2)]
    y = toy_truth(space, X[order]) + noise * rng.normal(size=len(order))
    return Dataset.from_measurements(space, space.decode(X[order]), y)


class Offers:
    """What a proposer offered, each call made once: training is what a contract's time goes into."""

    def __init__(self, proposer: Any) -> None:
        self.proposer = proposer
        self._kept: dict[tuple[int, int, int], Pool] = {}
        self._data: list[Dataset] = []
        self.touched: list[str] = []
        """Global generators that moved while it offered."""

    def __call__(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Offer n designs, as the proposer did when it was first asked for just these."""
        if not any(known is data for known in self._data):
            self._data.append(data)  # held, so that no other dataset can take its id
        key = (id(data), n, seed)
        if key not in self._kept:
            self._kept[key], moved = self._watched(data, n, seed)
            if moved:  # by another thread of this process, perhaps: what the proposer moves moves again
                moved &= self._watched(data, n, seed)[1]
            self.touched += sorted(moved)
        return self._kept[key]

    def _watched(self, data: Dataset, n: int, seed: int) -> tuple[Pool, set[str]]:
        before = _global_states()
        pool = self.proposer.propose(data, n, seed=seed)
        after = _global_states()
        return pool, {name for name, state in before.items() if after[name] != state}


def _global_states() -> dict[str, Any]:
    """The state of every global generator that is there, by its name."""
    _, words, *place = np.random.get_state()  # noqa: NPY002
    found: dict[str, Any] = {"random": random.getstate(), "numpy": (words.tolist(), *place)}  # type: ignore[attr-defined]
    if (torch := sys.modules.get("torch")) is not None:
        found["torch"] = torch.get_rng_state().tolist()
    return found


class ProposerContract:
    """What every proposer keeps. Set `proposer` to one at smoke budget."""

    proposer: ClassVar[Any]
    spaces: ClassVar[dict[str, DesignSpace]] = TOY_SPACES
    learns: ClassVar[bool] = True
    """Whether it must beat random designs on a toy problem."""
    learns_not_on: ClassVar[tuple[str, ...]] = ()
    """Toy spaces on which it need not."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.learns:
            cls.test_beats_random_designs = None  # type: ignore[assignment,method-assign]  # no clause of its contract

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each clause that takes a dataset on every space that the proposer takes."""
        if "data" in metafunc.fixturenames:
            aside = self.learns_not_on if metafunc.function.__name__ == "test_beats_random_designs" else ()
            metafunc.parametrize("data", sorted(set(self.spaces) - set(aside)), indirect=True, scope="class")

    @pytest.fixture(scope="class")
    def data(self, request: pytest.FixtureRequest) -> Dataset:
        return toy_data(self.spaces[request.param])

    @pytest.fixture(scope="class")
    def offers(self) -> Offers:
        return Offers(self.proposer)

    def test_is_a_proposer(self) -> None:
        assert isinstance(self.proposer, Proposer)

    def test_offers_exactly_n_valid_distinct_unmeasured_designs(self, data: Dataset, offers: Offers) -> None:
        pool = offers(data, 12, seed=0)
        assert len(pool) == len(pool.X) == len(pool.score) == len(set(pool.ids)) == 12
        assert not data.space.check(data.space.decode(pool.X))
        assert list(pool.ids) == data.space.ids(pool.X)
        assert not set(pool.ids) & data.taken
        assert np.isfinite(pool.score).all()

    def test_equal_seeds_agree_and_other_seeds_do_not(self, data: Dataset, offers: Offers) -> None:
        first, again = offers(data, 12, seed=0), self.proposer.propose(data, 12, seed=0)
        assert first.ids == again.ids
        np.testing.assert_array_equal(first.score, again.score)
        if not getattr(type(self.proposer), "deterministic", False):
            other = offers(data, 12, seed=1)
            assert other.ids != first.ids or (other.score != first.score).any()

    def test_touches_no_global_generator(self, data: Dataset, offers: Offers) -> None:
        offers(data, 12, seed=0)
        assert not offers.touched, f"global generators moved: {offers.touched}"

    def test_leaves_the_dataset_as_it_was(self, data: Dataset, offers: Offers) -> None:
        before = {name: value.copy() for name, value in _fields(data).items() if isinstance(value, np.ndarray)}
        offers(data, 12, seed=0)  # which ends in an error where it writes: the arrays are read-only
        for name, value in before.items():
            np.testing.assert_array_equal(getattr(data, name), value, err_msg=name)

    def test_keeps_pending_designs_out(self, data: Dataset, offers: Offers) -> None:
        first = offers(data, 12, seed=0)
        pending = Dataset(**{**_fields(data), "pending": first.X})
        assert not set(self.proposer.propose(pending, 8, seed=0).ids) & set(first.ids)

    def test_asked_for_more_than_there_are_it_says_so(self) -> None:
        space = DesignSpace(
            parameters=(Choice(name="base", options=("a", "b", "c")), Choice(name="salt", options=("x", "y", "z")))
        )
        data = Dataset.from_measurements(space, space.decode(space.listing()[:5]), np.arange(5.0))
        assert len(self.proposer.propose(data, 4, seed=0)) == 4
        with pytest.raises(MethodError):
            self.proposer.propose(data, 5, seed=0)

    def test_three_designs_of_one_value_end_in_a_plate_or_in_words(self) -> None:
        space = self.spaces[min(self.spaces)]
        X = toy_data(space).X[:3]
        data = Dataset.from_measurements(space, space.decode(X), np.full(3, 7.0))
        try:
            pool = self.proposer.propose(data, 4, seed=0)
        except MethodError:
            return  # it may say that it needs more
        assert len(set(pool.ids) - data.taken) == 4
        assert not space.check(space.decode(pool.X))
        assert np.isfinite(pool.score).all()

    def test_refuses_unknown_options(self) -> None:
        with pytest.raises(ValueError, match="nonsense"):
            type(self.proposer)(nonsense=1)

    def test_beats_random_designs(self, data: Dataset, offers: Offers) -> None:
        chance = toy_truth(data.space, data.space.sample(2000, np.random.default_rng(0))).mean()
        mine = np.mean([toy_truth(data.space, offers(data, 12, seed=seed).X).mean() for seed in range(2)])
        assert mine > chance


def _fields(data: Dataset) -> dict[str, Any]:
    return {field.name: getattr(data, field.name) for field in fields(data)}


class LabContract:
    """What every simulated lab keeps. Set `lab` to one whose readings are exact."""

    lab: ClassVar[Any]
    n: ClassVar[int] = 200
    """Random designs that are measured."""

    @pytest.fixture(scope="class")
    def designs(self) -> pd.DataFrame:
        """Random designs, of the lab's own `table` or `library` where it has one: no well of them fails by its design."""
        rng = generator(0, "lab contract")
        if hasattr(self.lab, "table"):
            designs, _ = self.lab.table()
            return designs.iloc[rng.permutation(len(designs))[: self.n]].reset_index(drop=True)  # type: ignore[no-any-return]
        if hasattr(self.lab, "library"):
            return self.lab.library(self.n, rng)  # type: ignore[no-any-return]
        return self.lab.space.decode(self.lab.space.sample(self.n, rng))  # type: ignore[no-any-return]

    @pytest.fixture(scope="class")
    def truth(self, designs: pd.DataFrame) -> FloatArray:
        return self.lab.measure(designs, seed=0)["value"].to_numpy(dtype=float)  # type: ignore[no-any-return]

    def test_is_a_lab(self) -> None:
        assert isinstance(self.lab, Lab)

    def test_every_design_has_a_value_and_a_status(self, designs: pd.DataFrame) -> None:
        measured = self.lab.measure(designs, seed=1)
        assert {"value", "status"} <= set(measured.columns)
        assert len(measured) == len(designs)
        assert np.isfinite(measured["value"].to_numpy(dtype=float)).all()
        assert set(measured["status"]) == {"ok"}
        assert len(self.lab.measure(designs.iloc[:0], seed=1)) == 0

    def test_values_follow_their_designs(self, designs: pd.DataFrame, truth: FloatArray) -> None:
        turned = self.lab.measure(designs.iloc[::-1], seed=2)["value"].to_numpy(dtype=float)
        np.testing.assert_allclose(turned[::-1], truth, rtol=1e-5, atol=1e-6 * np.ptp(truth))
        assert len(np.unique(truth)) > 1

    def test_its_table_and_bounds_are_what_it_measures(self, truth: FloatArray) -> None:
        if hasattr(self.lab, "table"):
            designs, values = self.lab.table()
            assert len(designs) == len(values)
            first = self.lab.measure(designs.iloc[: self.n], seed=0)["value"].to_numpy(dtype=float)
            np.testing.assert_allclose(first, values[: self.n])
        if hasattr(self.lab, "bounds"):
            low, high = self.lab.bounds()
            assert low < high
            assert low <= np.median(truth) <= high

    def test_a_design_of_another_space_is_refused(self, designs: pd.DataFrame) -> None:
        strange = pd.DataFrame({column: ["?"] for column in designs.columns})
        with pytest.raises(DesignError):
            self.lab.measure(strange, seed=0)

    def test_noise_is_normal_and_of_the_size_asked_for(self, designs: pd.DataFrame, truth: FloatArray) -> None:
        noise = 0.3 * float(np.ptp(truth))
        lab = replace(self.lab, noise=noise)
        first, again, other = (lab.measure(designs, seed=seed)["value"].to_numpy(dtype=float) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        errors = np.concatenate([first, other]) - np.tile(truth, 2)
        assert abs(errors.std() / noise - 1) < 0.25
        assert abs(errors.mean()) < noise / 4

    def test_a_share_of_wells_fails(self, designs: pd.DataFrame) -> None:
        measured = replace(self.lab, failures=0.5).measure(designs, seed=5)
        lost = measured["status"] == "failed_technical"
        assert 0.3 < lost.mean() < 0.7
        assert (measured["value"].isna() == lost).all()

    def test_wells_of_a_plate_share_its_offset_and_those_at_its_edge_theirs(
        self, designs: pd.DataFrame, truth: FloatArray
    ) -> None:
        size = 10 * float(np.ptp(truth))
        lab = replace(self.lab, plate_effect=size)
        if not {"plate", "well"} & set(designs.columns):
            some = designs.iloc[:4].assign(plate=["P1", "P1", "P2", "P2"], well=["A01", "D06", "D06", "H12"])
            offsets = lab.measure(some, seed=6)["value"].to_numpy(dtype=float) - truth[:4]
            np.testing.assert_allclose(offsets[[0, 2]], offsets[[1, 3]], rtol=1e-4, atol=1e-4 * size)
            assert abs(offsets[0] - offsets[2]) > 1e-3 * size
            at_edge = replace(self.lab, edge_effect=size).measure(some, seed=6)["value"].to_numpy(dtype=float) - truth[:4]
            np.testing.assert_allclose(at_edge / size, [1, 0, 0, 1], atol=1e-3)
        edge = replace(self.lab, edge_effect=size).measure(designs, seed=7)["value"].to_numpy(dtype=float) - truth
        assert 0.15 < np.isclose(edge, size, rtol=1e-3).mean() < 0.6  # 36 of 96, dealt at random

    def test_touches_no_global_generator(self, designs: pd.DataFrame) -> None:
        before = _global_states()
        replace(self.lab, noise=1.0, plate_effect=1.0).measure(designs, seed=0)
        after = _global_states()
        assert [name for name, state in before.items() if after[name] != state] == []

    def test_refuses_unknown_and_impossible_options(self) -> None:
        for options in ({"nonsense": 1}, {"noise": -1}, {"failures": 2}):
            with pytest.raises(ValueError, match=next(iter(options))):
                type(self.lab)(**{**_options(self.lab), **options})


def _options(plugin: Any) -> dict[str, Any]:
    return {field.name: getattr(plugin, field.name) for field in fields(plugin)}


class ReaderContract:
    """What every reader keeps. Set `reader` to one, and `files` to a few files that it knows, by name."""

    reader: ClassVar[Any]
    files: ClassVar[dict[str, bytes]]
    known: ClassVar[tuple[str, ...]] = ("plate", "well", "value")
    """Column names of the campaign that the files are for."""

    def test_is_a_reader(self) -> None:
        assert isinstance(self.reader, Reader)

    def test_knows_its_files_and_no_pdf_and_no_empty_file(self) -> None:
        for name, content in self.files.items():
            said = self.reader.recognise(content, name)
            assert said
            assert "\n" not in said
        for content in (b"", b"\n", b"%PDF-1.7\n", bytes(64)):
            assert self.reader.recognise(content, "other") is None

    def test_gives_stripped_text_with_the_lines_it_stands_on(self) -> None:
        for name, content in self.files.items():
            parts = self.reader.read(content, name, known=self.known)
            assert parts
            for part in parts:
                table = part.table
                assert table.name == name
                assert len(table) > 0
                assert (table.lines > 0).all()
                for column in table.columns.values():
                    assert len(column.codes) == len(table)
                    assert all(isinstance(text, str) and text == text.strip() for text in column.texts)
                if part.grid is not None:
                    assert list(table.columns) == ["well", "value"]

    def test_a_broken_file_is_read_or_refused_with_its_name(self) -> None:
        for name, content in self.files.items():
            for cut in np.linspace(0, len(content), 20).astype(int).tolist():
                for broken in (content[:cut], content[cut:], content[:cut] + b"\xff\x00" + content[cut:]):
                    self.reader.recognise(broken, name)
                    refusal = name
                    try:
                        self.reader.read(broken, name, known=self.known)
                    except IngestError as error:
                        refusal = str(error)
                    assert name in refusal


def toy_sheet(space: DesignSpace, n: int = 5) -> TransferPlan:
    """A sheet of n random designs and two controls on a plate of 96 wells."""
    designs = space.decode(space.sample(n, generator(0, "toy sheet")))
    wells = [f"A{i:02d}" for i in range(1, n + 3)]
    table = pd.DataFrame(
        {
            "source_plate": ["toy-R01-S1"] * n + ["CONTROLS"] * 2,
            "source_well": wells[:n] + ["A01"] * 2,
            "plate": "toy-R01-P1",
            "well": wells[::-1],
            "sample": [f"TOY_R01_{well}" for well in wells[::-1][:n]] + ["blank"] * 2,
            "design_id": [f"{i:012x}" for i in range(n)] + [np.nan] * 2,
            "control": [np.nan] * n + ["blank"] * 2,
        }
    )
    told = table.loc[: n - 1, ["source_plate", "source_well", "sample", "design_id"]]
    return TransferPlan(
        stem="toy-R01", designs=pd.concat([told, designs], axis=1), transfers=table, space=space, flanks={}, source_wells=384,
        plate_wells=96,
    )  # fmt: skip


class ExporterContract:
    """What every exporter keeps. Set `exporter` to one, and `space` to one that it takes."""

    exporter: ClassVar[Any]
    space: ClassVar[DesignSpace] = TOY_SPACES["sequence"]

    def test_is_an_exporter(self) -> None:
        assert isinstance(self.exporter, Exporter)

    def test_equal_sheets_give_equal_files_whose_names_can_end_a_batchs(self) -> None:
        first, again = (self.exporter.export(toy_sheet(self.space)) for _ in range(2))
        assert first == again
        assert first
        assert all(name and name == name.strip() and not set(name) & set("/\\:") for name in first)
        assert all(isinstance(content, bytes) and content for content in first.values())

    def test_leaves_the_sheet_as_it_was(self) -> None:
        sheet, untouched = toy_sheet(self.space), toy_sheet(self.space)
        self.exporter.export(sheet)
        pd.testing.assert_frame_equal(sheet.designs, untouched.designs)
        pd.testing.assert_frame_equal(sheet.transfers, untouched.transfers)

    def test_no_cell_of_a_csv_is_a_formula(self) -> None:
        for name, content in self.exporter.export(toy_sheet(self.space)).items():
            if name.endswith(".csv"):
                cells = content.decode().replace("\n", ",").split(",")
                assert not [cell for cell in cells if cell.lstrip('"')[:1] in ("=", "@", "\t", "\r")]
