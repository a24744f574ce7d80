"""Batch-wide limits, prices and budgets: every plate keeps them across its arms, and what cannot be is refused early."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fakes import Flat
from test_vessels import COUPLING, ROUND, config, measure, started

from labloop.campaign.checks import check_configs, check_start
from labloop.campaign.facade import Campaign
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import RoundConfig
from labloop.errors import CampaignError, ConfigError, DesignError, MethodError
from labloop.plates.batch import Batch
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.proposing.priced import GainPerPrice
from labloop.proposing.selectors import AsProposed
from labloop.proposing.terms import Terms, cheapest
from labloop.rounds import spending
from labloop.space.design_space import DesignSpace
from labloop.studies.ignored import ignored
from labloop.studies.simulate import simulate

BLOCK = {"wells": 24, "use": 18}
PRICES = {
    "unit": "EUR", "design": 2, "well": 0.5, "parameters": {"base": {"CsOPiv": 4, "CsOAc": 3, "KOPiv": 2}, "loading": 0.1},
}  # fmt: skip


def placed(batch: Batch) -> pd.DataFrame:
    """Wells of designs with their columns."""
    wells = batch.wells.dropna(subset="design_id").reset_index(drop=True)
    return wells.join(batch.designs, on="design_id")


def rounds(**more: object) -> RoundConfig:
    return parse_config({**ROUND, "judge": "fakes:Ridge", **more}, RoundConfig)


def test_a_campaign_on_a_block_of_24_with_18_wells_and_three_temperatures(tmp_path: Path) -> None:
    limits = {"temperature": {"per": "2 columns", "at_most": 1}}
    told = {"prices": PRICES, "budget": {"price": 10_000}}
    run = started(config(plate=BLOCK, limits=limits, rounds=2, **told), tmp_path)
    for number in (1, 2):
        out = tmp_path / f"plate{number}"
        batch = run.propose(rounds(), out=out)
        wells = placed(batch)
        assert len(wells) == 18
        assert wells["row"].max() == 3
        blocks = wells.groupby((wells["column"] - 1) // 2)
        assert (blocks["temperature"].nunique() == 1).all()
        of = batch.picks.set_index("design_id")["arm"]
        for _, block in blocks:  # both arms stand in every block, evenly
            counts = of[of.index.isin(block["design_id"])].value_counts()
            assert counts.get("offline", 0) >= 3
            assert counts.get("free", 0) >= 3
        measure(run, out, number)
        assert run.close() is not None
    assert run.dataset().y.max() > 70
    page = run.report(tmp_path / "report.html").read_text()
    assert "at most 1 value of temperature per 2 columns" in page
    assert "of 10,000 EUR" in page


def test_a_part_too_small_for_a_design_stays_empty(tmp_path: Path) -> None:
    plate = {"wells": 24, "use": ["A1:C4", "A5"], "replicates": 2}
    run = started(config(plate=plate, limits={"temperature": {"per": "2 columns", "at_most": 1}}), tmp_path)
    wells = placed(run.propose(rounds(), out=tmp_path / "plate"))
    assert len(wells) == 12
    assert wells["column"].max() <= 4


def test_levels_are_those_that_the_arms_like_best(tmp_path: Path) -> None:
    """The lab likes 100 degrees, and a judge that has seen enough of it says so."""
    run = started(config(plate=BLOCK, limits={"temperature": {"at_most": 1}}), tmp_path, n=80)
    wells = placed(run.propose(rounds(judge="gp")))
    assert wells["temperature"].nunique() == 1
    assert 85 <= wells["temperature"].iloc[0] <= 115


def test_designs_of_random_that_were_moved_to_a_level_are_not_said_to_be_left_to_chance(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK, limits={"temperature": {"at_most": 1}}), tmp_path)
    picks = run.propose(rounds()).picks
    moved = picks[(picks["proposer"] == "random") & picks["score"].isna()]
    assert len(moved)
    for one in moved["design_id"]:
        assert "at random" not in run.why(one).said


def test_designs_taken_as_proposed_keep_their_order_and_shares_at_a_level(tmp_path: Path) -> None:
    """The judge may not choose among random designs because they have to be moved."""
    run = started(config(plate=BLOCK, limits={"temperature": {"per": "2 columns", "at_most": 1}}), tmp_path)
    arms = {"free": {"proposers": ["fakes:Near", "random"], "shares": {"fakes:Near": 2}, "pool": 40}}
    picks = run.propose(rounds(arms=arms)).picks
    assert picks["proposer"].value_counts().to_dict() == {"fakes:Near": 12, "random": 6}
    runs = run.ledger.runs(run.name, 1).set_index("proposer")
    offered = run.ledger.pool(run.name, 1, runs.loc["random", "key"]).sort_values("rank").head(7)
    rest = ["base", "solvent", "loading"]
    chosen = run.ledger.designs(run.name, picks.loc[picks["proposer"] == "random", "design_id"].tolist())
    assert set(chosen[rest].itertuples(index=False)) <= set(offered[rest].itertuples(index=False))


def free(limits: dict[str, object], home: Path) -> Campaign:
    """A campaign of an option and a number, of which no two draws are alike by themselves."""
    parameters = [
        {"type": "choice", "name": "solvent", "options": list("abcdef")},
        {"type": "real", "name": "loading", "low": 1, "high": 10},
        {"type": "real", "name": "time", "low": 0, "high": 1, "decimals": 9},
    ]
    told = {"name": "free", "space": {"parameters": parameters}, "objective": {"direction": "max"}, "plate": {"wells": 24}}
    return Campaign.create(parse_config({**told, "limits": limits, "seed": 4}, CampaignConfig), home=home)


@pytest.mark.parametrize("selector", ["as_proposed", "random"])
def test_a_random_draw_has_one_level_of_several(selector: str, tmp_path: Path) -> None:
    """It stood at each of them, so that a plate of 24 wells held six draws."""
    run = free({"solvent": {"per": "plate", "at_most": 4}}, tmp_path)
    arms = {"start": {"proposers": ["random"], "selector": selector, "pool": 60 if selector == "random" else 24}}
    wells = placed(run.propose(parse_config({"arms": arms, "judge": None, "plates": 2}, RoundConfig)))
    assert wells["time"].nunique() == len(wells) == 48
    assert wells.groupby("plate")["solvent"].nunique().tolist() == [4, 4]


def test_a_random_draw_goes_to_the_nearest_of_a_number_s_levels(tmp_path: Path) -> None:
    run = free({"loading": {"per": "plate", "at_most": 3}}, tmp_path)
    wells = placed(run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)))
    offered = run.ledger.pool(run.name, 1, run.ledger.runs(run.name, 1)["key"].iloc[0]).set_index("time")["loading"]
    levels = wells["loading"].unique()
    assert len(levels) == 3
    assert wells["time"].nunique() == 24
    for time, loading in zip(wells["time"], wells["loading"], strict=True):
        if time in offered.index:
            assert loading == min(levels, key=lambda level: abs(level - offered[time]))


def test_two_arms_of_the_same_draws_move_them_alike(tmp_path: Path) -> None:
    run = free({"solvent": {"per": "plate", "at_most": 3}}, tmp_path)
    arms = {name: {"proposers": ["random"], "wells": 12} for name in ("one", "other")}
    batch = run.propose(parse_config({"arms": arms, "judge": None}, RoundConfig))
    designs = batch.designs.loc[batch.picks["design_id"].unique()]
    assert designs["time"].nunique() == len(designs)


def test_draws_of_few_designs_stand_at_several_levels_where_there_are_too_few_otherwise(tmp_path: Path) -> None:
    parameters = [
        {"type": "choice", "name": "solvent", "options": list("abcdef")},
        {"type": "choice", "name": "base", "options": list("xyzuvwts")},
    ]
    told = {"name": "few", "space": {"parameters": parameters}, "objective": {"direction": "max"}, "plate": {"wells": 24}}
    limits = {"solvent": {"per": "plate", "at_most": 3}}
    run = Campaign.create(parse_config({**told, "limits": limits}, CampaignConfig), home=tmp_path)
    wells = placed(run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)))
    assert wells.groupby("solvent")["base"].nunique().tolist() == [8, 8, 8]


def test_arms_share_at_most_so_many_solvents_a_plate_on_every_plate(tmp_path: Path) -> None:
    limits = {"solvent": {"per": "plate", "at_most": 2}, "temperature": {"per": "round", "at_most": 3}}
    run = started(config(plate={"wells": 24}, limits=limits), tmp_path)
    wells = placed(run.propose(rounds(plates=2)))
    assert len(wells) == 48
    assert (wells.groupby("plate")["solvent"].nunique() <= 2).all()
    assert wells["temperature"].nunique() <= 3


@pytest.mark.parametrize(
    "selector",
    [{"beta": {"first": -2.5, "last": 0.0}, "refine": 3}, {"hope": 1.0, "beyond_chance": 1e6}],
    ids=["refined", "by chance"],
)
def test_what_a_selector_finds_by_itself_is_within_a_total_too(selector: dict[str, object], tmp_path: Path) -> None:
    """It would find again what is refused, as often as it is asked."""
    space = {
        "parameters": [
            {"type": "sequence", "name": "tag", "alphabet": "ACGT", "length": 5},
            {"type": "choice", "name": "base", "options": ["x", "y", "z"]},
        ]
    }
    told = {"name": "few", "space": space, "objective": {"assay": "a"}, "assays": {"a": {}}, "plate": {"wells": 24}}
    limits = {"base": {"per": "campaign", "total": {"x": 3}}}
    run = Campaign.create(parse_config({**told, "limits": limits}, CampaignConfig), home=tmp_path)
    space_, rng = run.config.space, np.random.default_rng(0)
    X = space_.sample(40, rng)
    designs = space_.decode(X[space_.fresh(X)][:20])
    start = designs.assign(value=2.0 * (designs["base"] == "x") + rng.normal(size=len(designs)))
    start.to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    arm = {"proposers": "gp_mean", "selector": {"conservative": selector}, "pool": 200}
    batch = run.propose(parse_config({"arms": {"m": arm}, "judge": {"auto": {"members": ["pairwise"]}}}, RoundConfig))
    wells = placed(batch)
    assert len(wells) == 24
    assert (wells["base"] == "x").sum() <= 3


def test_totals_hold_for_a_plate_a_round_and_the_campaign(tmp_path: Path) -> None:
    limits = {
        "loading": {"per": "round", "total": 60},
        "base": [{"per": "campaign", "total": {"CsOPiv": 5}}, {"per": "plate", "total": {"KOPiv": 4}}],
    }
    run = started(config(plate={"wells": 24, "use": 20}, limits=limits), tmp_path)
    held = []
    for number in (1, 2):
        out = tmp_path / f"plate{number}"
        wells = placed(run.propose(rounds(), out=out))
        assert len(wells) == 20
        assert wells["loading"].sum() <= 60 + 1e-9
        assert (wells["base"] == "KOPiv").sum() <= 4
        held.append((wells["base"] == "CsOPiv").sum())
        measure(run, out, number)
    assert 0 < sum(held) <= 5


@pytest.mark.parametrize("judge", ["fakes:Ridge", None])
@pytest.mark.parametrize("kind", ["total", "price"])
def test_a_plate_is_found_down_to_the_least_that_its_levels_allow(tmp_path: Path, judge: str | None, kind: str) -> None:
    """Two temperatures have twelve designs that take 1, and twelve that take 1.1: 25.2 together."""
    parameters = [
        {"type": "choice", "name": "solvent", "options": ["a", "b", "c"]},
        {"type": "choice", "name": "base", "options": ["x", "y"]},
        {"type": "real", "name": "loading", "low": 1, "high": 3, "step": 0.1},
        {"type": "integer", "name": "temperature", "low": 1, "high": 8},
    ]
    arms = {"offline": {"proposers": "fakes:Near", "selector": "conservative" if judge else "as_proposed"},
            "free": {"proposers": "random"}}  # fmt: skip
    for total, found in ((25.2, True), (26.2, True), (25.1, False)):
        limits: dict[str, object] = {"temperature": {"per": "plate", "at_most": 2}}
        money: dict[str, object] = {}
        if kind == "total":
            limits["loading"] = {"per": "plate", "total": total}
        else:
            money = {"prices": {"unit": "EUR", "parameters": {"loading": 1}}, "budget": {"price": total}}
        told = {"name": "least", "space": {"parameters": parameters}, "plate": {"wells": 24}, "limits": limits, **money}
        run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path / str(total))
        designs = run.config.space.decode(run.config.space.listing())
        designs = designs[designs["loading"] > 1.5].sample(40, random_state=0)
        designs.assign(value=np.arange(40.0)).to_csv(tmp_path / "start.csv", index=False)
        run.ingest(tmp_path / "start.csv")
        asked = parse_config({"arms": arms, "judge": judge}, RoundConfig)
        if not found:
            with pytest.raises((MethodError, CampaignError), match="limits leave"):
                run.propose(asked)
            continue
        batch = run.propose(asked)
        wells = placed(batch)
        assert len(wells) == 24
        assert wells["loading"].sum() <= total + 1e-9
        assert wells["temperature"].nunique() <= 2
        assert set(batch.picks["arm"]) == {"offline", "free"}


@pytest.mark.parametrize("total", [24.6, 25.2])
def test_a_plate_of_blocks_is_found_near_their_least_where_what_is_left_goes_to_few(tmp_path: Path, total: float) -> None:
    """Each of three blocks has a temperature, of which six designs take 1 and six 1.1: 24.6 together."""
    parameters = [
        {"type": "choice", "name": "solvent", "options": ["a", "b", "c"]},
        {"type": "choice", "name": "base", "options": ["x", "y"]},
        {"type": "real", "name": "loading", "low": 1, "high": 3, "step": 0.1},
        {"type": "integer", "name": "temperature", "low": 1, "high": 8},
    ]
    limits = {"temperature": {"per": "2 columns", "at_most": 1}, "loading": {"per": "round", "total": total}}
    told = {"name": "x", "space": {"parameters": parameters}, "plate": {"wells": 24}, "limits": limits}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    designs = run.config.space.decode(run.config.space.listing())
    designs = designs[designs["loading"] > 1.5].sample(40, random_state=0)
    designs.assign(value=np.arange(40.0)).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    offline = {"proposers": "fakes:Near", "selector": "conservative"}
    arms = {"o": offline, "f": {"proposers": "random"}, "g": {"proposers": "mutate"}}
    wells = placed(run.propose(parse_config({"arms": arms, "judge": "fakes:Ridge"}, RoundConfig)))
    assert (len(wells), wells["loading"].sum() <= total + 1e-9) == (24, True)


def test_a_selector_that_cannot_choose_gets_no_plate_of_what_takes_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it stumbled over, its wells were filled with the cheapest designs, however much was left."""
    select = AsProposed.select

    def stumbling(self: AsProposed, pool: Pool, *given: object, **more: object) -> object:
        if len(pool) > 30:
            raise MethodError("too many to choose among")
        return select(self, pool, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(AsProposed, "select", stumbling)
    parameters = [*COUPLING["space"]["parameters"][:3], {"type": "integer", "name": "temperature", "low": 60, "high": 70}]
    told = {"space": {"parameters": parameters}, "prices": {"parameters": {"loading": 1}}, "budget": {"price": 10_000}}
    run = started(config(plate={"wells": 24}, **told), tmp_path)
    with pytest.raises(MethodError, match="too many to choose among; the campaign's limits leave these"):
        run.propose(parse_config({"arms": {"a": {"proposers": "random", "pool": 120}}, "judge": None}, RoundConfig))


def test_replicates_of_a_design_stay_in_their_part(tmp_path: Path) -> None:
    limits = {"temperature": {"per": "2 columns", "at_most": 1}}
    run = started(config(plate={**BLOCK, "replicates": 3}, limits=limits), tmp_path)
    wells = placed(run.propose(rounds()))
    assert (wells["design_id"].value_counts() == 3).all()
    assert len(wells) == 18
    assert (wells.groupby((wells["column"] - 1) // 2)["temperature"].nunique() == 1).all()


def test_a_first_plate_without_a_judge_keeps_limits(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK, limits={"temperature": {"per": "plate", "at_most": 1}}), tmp_path)
    wells = placed(run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)))
    assert len(wells) == 18
    assert wells["temperature"].nunique() == 1


