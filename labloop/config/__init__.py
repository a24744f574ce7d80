"""Campaign and round files: YAML in, checked values out."""

from __future__ import annotations

from labloop.config.campaign import CampaignConfig, RoundConfig, load_config

__all__ = ["CampaignConfig", "RoundConfig", "load_config"]
