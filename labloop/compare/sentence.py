"""The comparison in words, no stronger than the data: of these plates, until the rounds allow to speak of the arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import scipy  # which loads scipy.stats on first use: it takes a second

from labloop.compare.figures import AgainstFree, ArmSummary, Difference, Figures, spell, spell_apart, whose
from labloop.compare.plan import ROUNDS

LISTED = 4
"""Rounds whose hits are listed one by one."""
MOST_FOLD = 690.0
"""Logarithm of a ratio beyond which it is no number any more."""
MANY_LOST = 0.2
"""Share of wells that an arm may lose beyond another's before a verdict for it is said with a warning."""


def sentence(c: Figures) -> str:
    """Say what is known of the arms of these rounds."""
    if not c.arms:
        return "No wells were picked in these rounds, so there is nothing to compare."
    measured = [arm for arm in c.arms if arm.n_measured]
    total = sum(arm.n_wells for arm in c.arms)
    if not measured:
        return f"{_rounds(c.rounds)}, none of the {total} wells has a value yet, so there is nothing to compare."
    if len(c.arms) == 1:
        return " ".join([_alone(c, c.arms[0]), *_free(c)])
    if len(measured) == 1:
        waiting = _join([arm.arm for arm in c.arms if not arm.n_measured])
        only = measured[0].arm
        return f"{_rounds(c.rounds)}, only {only} has measured wells; nothing can be compared until {waiting} has some too."
    last = max(arm.rounds[-1] for arm in measured)
    here = [arm for arm in measured if arm.rounds[-1] == last]
    gone = [arm for arm in measured if arm not in here]
    if len(here) < 2:
        here, gone = measured, []
    leader = _leader(c, [arm.arm for arm in here])
    rivals = [arm.arm for arm in here if arm.arm != leader]
    said = [*_verdicts(c, leader, rivals), *_limits(c, here)]
    also = [
        f"{first} {_is(c.of(first, second))} {second}{_of_rounds(c, c.of(first, second))}"
        for first in rivals for second in rivals if first != second and _wins(c, first, second)
    ]  # fmt: skip
    if also:
        said.append(f"{_join(also)}.")
    if any(c.of(first.arm, second.arm).scope == "plates" for first in here for second in here if first is not second):
        said.append(_caveat(c, leader, rivals))
    if any(c.of(a.arm, b.arm).decided and c.of(a.arm, b.arm).scope == "arms" for a in here for b in here if a is not b):
        said.append("That is said of this campaign: its rounds go back to one start, and one begun anew may turn it.")
    for arm in gone:
        took = f"{arm.arm} had wells in {_list(arm.rounds)} only"
        won = [other.arm for other in here if _wins(c, arm.arm, other.arm)]
        lost = [other.arm for other in here if _wins(c, other.arm, arm.arm)]
        told = [f"its designs measured {how} than {_of(names)}" for how, names in (("better", won), ("worse", lost)) if names]
        if told:
            said.append(f"{took}, where {_join(told)}.")
        else:
            said.append(f"{took}, and is not told from {_join([other.arm for other in here], 'or')} by what they share.")
    return " ".join([*said, *_losses(c, here), *_free(c), *_hits(c, [arm.arm for arm in here])])


def _limits(c: Figures, here: Sequence[ArmSummary]) -> list[str]:
    """Say how many wells keep the limits, how likely so uneven shares are by chance, and where that takes a verdict away."""
    known = {arm.arm: (arm.n_kept, arm.n_measured) for arm in here if arm.n_kept is not None}
    if not known:
        return []
    p = ""
    if len(known) == 2:
        table = [[kept, n - kept] for kept, n in known.values()]
        p = f" ({_equals(float(scipy.stats.fisher_exact(table).pvalue))} by Fisher's exact test)"
    gaps = [c.of(first.arm, second.arm) for first, second in combinations(here, 2)]
    none = [no_gain(gap.first, gap.second, gap.estimate) for gap in gaps if gap.outweighed and not gap.refused]
    return [f"Wells that keep the limits: {keeping(known)}{p}.", *none]


def keeping(wells: Mapping[str, tuple[int, int]]) -> str:
    """Say by arm how many of its measured wells keep the limits."""
    return _join([f"{kept} of {n} for {arm}" for arm, (kept, n) in wells.items()])


def no_gain(first: str, second: str, estimate: float) -> str:
    """Say that neither of two arms is named, as the lead of one (the first's estimate) is of wells that break a limit."""
    ahead, other = (first, second) if estimate > 0 else (second, first)
    return (
        f"A well that breaks a limit is no gain: with such wells as their round's worst, {whose(ahead)} mean is not "
        f"better than {whose(other)}, so that neither is named."
    )


