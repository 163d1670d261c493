#!/usr/bin/env -S uv run
# /// script
# dependencies = ["nox>=2025.5"]
# ///
"""Tasks in environments of their own: ``nox`` runs style and tests, ``nox -s docs`` builds the manual.

`scripts/test`, `scripts/docs` and `.ci/run` do the same in the clone's own ``.venv``.
"""

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, extra: str) -> None:
    """Installs the package with an extra, in the versions that continuous integration uses."""
    session.install("-c", "constraints.txt", "torch")
    session.install("-c", "constraints.txt", "-e", f".[{extra}]")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python=["3.11", "3.13"])
def tests(session: nox.Session) -> None:
    """The tests; arguments go to pytest."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The manual, with every warning an error."""
    install(session, "docs,export,cluster")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build/html")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Wheel and source distribution."""
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")


if __name__ == "__main__":
    nox.main()
