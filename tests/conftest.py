"""Shared fixtures. Nothing here is autouse: a test shows what it stands on."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from labloop.config import CampaignConfig, load_config, preset

# A fixed profile: the same examples on every run, no clock in the verdict.
settings.register_profile("labloop", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("labloop")

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def tfbind8_config() -> CampaignConfig:
    return load_config(preset("campaigns/tfbind8.yaml"), CampaignConfig)