@pytest.mark.parametrize(
    "temperature",
    [{"type": "choice", "options": [60, 80, 100]}, {"type": "integer", "low": 60, "high": 120}],
    ids=["options", "numbers"],
)
def test_a_first_plate_without_a_judge_spreads_over_the_levels(tmp_path: Path, temperature: dict[str, object]) -> None:
    parameters = [*config().model_dump()["space"]["parameters"][:3], {**temperature, "name": "temperature"}]
    limits = {"temperature": {"per": "2 columns", "at_most": 1}}
    run = Campaign.create(config(space={"parameters": parameters}, plate=BLOCK, limits=limits), home=tmp_path)
    wells = placed(run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)))
    zones = wells.groupby((wells["column"] - 1) // 2)["temperature"]
    assert (zones.nunique() == 1).all()
    assert wells["temperature"].nunique() == 3
    assert wells["temperature"].astype(int).agg(np.ptp) >= 40
    assert not wells.duplicated(["base", "solvent", "loading"]).any(), "a design that is moved comes once, not once a level"


def test_what_is_out_of_stock_is_not_proposed_until_it_is_there_again(tmp_path: Path) -> None:
    without = config(plate=BLOCK, limits={"base": {"out_of_stock": ["CsOPiv", "KOPiv"]}})
    run = started(without, tmp_path)
    assert {"CsOPiv", "KOPiv"} & set(run.config.space.decode(run.dataset().X)["base"]) == set()  # drawn from what is there
    out = tmp_path / "out"
    wells = placed(run.propose(rounds(), out=out))
    assert set(wells["base"]) <= {"KOAc", "CsOAc"}
    measure(run, out, 1)
    assert CampaignConfig.model_validate_json(run.config.model_dump_json()) == run.config
    told = run.revise(config(plate=BLOCK), reason="came in")
    assert any("withdrawn" in one for one in told)
    assert {"CsOPiv", "KOPiv"} & set(placed(run.propose(rounds()))["base"])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"heat": {"at_most": 1}}, "has no such parameter or component; it has base, solvent"),
        ({"base": {"per": "plate"}}, "says nothing"),
        ({"base": []}, r"limits\.base: says nothing of a limit"),
        ({"base": {"per": "shelf", "at_most": 1}}, "'shelf' is no part of a campaign"),
        ({"base": {"at_most": 0}}, "write at least 1, not 0"),
        ({"base": {"per": "campaign", "at_most": 2}}, "use total for a campaign"),
        ({"base": {"total": 12}}, "of a choice name options"),
        ({"base": {"total": {"NaOH": 12}}}, "NaOH is no option of it; there are KOAc"),
        ({"loading": {"total": {"KOAc": 1}}}, "has no options"),
        ({"base": {"out_of_stock": ["KOAc", "KOPiv", "CsOAc", "CsOPiv"]}}, "leaves no option"),
        ({"base": {"atmost": 2}}, "unknown key"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_its_key(limits: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(limits=limits)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prices": {"parameters": {"heat": 1}}}, "has no such parameter"),
        ({"prices": {"parameters": {"base": 1}}}, "a price for each option"),
        ({"prices": {"parameters": {"base": {"NaOH": 1}}}}, "NaOH is no option"),
        ({"prices": {"parameters": {"loading": {"KOAc": 1}}}}, "takes one number"),
        ({"budget": {}}, "says nothing"),
        ({"budget": {"price": 10}}, "needs prices"),
        ({"budget": {"wells": 0}}, "write at least 1, not 0"),
    ],
)
def test_prices_and_budgets_that_make_no_sense_are_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"limits": {"loading": {"total": 20}}}, "loading: 24 designs take at least 24, more than 20 per plate"),
        ({"limits": {"solvent": {"at_most": 1}}, "narrow": True}, r"at most 1 value per plate leave 20 designs for 24"),
        ({"narrow": True, "plate": {"wells": 96}}, "96 wells but only 80 designs of this space are neither measured nor pending"),
        ({"budget": {"wells": 20}}, "20 are fewer than the 24 of one round"),
        ({"budget": {"price": 50}, "prices": PRICES}, "price: 24 designs take at least 62.4, more than 50"),
        (
            {"limits": {"base": {"per": "3 columns", "at_most": 1}}, "plate": {"wells": 24, "use": 22, "replicates": 11}},
            "multiples of replicates",
        ),
    ],
)  # fmt: skip
def test_check_refuses_what_no_batch_can_keep(tmp_path: Path, more: dict[str, object], message: str) -> None:
    space = {"parameters": [{"type": "choice", "name": "solvent", "options": ["DMAc", "BuCN", "BuOAc", "xylene"]},
                            {"type": "integer", "name": "temperature", "low": 1, "high": 20}]}  # fmt: skip
    told = {**COUPLING, "plate": {"wells": 24}, **more}
    if told.pop("narrow", False):
        told["space"] = space
    campaign, round_ = tmp_path / "c.yaml", tmp_path / "r.yaml"
    campaign.write_text(yaml.safe_dump(told))
    round_.write_text(yaml.safe_dump({"arms": {"free": {"proposers": ["random"]}}, "judge": None}))
    with pytest.raises(ConfigError, match=message) as caught:
        check_configs(campaign, round_)
    assert str(caught.value).startswith(f"{campaign}: ")