def _losses(c: Figures, here: Sequence[ArmSummary]) -> list[str]:
    """Warn of a verdict for an arm that lost many more of its wells than the other did."""
    share = {arm.arm: arm.n_failed / arm.n_wells for arm in here}
    said = []
    for arm in here:
        if any(_wins(c, arm.arm, other) and share[arm.arm] - share[other] > MANY_LOST for other in share if other != arm.arm):
            said.append(
                f"But {arm.arm} lost {arm.n_failed} of its {arm.n_wells} wells, which do not count: if its bad designs are those "
                "that failed, that is why."
            )
    return said


def _alone(c: Figures, arm: ArmSummary) -> str:
    half = (arm.mean_value_high - arm.mean_value_low) / 2
    unit = f" {c.objective.unit}" if c.objective.unit else ""
    mean = spell(arm.mean_value, min(half, abs(arm.mean_value)))
    limits = f" (95 % interval {spell(arm.mean_value_low, half)} to {spell(arm.mean_value_high, half)})"
    return (
        f"{_rounds(c.rounds)}, {arm.arm} is the only arm: the mean of its {_count(arm.n_measured)} is "
        f"{mean}{unit}{limits if math.isfinite(half) else ''}. A comparison needs a second arm."
    )


def _leader(c: Figures, names: Sequence[str]) -> str:
    """Of arms in the latest round: whoever wins most, over arms first, then on plates; among equals the better mean."""

    def key(name: str) -> tuple[int, int, float]:
        gaps = [c.of(name, other) for other in names if other != name]
        wins = [gap.scope for gap in gaps if gap.decided and gap.estimate > 0]
        known = [gap.estimate for gap in gaps if math.isfinite(gap.estimate)]
        return wins.count("arms"), wins.count("plates"), sum(known) / len(known) if known else -math.inf

    return max(names, key=key)


def _verdicts(c: Figures, leader: str, rivals: Sequence[str]) -> list[str]:
    """Say how the leader stands to each rival, those together that took part in the same rounds."""
    groups: dict[tuple[str, tuple[int, ...], bool], list[str]] = {}
    for name in rivals:
        gap = c.of(leader, name)
        groups.setdefault((gap.scope, gap.rounds, gap.refused), []).append(name)
    said = []
    for (_, rounds, refused), names in groups.items():
        where = _rounds(rounds) if rounds else _rounds(c.rounds)
        if refused:
            said.append(_waits(c, where, [leader, *names]))
            continue
        beaten = [name for name in names if _wins(c, leader, name)]
        level = [name for name in names if name not in beaten]
        if beaten:
            nearest = min(beaten, key=lambda name: c.of(leader, name).estimate)
            closest = ", its closest rival" if len(beaten) > 1 else ""
            said.append(f"{where}, {_better(c.of(leader, nearest), leader, beaten)}: {_gap(c, leader, nearest, closest)}.")
        if level:
            said += _undecided(
                c, leader, level, "Between" if beaten else f"{where}, the data cannot decide between", bool(beaten)
            )
    return said


def _undecided(c: Figures, leader: str, level: Sequence[str], lead: str, then: bool) -> list[str]:
    rival = max(level, key=lambda name: -abs(c.of(leader, name).estimate) if _known(c, leader, name) else -math.inf)
    said = [f"{lead} {_join([leader, *level])}{' the data cannot decide' if then else ''}: {_gap(c, leader, rival, '')}."]
    gap = c.of(leader, rival)
    if gap.outweighed:  # no number of wells would decide it
        return said
    if gap.bounds:
        said.append(
            "Wells that read beyond the assay's range count at their bounds there; a verdict would have to hold were their truth "
            "as bad as the worst reading, or as good as the best."
        )
    if gap.scope == "plates":
        if gap.wells_needed is not None:
            said.append(_power(gap.wells_needed))
        return said
    if gap.rounds_needed is not None:
        said.append(f"If the true difference is of that size, about {gap.rounds_needed} rounds like these would show it.")
    elif math.isfinite(gap.low) and not gap.bounds:
        said.append("If the true difference is of that size, more than 200 rounds like these would be needed to show it.")
    if told := _on_plates(c, [leader, *level]):
        said.append(
            f"{told} on these plates together: that much is known of the plates, but {len(gap.rounds)} rounds that differ as "
            "these do leave open which arm is better."
        )
    return said


