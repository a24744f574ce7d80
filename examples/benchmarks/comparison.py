"""How often equal arms get a winner, how often unequal ones get the right one, and how often each interval covers the truth.

    python examples/benchmarks/comparison.py --repetitions 1000

No training: wells are drawn, and the very tests that `labloop compare` runs are asked after every round. A campaign counts as
"winner" if any look ever names one: any round's plates by themselves, all plates so far together, or the arms. Where arms differ
from round to round ("shift"), the designs on a plate do differ in worth, so there only verdicts on the arms can be false.

`--trained` runs one method twice in campaigns that share nothing but the lab, each with a start of its own, and asks which of the
two "arms" is better (minutes).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labloop.compare import measures
from labloop.compare.differences import _against, allowed
from labloop.compare.measures import Found
from labloop.compare.pairs import Pair, RoundPair, chosen, pair_of
from labloop.compare.plan import Plan
from labloop.compare.prospect import Spread, next_plate
from labloop.compare.statistics import Draws, holm, mean_limits, wilson
from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, preset
from labloop.config.round import RoundConfig
from labloop.seeds import derive
from labloop.studies.simulate import _Loop, draw_start, open_lab

Wells = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def lognormal(rng: np.random.Generator, n: int) -> np.ndarray:
    """With a standard deviation of one."""
    return rng.lognormal(size=n) / 2.1612


def limited(rng: np.random.Generator, n: int) -> np.ndarray:
    """Values that crowd below the highest possible one, as shares that are nearly reached do."""
    return rng.beta(2, 0.6, size=n)


@dataclass(frozen=True)
class Setting:
    """A campaign of arms of equal worth, but for `better`."""

    name: str
    rounds: int = 4
    arms: int = 2
    wells: tuple[int, ...] = (24, 24, 24)
    shift: float = 0.0
    """Standard deviation of each arm's own luck in each round."""
    shared: float = 0.0
    """Share of the designs that the arms have in common."""
    stay: float = 1.0
    """Chance that an arm takes part in a round."""
    out: float = 0.0
    """Share of each plate that is out at a first look; the worst wells come last."""
    fade: float = 0.0
    """How much the last of 80 wells is worse than the first."""
    left: int | None = None
    """Wells of the first arm in each round that are not lost; None for all."""
    draw: Wells = normal
    better: float = 0.0
    """By how many standard deviations the first arm is better."""


SETTINGS = (
    Setting("equal arms, 4 looks"),
    Setting("equal arms, 10 looks", rounds=10),
    Setting("three arms, 4 looks", arms=3),
    Setting("16 against 80 wells, later choices worse", wells=(16, 80), fade=1.0),
    Setting("arms come and go (each in half the rounds), 10 looks", rounds=10, arms=3, stay=0.5),
    Setting("half the designs shared", shared=0.5),
    Setting("lognormal values", draw=lognormal),
    Setting("one arm lost 22 of its 24 wells", left=2),
    Setting("one arm lost 19 of its 24 wells", left=5),
    Setting("half the plate out at a first look", out=0.5),
    Setting("a tenth of the plate out at a first look", out=0.1),
    Setting("arm-by-round shift .2 sd, 4 looks", shift=0.2),
    Setting("arm-by-round shift .5 sd, 4 looks", shift=0.5),
    Setting("arm-by-round shift .2 sd, 10 looks", shift=0.2, rounds=10),
    Setting("arm-by-round shift .5 sd, 10 looks", shift=0.5, rounds=10),
)