def test_check_names_the_file_of_a_round_that_asks_for_more_wells_than_there_are(tmp_path: Path) -> None:
    campaign, round_ = tmp_path / "c.yaml", tmp_path / "r.yaml"
    campaign.write_text(yaml.safe_dump({**COUPLING, "plate": {"wells": 24}}))
    round_.write_text(yaml.safe_dump({"arms": {"free": {"proposers": ["random"], "wells": 25}}, "judge": None}))
    with pytest.raises(ConfigError, match=r"r\.yaml: arms ask for 25 wells"):
        check_configs(campaign, round_)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (4, "4 measured designs, too few for a judge to learn from: measure 1 more"),
        (57, "24 wells but only 23 designs of this space are neither measured nor pending"),
        (56, None),
    ],
)
def test_check_says_whether_a_round_could_begin_with_the_start_file(tmp_path: Path, n: int, message: str | None) -> None:
    space = {"parameters": [{"type": "choice", "name": "s", "options": ["a", "b", "c", "d"]},
                            {"type": "integer", "name": "t", "low": 1, "high": 20}]}  # fmt: skip
    campaign, round_, data = tmp_path / "c.yaml", tmp_path / "r.yaml", tmp_path / "start.csv"
    told = {"name": "few", "space": space, "plate": {"wells": 24}}
    campaign.write_text(yaml.safe_dump(told))
    round_.write_text(yaml.safe_dump({"arms": {"free": {"proposers": ["random"]}}, "judge": "gp"}))
    every = parse_config(told, CampaignConfig).space
    every.decode(every.listing())[:n].assign(value=np.arange(float(n))).to_csv(data, index=False)
    start, refusal = check_start(campaign, data, round_)
    assert start["lacks"] == (None if message is None else str(refusal))
    assert (message or "None") in str(refusal)
    assert check_start(campaign, data)[1] is None


