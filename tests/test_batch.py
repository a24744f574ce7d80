"""A batch's files: exactly the wells, blinded for the bench, equal bytes for equal batches, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from crash_driver import in_child
from hypothesis import given, settings
from hypothesis import strategies as st

from labloop.assays.ingest import STATUSES
from labloop.errors import BatchError
from labloop.plates.batch import ASSAY_COLUMNS, SCORE, Batch, render, write_batch
from labloop.plates.layout import lay_out
from labloop.plates.vessel import Control, Plate
from labloop.runtime.files import cached
from labloop.runtime.spreadsheet import neutral, plain
from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective
from labloop.space.parameters import Choice, Real, Sequence

DNA = DesignSpace(parameters=(Sequence(name="dna", length=8),))
CONTROLS = (Control(name="positive", wells=2), Control(name="blank", wells=2))
MANIFEST = {
    "seed": 3,
    "fingerprint": "00ff",
    "versions": {"labloop": "0.1.0"},
    "round_config": {"beta": float("-inf"), "n": np.int64(4)},
}
ARMS = ("offline", "bayes")
PROPOSERS = {"offline": "coms", "bayes": "qei"}


def make(
    plate: Plate | None = None, *, shared: int = 0, plates: int = 1, seed: int = 0, layout_seed: int = 0, n: int | None = None,
    space: DesignSpace = DNA, objective: Objective | None = None, campaign: str = "tfbind8",
) -> Batch:  # fmt: skip
    """A batch of two arms over random designs, `shared` of them chosen by both."""
    plate = plate or Plate()
    n = plates * plate.capacity if n is None else n
    rng = np.random.default_rng(seed)
    X = space.sample(4 * n, rng)
    X = X[space.fresh(X)][:n]
    ids = space.ids(X)
    designs = space.decode(X).set_axis(pd.Index(ids, name="design_id"))
    mean = dict(zip(ids, rng.normal(size=n), strict=True))
    half = n // 2
    rows = [
        (arm, one, rank, PROPOSERS[arm], 10 * rank + 0.5, mean[one], 0.25, mean[one] - 0.2, 2.0, "0123456789ab", 1.0)
        for arm, chosen in (("bayes", ids[half - shared :]), ("offline", ids[:half]))
        for rank, one in enumerate(chosen, start=1)
    ]
    columns = ["arm", "design_id", "rank", "proposer", "score", "mean", "std", "lcb", "beta", "nearest_id", "nearest_distance"]
    picks = pd.DataFrame(rows, columns=columns)
    names = [f"{campaign}-R02-P{i + 1}" for i in range(plates)]
    wells = lay_out(plate, picks, plates=plates, names=names, seed=layout_seed)
    return Batch(
        campaign=campaign, round=2, picks=picks, wells=wells, designs=designs, manifest=MANIFEST,
        objective=objective or Objective(unit="nM"), arms=ARMS, shape=plate.shape,
    )  # fmt: skip


def table(batch: Batch, kind: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(render(batch)[f"{batch.stem}_{kind}.csv"]), dtype=str, keep_default_na=False)


@pytest.mark.parametrize("wells", [96, 384])
def test_the_pick_list_has_exactly_the_plates_wells(wells: int) -> None:
    batch = make(Plate(wells=wells))
    picks = table(batch, "picks")
    assert len(picks) == picks["well"].nunique() == picks["design_id"].nunique() == picks["dna"].nunique() == wells
    told = dict(zip(picks["design_id"], picks["dna"], strict=True))
    assert told == batch.designs["dna"].to_dict()
    assert list(picks.columns) == [
        "plate", "well", "rank", "arm", "proposer", "design_id", "dna", SCORE, "predicted", "predicted_from", "predicted_to",
        "bound", "bound_beta", "nearest_id", "nearest_distance", "unit",
    ]  # fmt: skip


def test_controls_are_in_the_plate_map_and_the_assay_but_not_in_the_pick_list() -> None:
    batch = make(Plate(controls=CONTROLS))
    assert len(table(batch, "picks")) == 92
    bench = table(batch, "platemap")
    assert len(bench) == len(table(batch, "assay")) == 96
    held = bench[bench["control"] != ""]
    assert held["control"].value_counts().to_dict() == {"positive": 2, "blank": 2}
    assert (held["dna"] == "").all()
    assert (bench.loc[bench["control"] == "", "dna"].str.len() == 8).all()


def test_a_design_of_two_arms_has_one_row_that_names_both() -> None:
    batch = make(n=40, shared=3)
    picks = table(batch, "picks")
    assert len(picks) == 40
    both = picks[picks["arm"] == "offline+bayes"]
    assert (len(both), set(both["proposer"])) == (3, {"coms+qei"})
    assert picks["arm"].value_counts().to_dict() == {"offline": 17, "bayes": 20, "offline+bayes": 3}
    # rank and score are those of the arm named first: the shared ones are the last three of the offline arm
    assert sorted(both["rank"].astype(int)) == [18, 19, 20]
    assert sorted(both[SCORE].astype(float)) == [180.5, 190.5, 200.5]


def test_the_prediction_is_in_the_labs_unit() -> None:
    batch = make(n=10, objective=Objective(direction="min", transform="log10", unit="nM"))
    picks = table(batch, "picks").set_index("design_id")
    told = picks[["predicted", "predicted_from", "predicted_to", "bound", "bound_beta"]].astype(float)
    y = batch.picks.set_index("design_id")["mean"].loc[told.index]
    np.testing.assert_allclose(told["predicted"], 10**-y, rtol=1e-4)
    np.testing.assert_allclose(told["predicted_from"], 10 ** -(y + 0.25), rtol=1e-4)
    np.testing.assert_allclose(told["predicted_to"], 10 ** -(y - 0.25), rtol=1e-4)
    np.testing.assert_allclose(told["bound"], 10 ** -(y - 0.2), rtol=1e-4)
    assert (told["bound"] > told["predicted"]).all()  # lower is better, so what it is worth at worst is higher
    assert set(told["bound_beta"]) == {2.0}


def test_nothing_of_a_pick_list_is_in_another_sign_than_the_labs_unless_its_header_says_so() -> None:
    plain, turned = (make(n=10, objective=Objective(direction=way)) for way in ("max", "min"))
    up, down = (table(batch, "picks").set_index("design_id") for batch in (plain, turned))
    assert not {"mean", "std", "lcb", "score"} & set(up.columns)
    assert "larger is better" in SCORE
    for one, other in (("predicted", "predicted"), ("predicted_from", "predicted_to"), ("bound", "bound")):
        np.testing.assert_allclose(down[one].astype(float), -up[other].astype(float))


def test_a_pick_list_as_an_older_labloop_wrote_it_is_replaced_an_edited_one_is_not(tmp_path: Path) -> None:
    batch = make(n=10)
    picks = write_batch(batch, tmp_path)["picks"]
    whole = picks.read_bytes()
    picks.write_bytes(
        b"plate,well,rank,arm,proposer,design_id,dna,score,predicted,mean,std,lcb,nearest_id,nearest_distance\nP,A01\n"
    )
    write_batch(batch, tmp_path)
    assert picks.read_bytes() == whole
    picks.write_bytes(whole + b"mine\n")
    with pytest.raises(BatchError, match="edited, or of another batch"):
        write_batch(batch, tmp_path)


def test_the_bench_copy_is_blinded() -> None:
    batch = make(shared=4, n=80)
    files = {name: content.decode() for name, content in render(batch).items()}
    secret = [*ARMS, *PROPOSERS.values(), "arm", "score", "bound", *batch.designs.index]
    for kind in ("platemap", "grid", "assay"):
        assert not [word for word in secret if word in files[f"{batch.stem}_{kind}.csv"]]
    assert all(word in files[f"{batch.stem}_picks.csv"] for word in secret)


def test_wells_stand_row_after_row_and_plates_in_order() -> None:
    batch = make(plates=11)
    bench = table(batch, "platemap")
    assert bench["plate"].drop_duplicates().tolist() == [f"tfbind8-R02-P{i}" for i in range(1, 12)]
    for _, one in bench.groupby("plate"):
        assert one["well"].tolist() == [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]
    assert table(batch, "picks")[["plate", "well"]].equals(bench[["plate", "well"]])


@pytest.mark.parametrize("campaign", ["tfbind8", "a", "A-very_long-campaign-name-that-no-vendor-would-take-on-a-tube-label"])
@pytest.mark.parametrize("plates", [1, 2])
def test_sample_names_are_safe_to_order(campaign: str, plates: int) -> None:
    samples = table(make(plates=plates, campaign=campaign), "platemap")["sample"]
    assert samples.is_unique
    assert samples.map(lambda name: bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,29}", name))).all()
    if campaign == "tfbind8":
        assert samples[0] == ("TFBIND8_R02_A01" if plates == 1 else "TFBIND8_R02_P1_A01")


def test_long_campaigns_that_begin_alike_name_their_samples_differently() -> None:
    names = [set(table(make(campaign="a" * 40 + tail), "platemap")["sample"]) for tail in "xy"]
    assert not names[0] & names[1]


def test_the_assay_form_is_empty_but_for_where_and_the_unit() -> None:
    form = table(make(Plate(controls=CONTROLS)), "assay")
    assert tuple(form.columns[:-1]) == ASSAY_COLUMNS
    assert all(status in form.columns[-1] for status in STATUSES)
    assert set(form["unit"]) == {"nM"}
    assert (form[["value", "status", "measured_at", "note"]] == "").all().all()


def test_the_grid_shows_each_plate_as_it_lies_on_the_bench() -> None:
    batch = make(Plate(controls=CONTROLS), plates=2)
    lines = render(batch)[f"{batch.stem}_grid.csv"].decode().split("\n")
    assert lines[0] == "tfbind8-R02-P1," + ",".join(map(str, range(1, 13)))
    assert (lines[9], lines[10][:14], lines[19:]) == ("", "tfbind8-R02-P2", [""])
    bench = table(batch, "platemap")
    for start, plate in ((0, "tfbind8-R02-P1"), (10, "tfbind8-R02-P2")):
        cells = {
            f"{line[0]}{j:02d}": cell for line in lines[start + 1 : start + 9] for j, cell in enumerate(line.split(",")) if j
        }
        there = bench[bench["plate"] == plate]
        assert cells == dict(zip(there["well"], there["dna"] + there["control"], strict=True))


def test_a_design_of_several_columns_appears_in_the_grid_by_its_sample_name() -> None:
    space = DesignSpace(parameters=(Real(name="ph", low=4, high=9), Choice(name="host", options=("coli", "yeast"))))
    batch = make(space=space, n=12)
    bench, grid = table(batch, "platemap"), render(batch)[f"{batch.stem}_grid.csv"].decode()
    assert all(name in grid for name in bench["sample"])
    assert {float(ph) for ph in bench["ph"]} == set(batch.designs["ph"])


def test_the_manifest_tells_where_everything_comes_from() -> None:
    batch = make(Plate(controls=CONTROLS), shared=2, n=50)
    files = render(batch)
    assert list(files)[-1] == "tfbind8-R02_manifest.json"
    manifest = json.loads(files.pop("tfbind8-R02_manifest.json"))
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest["batch"] == {
        "schema_version": 1, "campaign": "tfbind8", "round": 2, "plates": ["tfbind8-R02-P1"], "n_wells": 54, "designs": 50,
        "designs_by_arm": {"offline": 25, "bayes": 27}, "designs_shared": 2, "controls": {"blank": 2, "positive": 2},
    }  # fmt: skip
    assert (manifest["seed"], manifest["fingerprint"]) == (3, "00ff")
    assert manifest["round_config"] == {"beta": "-inf", "n": 4}


def test_equal_batches_give_equal_bytes_and_another_seed_another_layout() -> None:
    first, again, other = (render(make(layout_seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first["tfbind8-R02_platemap.csv"] != other["tfbind8-R02_platemap.csv"]


def test_the_order_of_rows_in_its_tables_changes_no_byte() -> None:
    batch = make(Plate(controls=CONTROLS), shared=5, n=70)
    shuffled = replace(
        batch, picks=batch.picks.sample(frac=1, random_state=0), wells=batch.wells.sample(frac=1, random_state=0),
        designs=batch.designs.sample(frac=1, random_state=0),
    )  # fmt: skip
    assert render(batch) == render(shuffled)


def test_columns_that_the_ledger_adds_stay_out_of_the_files() -> None:
    batch = make()
    assert render(batch) == render(replace(batch, wells=batch.wells.assign(round=2), picks=batch.picks.assign(round=2)))


def test_picks_that_nobody_judged_have_empty_reasons() -> None:
    batch = make()
    unknown = dict.fromkeys(["score", "mean", "std", "lcb", "beta", "nearest_distance"], np.nan)
    picks = table(replace(batch, picks=batch.picks.assign(nearest_id=None, **unknown)), "picks")
    empty = [SCORE, "predicted", "predicted_from", "predicted_to", "bound", "bound_beta", "nearest_id", "nearest_distance"]
    assert (picks[empty] == "").all().all()


def test_plates_without_a_given_shape_are_the_smallest_that_have_the_wells() -> None:
    for wells, rows in ((96, 8), (384, 16)):
        batch = replace(make(Plate(wells=wells)), shape=None)
        assert render(batch)["tfbind8-R02_grid.csv"].count(b"\n") == rows + 1


def test_files_hold_no_carriage_return_and_end_with_a_newline() -> None:
    for content in render(make()).values():
        assert b"\r" not in content
        assert content.endswith(b"\n")


def test_cells_that_a_spreadsheet_would_run_are_neutralised() -> None:
    harmless = ("-20", "+1.5e3", "plain, quoted")
    run = ("=1+1", "+cmd", "-2+3", "@sum", "\tx", "|x")
    options = (*run, *harmless)
    batch = make(space=DesignSpace(parameters=(Choice(name="salt", options=options),)), n=len(options))
    shown = set(table(batch, "platemap")["salt"])
    assert shown == {*(f"'{text}" for text in run), *harmless}
    for name, content in render(batch).items():
        if name.endswith(".csv"):
            cells = re.split(r"[,\n]", content.decode())
            assert not [cell for cell in cells if cell.lstrip('"')[:1] in ("=", "@", "\t")]


@pytest.mark.parametrize(
    "text", ["|x", "＝1+1", "＋1+1", "－1+1", "＠sum", "｜x", " =1+1", "\u00a0=1+1", "\ufeff=1+1", "\n=1+1", "' =1"]
)
def test_text_that_some_spreadsheet_takes_for_a_formula_is_neutralised_and_comes_back(text: str) -> None:
    assert neutral(text) == "'" + text
    assert plain(neutral(text)) == text


@pytest.mark.parametrize("text", ["-20", " -20", "+1.5e3", "=", "", "a=1", "' a", "µM"])
def test_text_that_no_spreadsheet_takes_for_a_formula_stays(text: str) -> None:
    assert neutral(text) == plain(text) == text


@given(st.text("=+-@|＝\n\t\r'0.5eA ", max_size=6))
def test_neutral_text_never_begins_a_formula(text: str) -> None:
    safe = neutral(text)
    assert safe in (text, "'" + text)
    if safe.strip()[:1] in ("=", "@", "|", "＝"):
        assert len(safe) == 1
    if safe.strip()[:1] in ("+", "-") and len(safe) > 1:
        float(safe)
    assert plain(safe) == text


def test_writing_gives_the_files_and_writing_again_touches_nothing(tmp_path: Path) -> None:
    batch = make(Plate(controls=CONTROLS))
    paths = write_batch(batch, tmp_path / "out" / "round2")
    assert list(paths) == ["picks", "platemap", "grid", "assay", "manifest"]
    assert {path.name: path.read_bytes() for path in paths.values()} == render(batch)
    assert sorted((tmp_path / "out" / "round2").iterdir()) == sorted(paths.values())
    before = {path: path.stat().st_ino for path in paths.values()}
    assert write_batch(batch, tmp_path / "out" / "round2") == paths
    assert {path: path.stat().st_ino for path in paths.values()} == before


def test_a_form_that_the_lab_filled_in_where_it_lies_is_never_overwritten(tmp_path: Path) -> None:
    batch = make()
    paths = write_batch(batch, tmp_path)
    filled = paths["assay"].read_text().replace("A01,,nM", "A01,0.7,nM")
    paths["assay"].write_text(filled)
    paths["picks"].unlink()
    for replaced in (False, True):
        assert write_batch(batch, tmp_path, replace=replaced) == paths
        assert paths["assay"].read_text() == filled
    assert paths["picks"].read_bytes() == render(batch)[paths["picks"].name]


def test_a_filled_form_of_another_batch_stops_the_export(tmp_path: Path) -> None:
    form = write_batch(make(n=90), tmp_path)["assay"]
    with pytest.raises(BatchError, match=r"is there already with other content .*move it away"):
        write_batch(make(), tmp_path)
    for path in tmp_path.iterdir():
        if path != form:
            path.unlink()
    with pytest.raises(BatchError, match=r"assay\.csv: is there already"):
        write_batch(make(), tmp_path)
    assert list(tmp_path.iterdir()) == [form]
    assert write_batch(make(), tmp_path, replace=True)["assay"].read_bytes() == render(make())[form.name]


def test_another_batch_does_not_overwrite_this_ones_files_by_accident(tmp_path: Path) -> None:
    files = render(make())
    write_batch(make(), tmp_path)
    with pytest.raises(BatchError, match="choose another folder"):
        write_batch(make(seed=1), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_newer_version_may_write_its_manifest_anew(tmp_path: Path) -> None:
    write_batch(make(), tmp_path)
    newer = replace(make(), manifest={**MANIFEST, "versions": {"labloop": "0.2.0"}})
    manifest = write_batch(newer, tmp_path)["manifest"]
    assert json.loads(manifest.read_text())["versions"] == {"labloop": "0.2.0"}


@pytest.mark.parametrize("after", range(5))
def test_a_full_disk_leaves_no_file_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    calls = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BatchError, match=r"tfbind8-R02_\w+\.\w+: cannot be written: No space left on device; free the disk"):
        write_batch(make(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(write_batch(make(), tmp_path)) == len(list(tmp_path.iterdir())) == 5


def test_a_rename_that_fails_leaves_whole_files_and_no_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, batch = os.replace, make()

    def fails(source: Any, target: Any) -> None:
        if Path(target).name.endswith("grid.csv"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(BatchError, match=r"grid\.csv: cannot be written: Permission denied"):
        write_batch(batch, tmp_path)
    files = render(batch)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: files[name] for name in ("tfbind8-R02_picks.csv", "tfbind8-R02_platemap.csv")
    }
    monkeypatch.undo()
    write_batch(batch, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_an_interrupt_leaves_no_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_batch(make(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_the_next_export_clears_away_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    calls = []
    real = getattr(os, moment)

    def killed_at_the_third(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)

    (tmp_path / ".notes.tmp").write_text("somebody's own hidden file")
    with monkeypatch.context() as patch:
        patch.setattr(os, moment, killed_at_the_third)
        ended, _ = in_child(lambda: write_batch(make(), tmp_path))
    assert not ended
    assert len(list(tmp_path.glob(".tfbind8-*"))) == 3  # written before the third, or not yet renamed
    paths = write_batch(make(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".notes.tmp", *(path.name for path in paths.values())}


def test_an_export_leaves_alone_what_another_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make(), replace(make(), round=3)
    real, calls = os.fsync, []

    def meanwhile(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 4:
            write_batch(second, tmp_path)
        real(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_batch(first, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {**render(first), **render(second)}


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BatchError, match=r"out: cannot be written: .*choose another folder"):
        write_batch(make(), tmp_path / "out")
    with pytest.raises(BatchError, match="cannot be written"):
        write_batch(make(), tmp_path / "out" / "deeper")


def test_a_design_column_named_like_one_of_labloops_own_is_refused() -> None:
    with pytest.raises(BatchError, match=r"design columns well have names .* rename these parameters"):
        make(space=DesignSpace(parameters=(Sequence(name="well", length=8),)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: {"picks": b.picks.iloc[1:]}, "needs a well, all of them equally many"),
        (lambda b: {"wells": b.wells.iloc[1:]}, "needs a well, all of them equally many"),
        (lambda b: {"designs": b.designs.iloc[1:]}, "designs must hold"),
        (lambda b: {"picks": b.picks.drop(columns="lcb")}, "columns are missing: lcb"),
        (lambda b: {"arms": ("offline",)}, "not among offline"),
        (lambda b: {"shape": (6, 10)}, "outside plates of 6 x 10"),
        (lambda b: {"manifest": {"files": {}}}, "written by write_batch"),
    ],
    ids=["pick", "well", "design", "column", "arm", "shape", "manifest"],
)
def test_tables_that_do_not_fit_together_are_a_programmers_mistake(change: Any, message: str) -> None:
    batch = make()
    with pytest.raises(ValueError, match=message):
        replace(batch, **change(batch))


@settings(max_examples=15, deadline=None)
@given(
    wells=st.sampled_from([96, 384]), edge=st.sampled_from(["use", "empty"]), plates=st.integers(1, 2), seed=st.integers(0, 99),
    share=st.floats(0.05, 1), both=st.floats(0, 1),
)  # fmt: skip
def test_every_well_of_any_batch_is_in_the_files_once(
    wells: int, edge: Any, plates: int, seed: int, share: float, both: float
) -> None:
    plate = Plate(wells=wells, edge=edge, controls=CONTROLS)
    n = max(int(share * plates * plate.capacity), plates)
    batch = make(plate, plates=plates, n=n, shared=int(both * (n // 2)), seed=seed, layout_seed=seed)
    picks, bench, form = (table(batch, kind) for kind in ("picks", "platemap", "assay"))
    assert len(picks) == picks["design_id"].nunique() == n
    assert len(bench) == len(form) == n + 4 * plates
    assert not bench.duplicated(["plate", "well"]).any()
    joined = picks.merge(bench, on=["plate", "well"], suffixes=("", "_bench"))
    assert len(joined) == n
    assert (joined["dna"] == joined["dna_bench"]).all()
    wanted = batch.picks.groupby("design_id")["arm"].agg(set).to_dict()
    assert {one: set(arms.split("+")) for one, arms in zip(picks["design_id"], picks["arm"], strict=True)} == wanted


def test_a_text_that_takes_long_to_make_is_made_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "ⓥega"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert [cached("one.js", make), cached("one.js", make), cached("two.js", make)] == ["ⓥega"] * 3
    assert len(made) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # in which nothing can be made
    assert [cached("one.js", make), cached("one.js", make)] == ["ⓥega"] * 2
    assert len(made) == 4
