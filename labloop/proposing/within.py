"""A batch within its terms: arms that share a plate share its levels, and nothing is used up beyond its total.

Levels are chosen by the arms' own orders (`labloop.proposing.levels`): a design counts by its place among all that its arm was
offered, and one that has to be moved to a level by where the judge puts it among these. Then every arm's selector chooses among
what is left, as it always does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from labloop.config.round import Arm, RoundConfig
from labloop.errors import MethodError
from labloop.plates.layout import apportion
from labloop.plates.wells import well_name
from labloop.proposing.contracts import asking, picks_of
from labloop.proposing.dataset import Dataset
from labloop.proposing.levels import UNJUDGED, Chooser, Offer, Work, at_levels, together
from labloop.proposing.placed import Placement, as_listed, by_turns
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.priced import selector_of
from labloop.proposing.protocols import Posterior
from labloop.proposing.terms import Terms, narrowed
from labloop.registry import Options
from labloop.seeds import derive, generator
from labloop.space.design_space import DesignSpace
from labloop.space.parameter import canonical_text
from labloop.types import Array, FloatArray

log = logging.getLogger("labloop")

OFFERED_ONLY: Mapping[str, Any] = {"refine": 0, "beyond_chance": None}
"""Options by which a selector keeps to what it was offered."""
DRAWN = (1, 4, 16, 64, 256)
"""Random designs that are looked through for some within the totals, as long as there are too few: times the first ones."""
REFILLS = 60
"""Times that an arm chooses again in place of designs beyond a total."""


class _TooMuch(MethodError):
    """Totals leave too little of what arms are offered; what else a selector stumbles over is no matter of theirs."""


def choose_within(
    config: RoundConfig, pools: Mapping[str, Pool], posterior: Posterior | None, data: Dataset, wells: Mapping[str, int],
    terms: Terms, *, choose: Chooser, seed: int, number: int, rounds: int,
) -> dict[str, Picks]:  # fmt: skip
    """Let every arm choose within the terms; each pick says which part of the plates it is for.

    Args:
        wells: designs that each arm chooses.
        choose: how arms choose without terms, see `labloop.proposing.pipeline.choose`.

    Raises:
        MethodError: the arms' pools hold too few designs within the limits.
    """
    setting = {"seed": seed, "number": number, "rounds": rounds}
    work = Work(config, posterior, data, terms, choose, setting)
    sizes = terms.sizes(sum(wells.values()))
    by_hand = {name: wells[name] for name in config.by_hand if wells.get(name)}
    arms = [name for name in config.arms if wells.get(name) and name not in by_hand]
    listed: dict[str, Picks] = {}
    if by_hand:
        begun = Placement.of(terms, sum(wells.values()))
        listed = as_listed(begun, {name: pools[name] for name in by_hand}, by_hand, data, posterior or _nobody)
        work.levels.update(begun.levels)
        sizes = begun.rest(sum(wells[name] for name in arms))
    work.sizes.extend(sizes)
    shares = apportion(np.array(sizes), np.array([wells[name] for name in arms]), generator(seed, "round", number, "limits"))
    for r, resource in enumerate(terms.resources):
        for i, size in enumerate(sizes):
            key = (r, terms.scope(resource.limit, i))
            work.left[key] = begun.left[key] if by_hand else resource.total
            work.open[key] = work.open.get(key, 0) + size
    offers = {name: _offer(work, name, pools[name]) for name in arms}
    work.reserve.extend([_reserve(work, r, offers) for r in range(len(terms.resources))])
    work.found.update({name: [] for name in arms})
    work.taken.extend(picks.pool.X for picks in listed.values())
    for i, share in enumerate(shares.tolist()):
        here = {name: n for name, n in zip(arms, share, strict=True) if n}
        if not here:  # a part of fewer wells than a design takes
            continue
        there, rules = at_levels(work, i, here, offers)
        for name, picks in _filled_or_least(work, i, here, there, narrowed(data.space, *rules)).items():
            work.found[name].append(picks)
    for (name, _, scope), values in work.levels.items():
        log.info("%s has %s in %s", name, ", ".join(map(canonical_text, values)), f"part {scope}" if scope else "the round")
    chosen = {name: by_turns(Picks.joined(several), terms.space) for name, several in work.found.items()} | listed
    return {name: chosen[name] for name in config.arms if name in chosen}


def _reserve(work: Work, r: int, offers: Mapping[str, Offer]) -> float:
    resource = work.terms.resources[r]
    if not resource.graded:
        return resource.least
    amounts = np.concatenate([resource.amounts(work.terms.space.decode(one.pool.X)) for one in offers.values()])
    fair = min(work.left[key] / max(n, 1) for key, n in work.open.items() if key[0] == r)
    usual = float(np.quantile(amounts, 0.25)) if len(amounts) else 0.0
    return max(resource.least, min(usual, fair))


def _offer(work: Work, name: str, pool: Pool) -> Offer:
    """Order an arm's pool as its selector would, as far as that can tell; the rest follows as offered."""
    ((selector, options),) = work.config.arms[name].selector.items()
    number, rounds = work.setting["number"], work.setting["rounds"]
    made = selector_of(selector, _kept_to(options), work.terms, number=number, rounds=rounds)
    order: list[int] = []
    place = {one: i for i, one in enumerate(pool.ids)}
    n = len(set(pool.ids) - work.data.taken)
    while n and not order and (work.posterior is not None or selector in UNJUDGED):
        try:
            seed = derive(work.setting["seed"], "round", work.setting["number"], "select", name)
            with asking(selector, "selectors"):
                picks = picks_of(selector, made.select(pool, work.posterior or _nobody, work.data, n, seed=seed), n)
            order = [place[one] for one in picks.pool.ids if one in place]
        except MethodError:
            n //= 2
    ordered = set(order)
    order += [i for i, one in enumerate(pool.ids) if i not in ordered and one not in work.data.taken]
    return Offer(pool=pool.take(np.array(order, dtype=np.int64)), worth=np.linspace(1, 0, len(order) + 1)[:-1])