def test_a_price_below_which_no_design_is_counts_letters_and_components(tmp_path: Path) -> None:
    space = {
        "parameters": [
            {"type": "sequence", "name": "dna", "alphabet": "ACGT", "length": [18, 20]},
            {"type": "choice", "name": "host", "options": ["a", "b"]},
            {"type": "mixture", "name": "m", "components": ["x", "w"], "step": 0.1},
        ]
    }
    prices = {"unit": "EUR", "design": 1, "parameters": {"dna": 0.5, "host": {"a": 3, "b": 2}, "x": 4, "w": 6}}
    told = {"name": "dear", "space": space, "plate": {"wells": 24, "replicates": 2}, "prices": prices, "budget": {"price": 260}}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    assert cheapest(run.config.prices, run.config.space, 2) == 1 + 18 * 0.5 + 2 * (2 + 4)
    with pytest.raises(CampaignError, match="round 1 of dear costs at least 264 EUR, but 0 of the budget's 260 EUR are spent"):
        run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig))
    assert not len(run.ledger.rounds(run.name))


def test_check_tells_limits_prices_and_budget(tmp_path: Path) -> None:
    place = tmp_path / "c.yaml"
    limits = {"temperature": {"per": "2 columns", "at_most": 1}, "base": {"total": {"KOAc": 5}, "per": "round"}}
    place.write_text(yaml.safe_dump({**COUPLING, "limits": limits, "prices": PRICES, "budget": {"wells": 400, "price": 5000}}))
    told = check_configs(place)
    assert told["limits"] == [
        "Limit: KOAc of base in at most 5 wells per round", "Limit: at most 1 value of temperature per 2 columns",
    ]  # fmt: skip
    assert told["costs"] == ["Price: a design costs at least 2.6 EUR", "Budget: 400 wells, 5,000 EUR in all"]


