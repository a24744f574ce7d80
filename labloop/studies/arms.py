"""Which arms of a round take part in a simulation, and proposers that are arms of their own there."""

from __future__ import annotations

from collections.abc import Sequence

from labloop.config.round import Arm, RoundConfig
from labloop.errors import ConfigError
from labloop.proposing.checks import check_judge
from labloop.registry import available


def pick_arms(config: RoundConfig, names: Sequence[str] | None, *, split: bool) -> RoundConfig:
    """Keep the arms asked for; a name that is no arm of the configuration may be a proposer of its own.

    Args:
        names: all arms where None.
        split: into their proposers, each named by itself, or `ARM_PROPOSER` where several arms have it or one has its name.

    Raises:
        ConfigError: a name is unknown, or an arm needs a judge that the round does not have: told by its key in the file.
    """
    arms = dict(config.arms)
    written: dict[str, str] = {}  # the arm of the file that each was made of
    if split:
        arms = {}
        known = [p for arm in config.arms.values() for p in arm.proposers]
        shared = {p for p in known if known.count(p) > 1}
        for name, arm in config.arms.items():
            mine = {
                f"{name}_{p}" if p in shared or p in config.arms else p: arm.model_copy(update={"proposers": {p: options}})
                for p, options in arm.proposers.items()
            }
            mine = {name: arm} if len(mine) == 1 else mine
            arms.update(mine)
            written |= dict.fromkeys(mine, name)
    chosen = {} if names is not None else arms
    for name in names or ():
        if name in arms or name in config.arms:
            chosen[name] = arms.get(name) or config.arms[name]
        elif name in available("proposers") or ":" in name:
            written[name], chosen[name] = _alone(name, config)
        else:
            raise ConfigError(
                f"arm {name!r} is neither an arm of the round ({', '.join(arms)}) "
                f"nor a proposer ({', '.join(available('proposers'))})"
            )
    check_judge(config.model_copy(update={"arms": {written.get(name, name): arm for name, arm in chosen.items()}}))
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
