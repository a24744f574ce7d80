"""Campaign and round files: YAML in, checked values out."""

from __future__ import annotations

from labloop.config.campaign import CampaignConfig
from labloop.config.read import load_config, parse_config, preset
from labloop.config.round import Arm, RoundConfig
from labloop.config.schedule import Schedule

__all__ = ["Arm", "CampaignConfig", "RoundConfig", "Schedule", "load_config", "parse_config", "preset"]