def blocks(setting: Setting, number: int, rng: np.random.Generator) -> dict[tuple[int, int], tuple[RoundPair, RoundPair]]:
    """Draw a round: for each pair of arms the block as it comes in at first, and as it is in the end."""
    here = [arm for arm in range(setting.arms) if rng.random() < setting.stay]
    level = rng.normal()
    y: dict[int, np.ndarray] = {}
    for arm in here:
        n = setting.wells[arm]
        worth = level + setting.shift * rng.normal() + setting.better * (arm == 0)
        y[arm] = worth + setting.draw(rng, n) - setting.fade * np.arange(n) / 80
    common = int(setting.shared * min(setting.wells))
    same = level + setting.draw(rng, common)
    found = {}
    for i, first in enumerate(here):
        for second in here[i + 1 :]:
            depth = min(setting.wells[first], setting.wells[second])
            own = tuple(y[arm][: (setting.left or depth) if arm == 0 else depth][: depth - common] for arm in (first, second))
            wells = setting.wells[first], setting.wells[second]
            whole = RoundPair((own[0], own[1]), same, number=number, wells=wells)
            late = [round(setting.out * w) for w in wells]
            early = [np.sort(part)[round(setting.out * len(part)) :] for part in own]
            found[first, second] = (
                RoundPair((early[0], early[1]), same, number=number, wells=wells, out=(late[0], late[1])),
                whole,
            )
    return found


def looks(setting: Setting, rng: np.random.Generator, plan: Plan) -> dict[str, bool]:
    """Run a campaign and say which kinds of verdict ever named a winner."""
    said = {"plates": False, "arms": False, "first plate": False}
    before: dict[tuple[int, int], list[RoundPair]] = {}
    for number in range(1, setting.rounds + 1):
        drawn = blocks(setting, number, rng)
        for stage in (0, 1) if setting.out else (1,):
            now = {pair: made[stage] for pair, made in drawn.items()}
            pairs = [
                chosen(Pair(str(a), str(b), (*before.get((a, b), ()), *((now[a, b],) if (a, b) in now else ()))), plan.share)
                for a, b in before.keys() | now.keys()
            ]
            alone = [chosen(Pair(str(a), str(b), (block,)), plan.share) for (a, b), block in now.items()]
            if named(alone, plan, "plates", [number]):
                said["plates"] = True
                said["first plate"] |= number == 1
            if number > 1:
                said["plates"] |= named(pairs, plan, "plates", range(1, number + 1))
                lasting = [pair for pair in pairs if len(pair.blocks) >= 3]
                said["arms"] |= named(lasting, plan, "arms", range(1, number + 1))
        for pair, made in drawn.items():
            before.setdefault(pair, []).append(made[1])
    return said


def named(pairs: Sequence[Pair], plan: Plan, scope: str, rounds: Sequence[int]) -> bool:
    """Whether a look names a winner, as `labloop.compare.differences` decides."""
    of = measures.arms if scope == "arms" else measures.plates
    found = [of(pair) for pair in pairs]
    ps = holm([gap.p for gap in found])
    return any(
        not pair.refused and np.isfinite(gap.low) and p <= allowed(plan, scope, rounds, waiting=pair.waiting)  # type: ignore[arg-type]
        for pair, gap, p in zip(pairs, found, ps, strict=True)
    )


def winners(repetitions: int, settings: Sequence[Setting] = SETTINGS) -> pd.DataFrame:
    rows = []
    for setting in settings:
        plan = Plan(rounds=setting.rounds)
        said = [looks(setting, np.random.default_rng([i, 1]), plan) for i in range(repetitions)]
        false = [one["arms"] or (one["plates"] and not setting.shift) for one in said]
        plates = np.mean([one["plates"] for one in said])
        row = {"equal arms": setting.name, "of plates": plates, "of arms": np.mean([one["arms"] for one in said])}
        rows.append({**row, "false winners": np.mean(false), "interval": between(sum(false), len(false))})
    return pd.DataFrame(rows)


def power(repetitions: int) -> pd.DataFrame:
    rows = []
    for rounds in (4, 6, 10):
        for shift in (0.0, 0.2, 0.5):
            setting = Setting("", rounds=rounds, shift=shift, better=1.0)
            said = [looks(setting, np.random.default_rng([i, 2]), Plan(rounds=rounds)) for i in range(repetitions)]
            row: dict[str, object] = {"planned rounds": rounds, "shift": shift}
            rows.append(row | {kind: np.mean([one[kind] for one in said]) for kind in ("first plate", "plates", "arms")})
    return pd.DataFrame(rows)


