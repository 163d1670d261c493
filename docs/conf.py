"""Sphinx settings; the pages of the API and of the commands are written when the manual is built."""

import importlib
import pkgutil
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import browser  # noqa: E402

import caloman  # noqa: E402
from caloman.cli import COMMANDS, FUNCTIONS, command_parser  # noqa: E402

project = "caloman"
author = "The caloman developers"
project_copyright = "the caloman developers"
version = release = caloman.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "dollarmath", "colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name` for what Markdown writes so, too
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False  # those of torch and Lightning are for other manuals
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "forward"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"caloman {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css", "showers.css"]
html_show_sphinx = False

GENERATED = HERE / "reference" / "generated"
PARTS = [module.name for module in pkgutil.iter_modules(caloman.__path__) if module.ispkg]


def write_pages(app: Sphinx) -> None:
    """Writes a page for each package, one for the public names, one for the commands, and the files of the browser."""
    browser.write_files(HERE / "_static" / "generated")
    GENERATED.mkdir(exist_ok=True)
    for old in GENERATED.glob("caloman.*.md"):
        if old.stem.removeprefix("caloman.") not in PARTS:
            old.unlink()
    pages = {f"caloman.{part}.md": _package_page(part) for part in PARTS}
    pages["public.md"] = _public_page()
    pages["commands.md"] = _commands_page()
    for name, text in pages.items():
        path = GENERATED / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def _package_page(part: str) -> str:
    package = importlib.import_module(f"caloman.{part}")
    modules = [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.") if not m.ispkg]
    names = (
        f"\n\nPublic names: {', '.join(f'`{name}`' for name in package.__all__)}" if hasattr(package, "__all__") else ""
    )
    body = "\n\n".join(f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```" for name in modules)
    return f"# caloman.{part}\n\n{(package.__doc__ or '').strip()}{names}\n\n{body}\n"


def _public_page() -> str:
    """Where each name of ``caloman`` is documented."""
    rows = []
    for name in caloman.__all__:
        found = getattr(caloman, name)
        summary = " ".join((found.__doc__ or "").strip().split("\n\n")[0].split())
        role = "class" if isinstance(found, type) else "func"
        rows.append(f"| {{py:{role}}}`caloman.{name} <{found.__module__}.{found.__qualname__}>` | {summary} |")
    return "# Public names\n\nWhat `import caloman` gives.\n\n| name | what it is |\n|-|-|\n" + "\n".join(rows) + "\n"


def _commands_page() -> str:
    text = "# Commands\n\nWhat `caloman COMMAND --help` says.\n"
    for name in COMMANDS:
        help_text = command_parser(name, getattr(caloman, FUNCTIONS[name])).format_help().strip()
        text += f"\n## caloman {name}\n\n```text\n{help_text}\n```\n"
    return text


def escape(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Takes bars and lonely stars in docstrings, which are those of mathematics, as they are."""
    for i, line in enumerate(lines):
        code = re.split(r"(`[^`]*`)", line)
        code[::2] = [re.sub(r"(?<!\*)(\||\*(?![\w*]))", r"\\\1", text) for text in code[::2]]
        lines[i] = "".join(code)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape, priority=100)  # before napoleon
    app.connect("builder-inited", write_pages)
