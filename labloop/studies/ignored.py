"""What of a campaign a simulation leaves out, so that nobody takes its figures for the campaign's own."""

from __future__ import annotations

from labloop.config.campaign import CampaignConfig
from labloop.config.limits import shown


def ignored(config: CampaignConfig, *, batch: int) -> list[str]:
    """Say in words which parts of a campaign do not count in a simulation of it; nothing where all do."""
    told = []
    if limits := shown(config.limits):
        told.append(f"batch-wide limits ({'; '.join(limits)}): its batches may break them, and a real plate may do worse")
    if config.prices is not None or config.budget is not None:
        told.append("prices and budget: every well costs the same, and rounds do not end when the money does")
    if config.plate.replicates > 1:
        told.append(
            f"plate.replicates ({config.plate.replicates}): each of the {batch} wells of a batch is another design, read once"
        )
    if config.plate.controls:
        told.append("controls, edge effects and quality control: all wells of a batch are designs and count alike")
    if any(one.normalise != "none" for one in config.assays.values()):
        told.append("normalisation: values are the lab's own")
    return told