def coverage(repetitions: int) -> pd.DataFrame:
    """How often 95 % intervals cover the truth: a difference of .5 (of means, top-5 means, hit rates), one arm's own figures.

    Those that resample are asked `repetitions` times, the others ten times as often.
    """
    rows = []
    for name, draw, spread in (
        ("normal", normal, 1.0),
        ("normal, three times the spread", normal, 3.0),
        ("lognormal", lognormal, 1.0),
    ):
        centre = draw(np.random.default_rng(0), 10**6).mean()
        for n in (8, 24):
            bar, big = 1.0 + centre, np.random.default_rng(1)
            over = (draw(big, 10**6) > bar).mean()
            rates = (spread * (draw(big, 10**6) - centre) + 0.5 + centre > bar).mean() - over
            tops = spread * (best(draw, n, big) - centre) + 0.5 + centre - best(draw, n, big)
            hits: dict[str, list[bool]] = {}
            for i in range(10 * repetitions):
                rng = np.random.default_rng([i, 3])
                made = [
                    RoundPair((spread * (draw(rng, n) - centre) + 0.5 + centre, draw(rng, n)), np.empty(0), bar, r)
                    for r in range(5)
                ]
                one, three = Pair("a", "b", (made[0],)), Pair("a", "b", tuple(made[:3]))
                worse = Pair("a", "c", (RoundPair((made[0].own[0], made[1].own[1] - 0.3), np.empty(0), bar),))
                against, _ = _against((one, worse), "plates")
                own = int((made[0].own[1] > bar).sum())
                told = {
                    "means, a plate": (measures.plates(one), 0.5),
                    "means, 3 plates": (measures.plates(three), 0.5),
                    "means, arms (5 rounds)": (measures.arms(Pair("a", "b", tuple(made))), 0.5),
                    "best of 2 baselines": (against, 0.5),
                    "hit rates": (measures.hit_rates(one), rates),
                    "an arm's hit rate": (Found(own / n, *wilson(own, n), 1.0, ""), over),
                }  # fmt: skip
                if i < repetitions:
                    low, high, how = mean_limits([made[0].own[1]], Draws(i, 999))
                    told["an arm's mean"] = Found(0.0, low, high, 1.0, how), centre
                    low, high, how = mean_limits([block.own[1] for block in made[:3]], Draws(i, 999))
                    told["an arm's mean, 3 plates"] = Found(0.0, low, high, 1.0, how), centre
                if i < repetitions and n >= 10:
                    told["top 5"] = measures.top_means(one, 5, Draws(i, 99)), tops
                for kind, (found, truth) in told.items():
                    hits.setdefault(kind, []).append(not (truth < found.low or truth > found.high))
            rows.append({"values": name, "wells": n, **{kind: np.mean(seen) for kind, seen in hits.items()}})
    return pd.DataFrame(rows)


def outlooks(repetitions: int) -> pd.DataFrame:
    """How often the intervals of `labloop plan` hold what comes: a spread (95 %), and what another plate gains (80 %)."""
    rows = []
    for name, draw in (("normal", normal), ("lognormal", lognormal), ("below a limit", limited)):
        sd = draw(np.random.default_rng(0), 10**6).std()
        for n in (8, 24):
            spreads, gains, promised, came = [], [], [], []
            for i in range(repetitions):
                rng = np.random.default_rng([i, 4])
                y = draw(rng, n)
                told = Spread.of(float(y.var(ddof=1)), n - 1, "")
                spreads.append(told.low <= sd <= told.high)
                drawn = next_plate(y, n, float(y.max()), 0.0, seed=i)
                low, high = np.quantile(drawn, [0.1, 0.9])
                promised.append(drawn.mean())
                came.append(max(0.0, draw(rng, n).max() - y.max()))
                gains.append(low <= came[-1] <= high)
            rows.append({
                "values": name, "wells": n, "spread": np.mean(spreads), "gain of a plate": np.mean(gains),
                "promised, sd": np.mean(promised) / sd, "came, sd": np.mean(came) / sd,
            })  # fmt: skip
    return pd.DataFrame(rows)


