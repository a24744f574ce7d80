"""Sphinx: the Markdown of this folder, the docstrings, and the pages that `_pages/` makes from models, commands and plug-ins."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import labloop  # noqa: E402

project = "labloop"
author = "The labloop authors"
copyright = "the labloop authors, MIT licence"
release = version = labloop.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_pages"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a page that others wrote may begin a section a level deeper

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_mock_imports: list[str] = []
autodoc_default_options = {"exclude-members": "model_config, model_post_init"}

html_theme = "furo"
html_title = f"labloop {release}"
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}


def setup(app: Sphinx) -> None:
    """Write the pages that are made from the code before anything is read."""
    from _pages import write

    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference" / "made"))