def test_a_budget_of_wells_counts_and_refuses_the_round_beyond_it(tmp_path: Path) -> None:
    plate = {"wells": 24, "controls": [{"name": "blank", "wells": 2}]}
    run = started(config(plate=plate, budget={"wells": 50}, rounds=5), tmp_path)
    for number in (1, 2):
        out = tmp_path / f"plate{number}"
        run.propose(rounds(), out=out)
        measure(run, out, number)
    assert run.status()["spent"] == {"wells": 48, "price": None, "unit": "", "budget_wells": 50, "budget_price": None}
    with pytest.raises(CampaignError, match=r"round 3 of coupling takes 24 wells, but 48 of the budget's 50 are spent: .*revise"):
        run.propose(rounds())
    assert len(run.ledger.rounds(run.name)) == 2
    assert run.status()["next"].startswith("another full plate takes 24 wells, but 48 of the budget's 50 are spent: take fewer")
    run.revise(config(plate=plate, budget={"wells": 72}, rounds=5), reason="more money")
    assert run.status()["next"].startswith("propose round 3")
    assert len(run.propose(rounds()).wells) == 24


def test_a_scheduled_campaign_waits_for_a_person_where_its_budget_ends(tmp_path: Path) -> None:
    """Its step was refused at every look of the clock, and its status told to do that step."""
    plate = {"wells": 24, "controls": [{"name": "blank", "wells": 2}]}
    schedule = {"rounds": [rounds().model_dump(mode="json")]}
    run = started(config(plate=plate, budget={"wells": 47}, rounds=5, schedule=schedule), tmp_path)
    out = tmp_path / "plate1"
    run.propose(rounds(), out=out)
    measure(run, out, 1)
    assert run.step().action.kind == "close"
    told = "the next round takes 24 wells, but 24 of the budget's 47 are spent: take fewer plates"
    done = run.step()
    assert (done.action.waits_for, done.said.startswith(told)) == ("a person", True)
    assert run.status()["next"] == done.said
    run.revise(config(plate=plate, budget={"wells": 48}, rounds=5, schedule=schedule), reason="more wells")
    assert run.step().action.kind == "open"


def test_files_of_the_inbox_are_taken_in_where_the_next_round_does_not_fit_the_plate(tmp_path: Path) -> None:
    arms = {name: {**arm, "wells": 20} for name, arm in rounds().model_dump(mode="json")["arms"].items()}
    run = started(config(plate={"wells": 24}, rounds=5, schedule={"rounds": [{"arms": arms, "judge": "fakes:Ridge"}]}), tmp_path)
    late = (tmp_path / "start.csv").read_text().splitlines()
    inbox = run.folder / "inbox"
    run.step()
    (inbox / "late.csv").write_text("\n".join([late[0], late[1].rsplit(",", 1)[0] + ",1.5", ""]))
    os.utime(inbox / "late.csv", (0, 0))
    assert run.step(now=datetime.now(UTC) + timedelta(days=1)).action.kind == "ingest"
    done = run.step()
    assert (done.action.waits_for, run.status()["next"]) == ("a person", done.said)
    assert done.said.startswith("the next round does not fit the plate: arms ask for 40 wells")