def _on_plates(c: Figures, names: Sequence[str]) -> str:
    """Name the arms whose designs measured better on the plates than another's, where the rounds do not tell the two apart."""
    by: dict[tuple[str, ...], list[str]] = {}
    for worse in names:
        gaps = {name: c.of(name, worse, scope="plates") for name in names if name != worse and not c.of(name, worse).decided}
        if better := tuple(name for name, gap in gaps.items() if gap.decided and gap.estimate > 0):
            by.setdefault(better, []).append(worse)
    parts = [f"{_of(won)} designs did measure better than {_of(lost)}"
             for won, lost in by.items()]  # fmt: skip
    return _join(parts)


def _waits(c: Figures, where: str, names: Sequence[str]) -> str:
    out = [f"{arm.n_pending} of {arm.n_wells} for {arm.arm}" for arm in c.arms if arm.arm in names]
    return (
        f"{where}, there is no verdict yet on {_join(list(names))}: wells are still out ({', '.join(out)}), and a verdict waits "
        f"for {100 * c.plan.share:.0f} % of each arm's, as was fixed beforehand."
    )


def _better(gap: Difference, leader: str, beaten: Sequence[str]) -> str:
    if gap.scope == "arms":
        return f"{leader} is better than {_join(beaten)}"
    return f"{whose(leader)} designs measured better than {_of(beaten)}"


def _is(gap: Difference) -> str:
    return "is better than" if gap.scope == "arms" else "had better designs than"


def _of_rounds(c: Figures, gap: Difference) -> str:
    return "" if gap.rounds == c.rounds or not gap.rounds else f" in {_list(gap.rounds)}"


def _caveat(c: Figures, leader: str, rivals: Sequence[str]) -> str:
    """Say what plates cannot tell."""
    shared = max((len(c.of(leader, name).rounds) for name in rivals if c.of(leader, name).scope == "plates"), default=0)
    plates = {0: "These wells", 1: "One round"}.get(shared, f"{shared} rounds")
    return (
        f"{plates} cannot tell which arm is the better one, as another start or another round may turn that: "
        f"it takes {ROUNDS} rounds or more that both take part in."
    )


def _known(c: Figures, first: str, second: str) -> bool:
    return math.isfinite(c.of(first, second).estimate)


def _wins(c: Figures, first: str, second: str) -> bool:
    gap = c.of(first, second)
    return gap.decided and gap.estimate > 0


def _gap(c: Figures, first: str, second: str, aside: str) -> str:
    """Say by how much the first arm's mean differs from the second's, in the lab's unit."""
    gap = c.of(first, second)
    if not math.isfinite(gap.estimate):
        return f"{first} and {second} share no round with measured wells"
    unit = f" {c.objective.unit}" if c.objective.unit else ""
    what = f"{whose(first)} {_count(gap.n_first)} is"
    against = f"that of {whose(second)} {gap.n_second}{aside}"
    # Folds are said as differences of logarithms are: their sign is the way, their size the fold.
    fold = gap.effect_kind == "ratio"
    effect, low, high = gap.effect, gap.effect_low, gap.effect_high
    if fold:
        one = c.objective.sign * (math.log(10) if c.objective.transform == "log10" else 1.0)
        effect, low, high = one * gap.estimate, *sorted((one * gap.low, one * gap.high))
    half = (high - low) / 2

    def size(x: float) -> str:
        if not fold:
            return spell_apart(abs(x), half)
        if abs(x) > MOST_FOLD:
            return "more than 1e300-fold"
        times = math.exp(abs(x))
        return f"{spell_apart(times, times * min(1.0, half), origin=1.0)}-fold"

    same = size(effect) == size(0.0)
    way = "the same as" if same else f"{size(effect)}{unit if not fold else ''} {'higher' if effect > 0 else 'lower'} than"
    over = f"{'round by round, ' if gap.scope == 'arms' else ''}the {'geometric ' if fold else ''}mean of {what}"
    text = f"{over} {way} {against}"
    if not math.isfinite(half):
        return f"{text}, with no interval ({gap.method.removeprefix('none: ')})"
    if low < 0 < high:
        limits = f"{size(low)} lower to {size(high)} higher"
    else:
        limits = " to ".join(size(x) for x in sorted((low, high), key=abs)) + (" higher" if low >= 0 else " lower")
    return f"{text} (95 % interval {limits}; {_ps(gap)}){_turns(gap)}"


