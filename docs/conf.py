"""How `just docs-site` makes pages of this folder."""

from __future__ import annotations

import penstock

project = "penstock"
author = "The penstock authors"
project_copyright = "The penstock authors, Apache-2.0"
release = penstock.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
exclude_patterns = ["_site"]

html_theme = "furo"
html_title = "penstock"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"