def best(draw: Wells, n: int, rng: np.random.Generator) -> float:
    """Expected mean of the five best of n."""
    return float(np.sort(draw(rng, 40_000 * n).reshape(-1, n), axis=1)[:, -5:].mean())


def between(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{low:.3f} to {high:.3f}"


def trained(proposer: str, pairs: int, rounds: int, wells: int) -> pd.DataFrame:
    """One method in campaigns with starts of their own, two and two taken for arms of one campaign."""
    rows = []
    for lab in ("tfbind8", "gb1", "utr"):
        picks: dict[int, pd.DataFrame] = {}
        for seed in range(2 * pairs):
            picks[seed] = plates_of(lab, proposer, seed, rounds, wells)
        plan = Plan(rounds=rounds)
        ever = {"plates": 0, "arms": 0}
        for i in range(pairs):
            sides = {"a": picks[2 * i], "b": picks[2 * i + 1]}
            won = {"plates": False, "arms": False}
            for last in range(1, rounds + 1):
                for scope, over in (("plates", [last]), ("plates", range(1, last + 1)), ("arms", range(1, last + 1))):
                    some = {name: mine[mine["round"].isin(list(over))] for name, mine in sides.items()}
                    pair = pair_of(some, "a", "b", share=plan.share)
                    if len(pair.blocks) >= (3 if scope == "arms" else 1):
                        won[scope] |= named([pair], plan, scope, list(over))
            ever = {kind: ever[kind] + won[kind] for kind in ever}
        rows.append(
            {"lab": lab, "method": proposer, "pairs": pairs, "plates that differ": ever["plates"], "arms decided": ever["arms"]}
        )
    return pd.DataFrame(rows)


def plates_of(lab: str, proposer: str, seed: int, rounds: int, wells: int) -> pd.DataFrame:
    """Give every well of one simulated campaign; its seed is the campaign's, so that nothing is shared."""
    found: list[pd.DataFrame] = []

    def watch(arm: str, number: int, got: pd.DataFrame, picks: object) -> None:
        y = campaign.objective.to_y(got["value"].to_numpy(float))
        found.append(pd.DataFrame({
            "round": number, "arm": arm, "design_id": [f"{seed}-{one}" for one in got["design_id"]], "y": y,
            "status": got["status"].to_numpy(), "incumbent": np.nan, "rank": np.arange(len(got)),
        }))  # fmt: skip

    campaign = load_config(preset(f"campaigns/{lab}.yaml"), CampaignConfig)
    one = RoundConfig.model_validate({"arms": {"one": {"proposers": [proposer]}}, "judge": None})
    place = open_lab(lab)
    loop = _Loop(
        campaign=campaign, config=one, lab=place, seed=derive(seed, "one method"), rounds=rounds, batch=wells, watch=watch
    )
    list(loop.run(draw_start(place, 100, seed=derive(seed, "own start"), objective=campaign.objective)))
    return pd.concat(found, ignore_index=True)


def show(table: pd.DataFrame) -> None:
    rows = [[f"{x:.3f}" if isinstance(x, float) else str(x) for x in row] for row in table.itertuples(index=False)]
    for row in (list(table.columns), ["---"] * len(table.columns), *rows):
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="False winners, power and coverage of labloop's comparison")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--trained", metavar="PROPOSER", help="one method in campaigns with starts of their own")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4, help="of the campaigns of --trained")
    parser.add_argument("--wells", type=int, default=24)
    parser.add_argument("--only", default="", help="some of winners, power, coverage, outlooks, with commas between")
    parser.add_argument("--like", default="", help="only settings of false winners with these words in their name")
    args = parser.parse_args()
    if args.like:
        show(winners(args.repetitions, [one for one in SETTINGS if args.like in one.name]))
        return
    if args.trained:
        show(trained(args.trained, args.pairs, args.rounds, args.wells))
        return
    for table in (winners, power, coverage, outlooks):
        if not args.only or table.__name__ in args.only.split(","):
            show(table(args.repetitions))


if __name__ == "__main__":
    main()
