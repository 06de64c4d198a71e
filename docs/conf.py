"""The configuration of the documentation: `sphinx-build -W -b html -c docs . build/site`.

The sources are the pages of `docs`, `results` and `notebooks`. Their common root is the source
directory, so a relative link works in the built pages and in a browser of the repository.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import lru  # noqa: E402  (found by the path above)

project = "lru-flax"
author = "the lru-flax authors"
project_copyright = "the lru-flax authors; Apache-2.0"
release = lru.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "mathml",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "results/*.md",
    "notebooks/README.md",
    "notebooks/*.ipynb",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = ["**/.*", "build", "dist", "runs"]
templates_path = ["_templates"]
highlight_language = "none"  # of blocks that name no language
default_role = "py:obj"  # single backticks in docstrings: a link, if it is the name of something

autodoc_default_options = {"special-members": "__call__"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings state types and shapes
maximum_signature_line_length = 70
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_param = False
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebooks contain their outputs
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "lru-flax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_additional_pages = {"index": "redirect.html"}  # opens docs/index.html