def test_a_budget_in_money_is_kept_to_the_cent_by_dearer_designs_making_room(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK, prices=PRICES, budget={"price": 130}), tmp_path)
    out = tmp_path / "plate1"
    wells = placed(run.propose(rounds(), out=out))
    parts = {"KOAc": 0, "KOPiv": 2, "CsOAc": 3, "CsOPiv": 4}
    price = float((2.5 + wells["base"].map(parts) + 0.1 * wells["loading"]).sum())
    assert run.status()["spent"]["price"] == pytest.approx(price)
    assert price <= 130
    measure(run, out, 1)
    run.revise(config(plate=BLOCK, prices=PRICES, budget={"price": 135}), reason="less")
    with pytest.raises(CampaignError, match=r"costs at least 46\.8 EUR, but .* of the budget's 135 EUR are spent"):
        run.propose(rounds())
    assert "of 135 EUR" in spending.in_words(run.status()["spent"])


def test_what_was_bought_costs_what_it_did_after_its_option_is_withdrawn_and_prices_rise(tmp_path: Path) -> None:
    plate = {"wells": 6, "controls": [{"name": "blank", "wells": 2}]}
    run = started(config(plate=plate, prices={**PRICES, "well": 1}), tmp_path)
    run.pick(listed(tmp_path, [("CsOPiv", "DMAc", 5.0, 60), ("CsOPiv", "DMAc", 5.0, 90)]), arm="chemist", by="Ada", wells=2)
    run.propose(rounds())
    before = run.status()["spent"]
    bases = [one for one in COUPLING["space"]["parameters"][0]["options"] if one != "CsOPiv"]
    space = {"parameters": [{**COUPLING["space"]["parameters"][0], "options": bases}, *COUPLING["space"]["parameters"][1:]]}
    run.revise(config(plate=plate, space=space, prices={"unit": "EUR", "well": 7}), reason="CsOPiv is gone, all else is dearer")
    assert run.status()["spent"] == {**before, "price_now": 7 * before["wells"]}
    run.revise(
        config(plate=plate, space=space, prices={"unit": "USD", "well": 7}), reason="a currency cannot be added to another"
    )
    assert run.status()["spent"]["price"] == 7 * before["wells"]


def test_a_mistyped_price_is_told_with_what_it_does_to_the_budget(tmp_path: Path) -> None:
    """Rounds keep the prices that they opened with, and nothing said so."""
    budget = {"price": 5000}
    run = started(config(plate=BLOCK, prices={"unit": "EUR", "well": 100}, budget=budget), tmp_path)
    right = config(plate=BLOCK, prices={"unit": "EUR", "well": 1}, budget=budget)
    assert run.revise(right, reason="none is laid out", dry_run=True) == ["prices is changed"]
    run.propose(rounds())
    both = config(plate=BLOCK, prices={"unit": "EUR", "well": 1}, budget={"price": 6782})
    told = run.revise(both, reason="both at once, as was said", dry_run=True)
    assert told[-1].endswith("at these it would be 18 EUR")  # it was told to raise it again
    dear = config(plate=BLOCK, prices={"unit": "EUR", "well": 1000}, budget=budget)
    assert "budget.price" not in "".join(run.revise(dear, reason="more than all of the budget", dry_run=True))
    assert run.revise(right, reason="a slip") == [
        "prices is changed",
        "prices: the rounds so far are counted at those that they opened with, 1,800 EUR; at these it would be 18 EUR: if the "
        "old ones were mistyped, raise budget.price by 1,782 EUR",
    ]
    said = spending.in_words(run.status()["spent"])
    assert said == "18 wells, 1,800 of 5,000 EUR at the prices that rounds opened with (18 at those of now)"


def test_rounds_that_had_no_prices_are_counted_at_the_present_ones(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK), tmp_path)
    run.propose(rounds())
    run.revise(config(plate=BLOCK, prices={"unit": "EUR", "well": 7}), reason="prices are known now")
    assert run.status()["spent"]["price"] == 7 * 18


def test_gain_per_price_takes_what_is_cheap_where_gains_are_alike() -> None:
    run = config(plate=BLOCK, prices=PRICES)
    X = run.space.sample(60, np.random.default_rng(0))
    data = Dataset.from_measurements(run.space, run.space.decode(X[:10]), np.arange(10.0))
    pool = Pool.of(run.space, X[10:], np.zeros(50), proposer="any")
    terms = Terms.of(run, plates=1, seed=0)
    order = {}
    for power in (0, 1):
        rule = GainPerPrice(power=power).priced(terms.price)
        order[power] = terms.price(rule.select(pool, Flat().fit(data, seed=0), data, 50, seed=0).pool.X)
    assert (np.diff(order[1]) >= 0).all()
    assert order[1][:10].mean() < order[0][:10].mean()


@pytest.mark.parametrize(
    "told", [{"limits": {"solvent": {"per": "plate", "at_most": 2}}}, {"budget": {"price": 200}}], ids=["limit", "budget"]
)
def test_gain_per_price_knows_the_prices_within_limits(told: dict[str, object], tmp_path: Path) -> None:
    run = started(config(plate=BLOCK, prices=PRICES, **told), tmp_path)
    arms = {"offline": {"proposers": ["random"], "selector": "gain_per_price", "pool": 50}}
    assert len(run.propose(rounds(arms=arms)).picks) == 18


def test_gain_per_price_needs_prices(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK), tmp_path)
    with pytest.raises(ConfigError, match="gain_per_price needs the campaign's prices"):
        run.propose(rounds(arms={"offline": {"proposers": ["random"], "selector": "gain_per_price", "pool": 50}}))


def test_gain_per_price_needs_a_judge(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK, prices=PRICES), tmp_path)
    with pytest.raises(ConfigError, match="gain_per_price chooses by what a judge says, and this round has none"):
        run.propose(rounds(arms={"offline": {"proposers": ["random"], "selector": "gain_per_price", "pool": 50}}, judge=None))