def _ps(gap: Difference | AgainstFree) -> str:
    counted = "" if gap.p_looks >= 1 and gap.p > 0.05 else f", {p_value(gap.p_looks)} with all looks and comparisons counted"
    return f"{_equals(gap.p)}{counted}"


def _equals(p: float) -> str:
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def p_value(p: float) -> str:
    """Give a p-value in two digits; the small ones only as below a thousandth."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _turns(gap: Difference) -> str:
    if len(gap.rounds) < 2:
        return ""
    ahead = len(gap.rounds) - len(gap.behind)
    other = f", the other way in {_list(gap.behind)}" if gap.behind else ""
    return f", so in {ahead} of {len(gap.rounds)} rounds{other}"


def _power(needed: int) -> str:
    if needed > 5_000:
        return "If the true difference is as small as that, more than 5,000 wells an arm would be needed to show it."
    step = 10 ** max(0, len(str(needed)) - 2)
    wells = f"{math.ceil(needed / step) * step:,}"
    return f"If the true difference is of that size, about {wells} wells an arm would show it on a plate."


def _free(c: Figures) -> list[str]:
    """Name the best free baseline, and how the other proposers stand to it: with rounds as the sample where they allow it."""
    if c.best_free is None or not c.against_free:
        return []
    over_rounds = {(one.arm, one.proposer): one for one in c.against_free if one.scope == "arms"}
    on_plates = {(one.arm, one.proposer): one for one in c.against_free if one.scope == "plates"}
    main = list((on_plates | over_rounds).values())
    told = [one for one in main if one.decided]
    waits = [one for one in main if one.refused]
    open_ = [one for one in main if not one.decided and not one.refused]
    several = {one.proposer for one in main if sum(other.proposer == one.proposer for other in main) > 1}

    def names(some: Sequence[AgainstFree]) -> str:
        return _join([f"{one.proposer} ({one.arm})" if one.proposer in several else one.proposer for one in some])

    parts = []
    for one in told:
        word = "better" if one.estimate > 0 else "worse"
        what = f"is {word} than" if one.scope == "arms" else f"had {word} designs than"
        parts.append(f"{names([one])} {what} {one.baseline}, the hardest of them to beat ({_ps(one)})")
    if open_:
        parts.append(f"{names(open_)} {'is' if len(open_) == 1 else 'are'} not told from the best of them")
    if waits:
        parts.append(f"{names(waits)} {'waits' if len(waits) == 1 else 'wait'} for wells that are out")
    said = [f"Of the free baselines {whose(c.best_free)} wells were best; {_join(parts)}."]
    known = [on_plates[one.arm, one.proposer] for one in open_ if one.scope == "arms"]
    if known := [one for one in known if one.decided]:
        on = [
            f"{whose(names([one]))} designs did measure {'better' if one.estimate > 0 else 'worse'} than {whose(one.baseline)} "
            f"({_ps(one)})" for one in known
        ]  # fmt: skip
        many = max(len(one.rounds) for one in known)
        said.append(f"On these plates together {_join(on)}; {many} rounds that differ as these do leave open which is better.")
    return said


def _hits(c: Figures, names: Sequence[str]) -> list[str]:
    """List the hits of arms round by round, as every round had an incumbent of its own."""
    by: dict[int, list[str]] = {}
    for one in c.hits:
        if one.arm in names:
            by.setdefault(one.round, []).append(f"{one.n_hits} of {one.n_measured} for {one.arm}")
    rounds = sorted(by)[-LISTED:]
    if not rounds:
        return []
    if len(c.rounds) == 1:
        return [f"Wells that beat the incumbent: {_join(by[rounds[0]])}."]
    told = "; ".join(f"round {number}, {_join(by[number])}" for number in rounds)
    return [f"Wells that beat their own round's incumbent: {told}."]


def _rounds(rounds: Sequence[int]) -> str:
    if len(rounds) < 2:
        return f"In round {rounds[0]}" if rounds else "So far"
    return f"Over {_list(rounds)}"


def _list(rounds: Sequence[int]) -> str:
    if len(rounds) == 1:
        return f"round {rounds[0]}"
    whole = len(rounds) > 2 and list(rounds) == list(range(rounds[0], rounds[-1] + 1))
    return f"rounds {rounds[0]} to {rounds[-1]}" if whole else f"rounds {_join([str(r) for r in rounds])}"


def _count(n: int) -> str:
    return f"{n} measured well" + ("" if n == 1 else "s")


def _of(names: Sequence[str]) -> str:
    return _join([whose(name) for name in names])


def _join(names: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
