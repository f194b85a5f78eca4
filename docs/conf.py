"""Settings of the documentation, which `make docs` builds with Sphinx."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from drtools import __version__

project = "drtools"
version = release = __version__
language = "en"
extensions = ["myst_parser", "tool_pages", "mathml"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # `--model` has two dashes
html_theme = "furo"
html_title = f"drtools {__version__}"
html_copy_source = html_show_copyright = html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["drtools.css"]
html_math_renderer = "mathml"