def test_a_simulation_says_what_of_a_campaign_it_ignores():
    plain = load_config(preset("campaigns/hartmann6.yaml"), CampaignConfig)
    assert ignored(plain, batch=24) == []
    controls = {**BLOCK, "controls": [{"name": "blank", "wells": 2}]}
    assert "controls" in " ".join(ignored(config(plate=controls), batch=18))


class Watched:
    """A lab that keeps what it was asked to measure."""

    def __init__(self, space: DesignSpace) -> None:
        self.space, self.asked = space, list[pd.DataFrame]()

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        self.asked.append(designs)
        noise = np.random.default_rng(seed).normal(size=len(designs))
        return pd.DataFrame({"value": designs["temperature"].to_numpy(float) + noise, "status": "ok"})


def simulated(run: CampaignConfig, lab: Watched, **settings: object) -> pd.DataFrame:
    told: dict[str, object] = {"start": 12, "start_quantile": 1.0, "rounds": 2, "batch": 18, "seeds": 1, "arms": ["random"]}
    found = simulate(run, lab, **{**told, **settings})  # type: ignore[arg-type]
    lab.asked = [one for one in lab.asked if len(one) == told["batch"]]
    return found


def test_a_simulated_batch_keeps_the_limits_and_replicates_of_the_bench() -> None:
    limits = {"temperature": {"per": "2 columns", "at_most": 1}}
    run = config(plate={**BLOCK, "replicates": 3}, limits=limits, prices=PRICES)
    lab = Watched(run.space)
    found = simulated(run, lab)
    assert found["n_wells"].tolist() == [18, 18]
    for wells in lab.asked:
        assert wells.value_counts(list(run.space.columns)).tolist() == [3] * 6
        assert wells["temperature"].nunique() <= 3
    assert run.prices is not None
    once = [one.drop_duplicates() for one in lab.asked]
    assert found["price"].tolist() == pytest.approx([run.prices.of(one, run.space, replicates=3).sum() for one in once])


def test_simulated_rounds_end_when_the_budget_does() -> None:
    run = config(plate=BLOCK, budget={"wells": 40})
    found = simulated(run, Watched(run.space), rounds=3)
    assert found["n_wells"].tolist() == [18, 18, 0]
    assert "36 of the budget's 40 wells are spent" in found["note"].iloc[2]


def test_a_simulated_batch_is_a_whole_number_of_designs() -> None:
    run = config(plate={**BLOCK, "replicates": 4})
    with pytest.raises(ConfigError, match=r"no whole number of designs of 4 wells each .* take a batch of 16"):
        simulated(run, Watched(run.space))


def test_a_level_is_chosen_that_has_designs_left_for_all_arms(tmp_path: Path) -> None:
    """Where few designs have a value, arms that like the same one must not be sent where there is nothing for one of them."""
    space = {
        "parameters": [
            {"type": "real", "name": "temperature", "low": 20, "high": 90, "step": 5},
            {"type": "choice", "name": "solvent", "options": ["DMF", "MeCN", "EtOH", "water"]},
        ]
    }
    limits = {"temperature": {"per": "2 columns", "at_most": 1}}
    told = {"name": "tiny", "space": space, "plate": {**BLOCK, "replicates": 2}, "limits": limits, "rounds": 3}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    every = run.config.space.decode(run.config.space.listing()).sample(20, random_state=3)
    every.assign(value=np.arange(20.0)).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    arms = {"one": {"proposers": ["random"], "wells": 10}, "other": {"proposers": ["fakes:Near"], "wells": 8}}
    for number in (1, 2):  # in a third round fewer than three temperatures have three designs left
        out = tmp_path / f"plate{number}"
        wells = placed(run.propose(parse_config({"arms": arms, "judge": "fakes:Ridge"}, RoundConfig), out=out))
        assert len(wells) == 18
        assert wells["design_id"].nunique() == 9
        assert (wells.groupby((wells["column"] - 1) // 2)["temperature"].nunique() == 1).all()
        measure(run, out, number, lambda designs, seed: designs["temperature"].to_numpy(float))
        assert run.close() is not None


GRID = {
    "parameters": [
        {"type": "choice", "name": "s", "options": ["a", "b", "c"]},
        {"type": "integer", "name": "t", "low": 20, "high": 60},
        {"type": "real", "name": "l", "low": 0.5, "high": 4, "step": 0.5},
    ]
}  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "plate"),
    [
        ({"s": {"per": "round", "at_most": 1}, "t": {"per": "2 columns", "at_most": 2}}, {"rows": 5, "columns": 6}),
        ({"t": {"per": "2 columns", "at_most": 2}, "s": {"per": "round", "at_most": 1}}, {"rows": 5, "columns": 6}),
        ({"s": {"per": "campaign", "total": {"b": 2, "c": 0}}, "t": {"per": "1 row", "at_most": 1}}, {"rows": 5, "columns": 6}),
    ],
    ids=["one solvent", "one solvent last", "little of a solvent"],
)
def test_levels_leave_designs_enough_whatever_else_is_limited(
    limits: dict[str, object], plate: dict[str, int], tmp_path: Path
) -> None:
    told = {"name": "both", "space": GRID, "plate": plate, "limits": limits}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    start = run.config.space.decode(run.config.space.listing()).sample(20, random_state=0)
    start.assign(value=np.arange(20.0)).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    assert len(placed(run.propose(rounds()))) == plate["rows"] * plate["columns"]


