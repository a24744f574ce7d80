"""The finished stages of a training as safetensors files, where somebody keeps them (`labloop.runtime.checkpoints`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from labloop import __version__
from labloop.proposing.dataset import Dataset
from labloop.runtime.checkpoints import Keeper, folder_of, keeper

log = logging.getLogger("labloop")

Warm = Callable[[nn.Module], bool]
"""Gives a fresh network an earlier round's weights, and says whether there were any."""
Weights = dict[str, Tensor]
Told = dict[str, float]
Stage = tuple[Weights, Told]
"""What a stage leaves: tensors by name, and numbers."""


@dataclass(frozen=True)
class Checkpoint:
    """One training's stages. Each depends on dataset, options and seed alone, so one that was kept is as good as a new one."""

    folder: str
    device: torch.device
    keeper: Keeper | None
    resumed: list[str] = field(default_factory=list)
    """Stages that were not done again."""

    @classmethod
    def of(cls, data: Dataset, options: Any, seed: int, device: torch.device) -> Checkpoint:
        """Take up a training where it stopped; a new one where nothing was kept."""
        kept_by = keeper()
        return cls("" if kept_by is None else folder_of(options, data.fingerprint, seed), device, kept_by)

    @property
    def notes(self) -> dict[str, str]:
        """Tell which stages were not done again."""
        return {"resumed": ", ".join(self.resumed)} if self.resumed else {}

    def stage(self, name: str, make: Callable[[], Stage]) -> Stage:
        """Give what a stage left: what was kept of it, or, kept for the next time, what `make` makes."""
        if self.keeper is None:
            return make()
        found = self._read(self.folder, name)
        if found is not None:
            log.info("stage %s was finished before: taken from %s", name, self.folder)
            self.resumed.append(name)
            return found
        weights, told = make()
        plain = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
        metadata = {"labloop": __version__, "stage": name, "told": json.dumps(told)}
        self.keeper.store.write(f"{self.folder}/{name}.safetensors", save(plain, metadata))
        return weights, told

    def warm(self, name: str, net: nn.Module) -> bool:
        """Load what the latest earlier round kept of this stage into a network of the same shapes; say whether there was one."""
        wanted = {key: value.shape for key, value in net.state_dict().items()}
        for folder in () if self.keeper is None else self.keeper.earlier:
            found = self._read(folder, name)
            if found is not None and {key: value.shape for key, value in found[0].items()} == wanted:
                net.load_state_dict(found[0])
                return True
        log.warning("no earlier round kept a %s to start from: it starts afresh", name)
        return False

    def _read(self, folder: str, name: str) -> Stage | None:
        assert self.keeper is not None
        content = self.keeper.store.read(f"{folder}/{name}.safetensors")
        if content is None:
            return None
        try:
            weights = load(content)
            told = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["told"])
        except (SafetensorError, ValueError, KeyError) as error:
            log.warning("%s/%s.safetensors cannot be read (%s): the stage is done again", folder, name, error)
            return None
        return {key: value.to(self.device) for key, value in weights.items()}, told


def afresh(net: nn.Module) -> bool:
    """Leave a network as it was drawn: the start of every training without an earlier round's."""
    return False
