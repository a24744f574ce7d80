"""Proposers, one file each. Torch from here down: the core reaches these only by name, through the registry."""
