"""What of a campaign a simulation leaves out, so that nobody takes its figures for the campaign's own."""

from __future__ import annotations

from labloop.config.campaign import CampaignConfig


def ignored(config: CampaignConfig, *, batch: int) -> list[str]:
    """Say in words which parts of a campaign do not count in a simulation of it by batches of wells; nothing where all do."""
    told = []
    if config.plate.controls:
        told.append(f"controls, edge effects and quality control: all {batch} wells of a batch are designs and count alike")
    if any(one.normalise != "none" for one in config.assays.values()):
        told.append("normalisation: values are the lab's own")
    return told