def test_a_level_of_the_whole_round_has_designs_left_for_all_its_parts(tmp_path: Path) -> None:
    """The judge likes a solvent of which all but a dozen designs were measured."""
    limits = {"s": {"per": "round", "at_most": 1}, "t": {"per": "1 row", "at_most": 5}}
    told = {"name": "both", "space": GRID, "plate": {"rows": 5, "columns": 6}, "limits": limits}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    every = run.config.space.decode(run.config.space.listing())
    start = pd.concat([every[every["s"] == "a"].sample(316, random_state=0), every[every["s"] == "b"].head(20)])
    start.assign(value=10.0 * (start["s"] == "a")).to_csv(tmp_path / "start.csv", index=False)
    run.ingest(tmp_path / "start.csv")
    assert placed(run.propose(rounds(judge="fakes:Ridge")))["s"].unique().tolist() in (["b"], ["c"])


def test_a_round_that_no_batch_was_found_for_says_how_to_go_on(tmp_path: Path) -> None:
    """Each limit can be kept, but not both: the eight loadings of one solvent at one temperature are no plate."""
    both = {"s": {"per": "round", "at_most": 1}, "t": {"per": "2 columns", "at_most": 1}}
    told = {"name": "both", "space": GRID, "plate": {"rows": 5, "columns": 6}, "limits": both}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    first = parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)
    advice = (
        "leave 8 designs for the 10 that A01 to E02 of plate 1 still takes: .* after labloop revise, close it .labloop close both"
    )
    with pytest.raises(MethodError, match=advice):
        run.propose(first)
    run.revise(parse_config({**told, "limits": {"t": both["t"]}}, CampaignConfig), reason="any solvent")
    with pytest.raises(MethodError, match=advice):
        run.propose(first)
    run.close(reason="limits")
    assert len(placed(run.propose(first))) == 30


def test_designs_that_take_next_to_nothing_are_looked_for_until_there_are_enough(tmp_path: Path) -> None:
    """Few of all mixtures are without a component, and no proposer offers them."""
    space = {
        "parameters": [
            {"type": "mixture", "name": "m", "components": ["x", "v", "w"], "step": 0.01},
            {"type": "sequence", "name": "tag", "alphabet": "ACGT", "length": 8},
        ]
    }
    told = {"name": "dear", "space": space, "plate": {"wells": 24}, "limits": {"x": {"per": "round", "total": 0.05}}}
    run = Campaign.create(parse_config(told, CampaignConfig), home=tmp_path)
    wells = placed(run.propose(parse_config({"arms": {"start": {"proposers": ["random"]}}, "judge": None}, RoundConfig)))
    assert len(wells) == 24
    assert wells["x"].sum() <= 0.05 + 1e-9


# ---- lists by hand


def listed(tmp_path: Path, rows: list[tuple[str, str, float, int]]) -> Path:
    path = tmp_path / "mine.csv"
    pd.DataFrame(rows, columns=["base", "solvent", "loading", "temperature"]).to_csv(path, index=False)
    return path


def test_a_list_by_hand_that_keeps_the_limits_is_an_arm_of_a_batch_that_keeps_them(tmp_path: Path) -> None:
    limits = {"temperature": {"per": "2 columns", "at_most": 1}, "base": {"per": "plate", "total": {"KOPiv": 5}}}
    run = started(config(plate=BLOCK, limits=limits, rounds=2), tmp_path)
    rows = [("KOPiv", "DMAc", 3.0, 61), ("KOPiv", "BuCN", 4.0, 61), ("KOAc", "BuCN", 5.0, 77), ("CsOAc", "DMAc", 6.0, 61)]
    run.pick(listed(tmp_path, rows), arm="chemist", by="Ada")
    batch = run.propose(rounds())
    wells = placed(batch)
    assert len(wells) == 18
    assert (wells.groupby((wells["column"] - 1) // 2)["temperature"].nunique() == 1).all()
    assert (wells["base"] == "KOPiv").sum() <= 5
    mine = batch.picks[batch.picks["arm"] == "chemist"]
    assert [tuple(row) for row in batch.designs.loc[mine["design_id"], ["temperature", "loading"]].to_numpy()] == [
        (temperature, loading) for _, _, loading, temperature in rows
    ]
    assert set(wells["temperature"]) >= {61, 77}
    assert mine["mean"].notna().all()


def test_a_list_by_hand_beyond_the_limits_is_refused_by_row(tmp_path: Path) -> None:
    limits = {"temperature": {"per": "plate", "at_most": 2}, "base": {"per": "plate", "total": {"KOPiv": 1}}}
    run = started(config(plate=BLOCK, limits=limits, rounds=2), tmp_path)
    rows = [("KOPiv", "DMAc", 3.0, 61), ("KOPiv", "BuCN", 4.0, 61), ("KOAc", "BuCN", 5.0, 77), ("CsOAc", "DMAc", 6.0, 90)]
    with pytest.raises(DesignError) as caught:
        run.pick(listed(tmp_path, rows), arm="chemist", by="Ada")
    assert [fault.row for fault in caught.value.faults] == [3, 5]
    assert "takes 1 of base KOPiv, more than those before it" in str(caught.value)
    assert "temperature 90 is one value more than the 2 that a plate may have of temperature" in str(caught.value)


def test_a_list_by_hand_keeps_the_budget_of_money(tmp_path: Path) -> None:
    run = started(config(plate=BLOCK, prices=PRICES, budget={"price": 18 * 2.5 + 12}, rounds=2), tmp_path)
    dear = [("CsOPiv", "DMAc", 10.0, 60 + i) for i in range(4)]
    with pytest.raises(
        DesignError, match="more than those before it, and the least that all others take, leave of 57 for the bud"
    ):
        run.pick(listed(tmp_path, dear), arm="chemist", by="Ada")
    run.pick(listed(tmp_path, dear[:1]), arm="chemist", by="Ada")
    batch = run.propose(rounds())
    assert spending.spent(run).price <= 57 + 1e-9
    assert (batch.picks["arm"] == "chemist").sum() == 1
