"""Which arms of a round take part in a simulation, and proposers that are arms of their own there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from labloop.config.round import Arm, RoundConfig
from labloop.errors import ConfigError
from labloop.proposing.checks import check_judge
from labloop.registry import available


def pick_arms(config: RoundConfig, names: Sequence[str] | None, *, split: bool) -> RoundConfig:
    """Keep the arms asked for; a name that is no arm of the configuration may be a proposer of its own.

    Args:
        names: all arms where None.
        split: into their proposers, each named by itself, or `ARM_PROPOSER` where several arms have it or another has its name.

    Raises:
        ConfigError: a name is unknown or could mean several arms, or an arm needs a judge that the round does not have: told by
            its key in the file.
    """
    arms, written = dict(config.arms), {name: name for name in config.arms}  # and the arm of the file that each was made of
    having: dict[str, list[str]] = {}
    if split:
        arms = {}
        known = Counter(p for arm in config.arms.values() for p in arm.proposers)
        for name, arm in config.arms.items():
            for p, options in arm.proposers.items():
                own = p if known[p] == 1 and (p == name or p not in config.arms) else f"{name}_{p}"
                while own in arms or (own in config.arms and own != name):
                    own += "_"
                own = name if len(arm.proposers) == 1 else own
                arms[own], written[own] = arm.model_copy(update={"proposers": {p: options}}), name
                having.setdefault(p, []).append(own)
    chosen = {} if names is not None else arms
    for name in names or ():
        if name in arms or name in config.arms:
            chosen[name] = arms.get(name) or config.arms[name]
        elif len(having.get(name, ())) > 1:
            raise ConfigError(f"arm {name!r} is a proposer of several arms of the round: say {' or '.join(having[name])}")
        elif name in available("proposers") or ":" in name:
            written[name], chosen[name] = _alone(name, config)
        else:
            raise ConfigError(
                f"arm {name!r} is neither an arm of the round ({', '.join(arms)}) "
                f"nor a proposer ({', '.join(available('proposers'))})"
            )
    check_judge(config.model_copy(update={"arms": {written[name]: arm for name, arm in chosen.items()}}))
    return config.model_copy(update={"arms": chosen})


def _alone(name: str, config: RoundConfig) -> tuple[str, Arm]:
    """Make a proposer an arm of its own; the judge as a proposer is selected from as the first arm is that has a selector.

    Returns:
        Whose selector it has in the round's file, its own name where nobody's, and the arm.
    """
    selecting = [(of, arm) for of, arm in config.arms.items() if not arm.as_proposed]
    if name == "judge_only" and selecting:
        of, arm = selecting[0]
        return of, arm.model_copy(update={"proposers": {name: {}}})
    return name, Arm(proposers={name: {}})