def _nobody(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.full(len(X), np.nan), np.full(len(X), np.nan)


def _filled_or_least(
    work: Work, part: int, here: Mapping[str, int], offers: Mapping[str, Offer], space: DesignSpace
) -> dict[str, Picks]:  # fmt: skip
    """Let the arms choose a part's designs; where that finds none within the totals, share those out that take least.

    Raises:
        MethodError: these are too much, too, or a selector cannot choose.
    """
    left, open_, taken = dict(work.left), dict(work.open), list(work.taken)
    try:
        return _filled(work, part, here, offers, space)
    except _TooMuch:
        work.left.update(left)
        work.open.update(open_)
        work.taken[:] = taken
        least = _least(work, part, here, offers, space)
        if least is None:
            raise
    log.info("%s takes the designs that take least of the totals: nothing else fits", _where(work, part))
    config = work.config.model_copy(update={"arms": {arm: _offered_only(work.config.arms[arm]) for arm in here}})
    held = np.concatenate([work.data.pending, *taken])
    picks = work.choose(config, least, work.posterior, replace(work.data, space=space, pending=held), here, **work.setting)
    reserve, work.reserve[:] = list(work.reserve), [one.least for one in work.terms.resources]
    kept = {arm: list[Picks]() for arm in here}
    refused = _accept(work, part, picks, _keys(work, part), kept)
    work.reserve[:] = reserve
    if refused:
        raise MethodError(f"the campaign's limits leave no batch for {_where(work, part)}: loosen one of them (limits, budget)")
    return {arm: Picks.joined(several) for arm, several in kept.items()}


def _least(
    work: Work, part: int, here: Mapping[str, int], offers: Mapping[str, Offer], space: DesignSpace
) -> dict[str, Pool] | None:  # fmt: skip
    """Share the designs of a listable space that take least over the arms, by turns, each in its own order.

    Returns:
        As many for each arm as it chooses; None where they do not fit.
    """
    keys, n = _keys(work, part), sum(here.values())
    if not (space.listable and keys):
        return None
    gone = work.data.taken.union(*(space.ids(X) for X in work.taken))
    free = [i for i, one in enumerate(space.listing_ids) if one not in gone]
    X, ids = space.listing()[free], [space.listing_ids[i] for i in free]
    table = work.terms.space.decode(X)
    place = {arm: {one: i for i, one in enumerate(offers[arm].pool.ids)} for arm in here}
    liked = np.array([min(there.get(one, len(there)) for there in place.values()) for one in ids])
    amounts = {key: work.terms.resources[key[0]].amounts(table) for key in keys}
    shares = np.round(sum(amount / max(work.left[key], 1e-9) for key, amount in amounts.items()), 9)
    rows = np.lexsort((liked, shares))[:n].tolist()
    later = {key: work.terms.resources[key[0]].least * (work.open[key] - n) for key in keys}
    if len(rows) < n or any(amounts[key][rows].sum() + later[key] > work.left[key] + 1e-9 for key in keys):
        return None
    mine: dict[str, list[int]] = {arm: [] for arm in here}
    while rows:
        for arm in [arm for arm in here if len(mine[arm]) < here[arm]][: len(rows)]:
            best = min(rows, key=lambda i: place[arm].get(ids[i], len(place[arm])))
            mine[arm].append(best)
            rows.remove(best)
    return {arm: _as_offered(work, arm, offers[arm].pool, X[some]) for arm, some in mine.items()}


def _as_offered(work: Work, arm: str, pool: Pool, X: FloatArray) -> Pool:
    """Give designs X (m, d) as an arm was offered them; of others no proposer has an opinion."""
    ids, place = pool.space.ids(X), {one: i for i, one in enumerate(pool.ids)}
    some, first = [place.get(one, -1) for one in ids], next(iter(work.config.arms[arm].proposers))
    score = np.array([pool.score[i] if i >= 0 else np.nan for i in some])
    proposer = np.array([pool.proposer[i] if i >= 0 else first for i in some], dtype=object)
    return Pool(space=pool.space, X=X, score=score, proposer=proposer, ids=tuple(ids), notes=pool.notes)


def _keys(work: Work, part: int) -> list[tuple[int, tuple[int, ...]]]:
    """Name the totals that a part's designs take of."""
    return [(r, work.terms.scope(one.limit, part)) for r, one in enumerate(work.terms.resources)]


def _offered_only(arm: Arm) -> Arm:
    """Have an arm's selector choose among what it is offered."""
    return arm.model_copy(update={"selector": {name: _kept_to(told) for name, told in arm.selector.items()}})


def _filled(
    work: Work, part: int, here: Mapping[str, int], offers: Mapping[str, Offer], space: DesignSpace
) -> dict[str, Picks]:  # fmt: skip
    """Let the arms choose a part's designs; those beyond a total make room for the next ones that are not."""
    need, kept, keys = dict(here), {arm: list[Picks]() for arm in here}, _keys(work, part)
    arms = {arm: work.config.arms[arm] for arm in here}
    for _ in range(REFILLS):
        held = np.concatenate([work.data.pending, *work.taken]) if work.taken else work.data.pending
        data = replace(work.data, space=space, pending=held)
        pools = {arm: _enough(work, arm, offers[arm].pool, keys, data, n) for arm, n in need.items()}
        if len({one for pool in pools.values() for one in pool.ids}) < sum(need.values()):
            pools = {arm: _with_any(work, arm, pool, keys, data, sum(need.values())) for arm, pool in pools.items()}
        if (n := len({one for pool in pools.values() for one in pool.ids})) < sum(need.values()):
            raise _TooMuch(
                f"the campaign's limits leave {n} designs for the {sum(need.values())} that {_where(work, part)} still takes: "
                "loosen one of them (limits, budget)"
            )
        config = work.config.model_copy(update={"arms": {arm: arms[arm] for arm in need}})
        try:
            picks = work.choose(config, pools, work.posterior, data, need, **work.setting)
        except MethodError as error:
            kind = MethodError if all(_fits(work, offers[arm].pool, keys).all() for arm in need) else _TooMuch
            raise kind(f"{error}; the campaign's limits leave these: loosen one of them (limits, budget)") from error
        refused = _accept(work, part, picks, keys, kept)
        if not refused:
            return {arm: Picks.joined(several) for arm, several in kept.items() if several}
        need = {arm: sum(owner == arm for owner in refused.values()) for arm in need}
        need = {arm: n for arm, n in need.items() if n}
        for arm, one in arms.items():  # what a selector finds by itself it would find again, refused or not
            arms[arm] = _offered_only(one)
    raise _TooMuch(f"no batch was found within limits after {REFILLS} tries: raise a total, or pools (arms.*.pool)")


def _where(work: Work, part: int) -> str:
    """Name a part of the plates by its first well and its last."""
    wells = work.terms.parts[part].wells
    if not wells:
        return "the round"
    return f"{well_name(*wells[0])} to {well_name(*wells[-1])} of plate {work.terms.parts[part].plate + 1}"


def _kept_to(told: Options) -> Options:
    """Change a selector's options so that it chooses among what it is offered only."""
    return {**told, **{name: one for name, one in OFFERED_ONLY.items() if name in told}}


def _enough(work: Work, arm: str, pool: Pool, keys: list[tuple[int, tuple[int, ...]]], data: Dataset, n: int) -> Pool:
    """Keep what may be chosen; where that is little, add its neighbours, then any others: no proposer has an opinion of them."""
    kept = _affordable(work, pool, keys, data)
    rng = generator(work.setting["seed"], "round", work.setting["number"], "enough")
    enough = 3 * n if work.judged(arm) else n  # neighbours of random designs are no random designs
    for steps in (1, 2, 3):
        if len(kept) >= enough or not len(pool):
            break
        parents = np.arange(max(4 * n, 64)) % len(pool)
        X = data.space.mutate(pool.X[parents], rng, steps=steps)
        kept = _joined(work, kept, X, pool.proposer[parents], keys, data)
    return kept if len(kept) >= n else _with_any(work, arm, kept, keys, data, n)


def _with_any(work: Work, arm: str, kept: Pool, keys: list[tuple[int, tuple[int, ...]]], data: Dataset, n: int) -> Pool:
    """Add whatever else there is to choose from behind a pool."""
    rng = generator(work.setting["seed"], "round", work.setting["number"], "any")
    for times in (1,) if data.space.listable else DRAWN:
        X = rng.permutation(data.space.listing()) if data.space.listable else data.space.sample(times * max(4 * n, 64), rng)
        proposer = np.full(len(X), next(iter(work.config.arms[arm].proposers)), dtype=object)
        kept = _joined(work, kept, X, proposer, keys, data)
        if len(kept) >= n:
            break
    return kept


def _joined(
    work: Work, kept: Pool, X: FloatArray, proposer: Array, keys: list[tuple[int, tuple[int, ...]]], data: Dataset
) -> Pool:  # fmt: skip
    """Add those of some designs X (m, d) that may be chosen and are not there behind a pool."""
    good = np.flatnonzero(data.space.feasible(X))
    good = good[data.space.fresh(X[good], known={*data.taken, *kept.ids})]
    more = Pool(
        space=kept.space, X=X[good], score=np.full(len(good), np.nan), proposer=proposer[good],
        ids=tuple(data.space.ids(X[good])), notes=kept.notes,
    )  # fmt: skip
    more = _affordable(work, more, keys, data)
    return together([Offer(pool=one, worth=np.full(len(one), -float(i))) for i, one in enumerate((kept, more))]).pool


def _affordable(work: Work, pool: Pool, keys: list[tuple[int, tuple[int, ...]]], data: Dataset) -> Pool:
    """Keep the designs of a pool that every total has room for and nobody has."""
    free = np.array([one not in data.taken for one in pool.ids], dtype=bool)
    return pool.take(np.flatnonzero(free & _fits(work, pool, keys)))


def _fits(work: Work, pool: Pool, keys: list[tuple[int, tuple[int, ...]]]) -> Array:
    """Say which designs of a pool every total has room for, whatever the ones after them are."""
    good, table = np.ones(len(pool), dtype=bool), work.terms.space.decode(pool.X) if len(pool) and keys else None
    for key in keys if table is not None else ():
        resource = work.terms.resources[key[0]]
        good &= resource.amounts(table) <= work.left[key] - work.reserve[key[0]] * (work.open[key] - 1) + 1e-9  # type: ignore[arg-type]
    return good


def _accept(
    work: Work, part: int, picks: Mapping[str, Picks], keys: list[tuple[int, tuple[int, ...]]], kept: dict[str, list[Picks]]
) -> dict[str, str]:  # fmt: skip
    """Take picks by turns as long as all totals have room; returns the designs that have not, with whose they were."""
    taken: set[str] = set()
    refused: dict[str, str] = {}
    rows: dict[str, list[int]] = {arm: [] for arm in picks}
    costs = {arm: _costs(work, chosen, keys) for arm, chosen in picks.items()}
    for i in range(max(map(len, picks.values()))):
        for arm, chosen in picks.items():
            if i >= len(chosen):
                continue
            one = chosen.pool.ids[i]
            if one not in taken and one not in refused:
                if all(
                    cost[i] <= work.left[key] - work.reserve[key[0]] * (work.open[key] - 1) + 1e-9
                    for key, cost in zip(keys, costs[arm], strict=True)
                ):
                    taken.add(one)
                    for key, cost in zip(keys, costs[arm], strict=True):
                        work.left[key] -= float(cost[i])
                        work.open[key] -= 1
                else:
                    refused[one] = arm
            if one in taken:
                rows[arm].append(i)
    for arm, chosen in picks.items():
        if rows[arm]:
            some = chosen.take(np.array(rows[arm]))
            kept[arm].append(replace(some, part=np.full(len(some), part)))
            work.taken.append(some.pool.X)
    return refused


def _costs(work: Work, picks: Picks, keys: list[tuple[int, tuple[int, ...]]]) -> list[Any]:
    if not keys:
        return []
    table = work.terms.space.decode(picks.pool.X)
    return [work.terms.resources[r].amounts(table) for r, _ in keys]
