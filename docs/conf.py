"""The documentation site: `make docs` builds it into dist/docs, with warnings as errors."""

from grm_jax import __version__

project = "grm_jax"
author = "the grm_jax authors"
copyright = "2026, the grm_jax authors"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The notebooks are run by the tests, not once more here.
nb_execution_mode = "off"
html_theme = "sphinx_book_theme"
html_title = "grm_jax"
html_theme_options = {"show_toc_level": 2}
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
