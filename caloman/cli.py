"""The ``caloman`` command: each command is a public function of the package, its options are the arguments.

Help comes from the docstrings. The overview reads them without importing anything, so it is there at once.
"""

import argparse
import ast
import inspect
import logging
import os
import sys
import types
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import caloman
from caloman.errors import CalomanError

GROUPS = {
    "train": ("fit", "runs"),
    "generate": ("models", "generate", "merge", "export", "submit", "benchmark", "publish"),
    "judge": ("evaluate", "compare", "reconstruct", "encode", "score", "dimension"),
    "data": ("download", "prepare", "simulate", "check"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
FUNCTIONS = {name: name for name in COMMANDS} | {"models": "list_models"}
"""Command -> public function; `caloman.models` is a package."""
EXAMPLE = """example:
  caloman generate photons showers.hdf5 --energies 1GeV,4GeV,16GeV --n 3000
  caloman fit 1-photons/caloman --output runs/mine
  caloman evaluate showers.hdf5 reference.hdf5 --output report
"""


class UsageError(CalomanError):
    """A command line that cannot be understood."""


class Parser(argparse.ArgumentParser):
    """The parser of one command; what it does not understand is a `UsageError` of one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0, 1 for an error, 2 for a wrong command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        return _say(_overview())
    if name == "--version":
        return _say(f"caloman {caloman.__version__}")
    if name not in COMMANDS:
        guess = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {guess[0]!r}?" if guess else f"the commands are {', '.join(COMMANDS)}"
        return _fail(f"caloman: unknown command {name!r}; {hint}", 2)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin take the cores that others need
    logging.basicConfig(format="%(message)s")
    logging.getLogger("caloman").setLevel(logging.INFO)
    try:
        result = _run(name, arguments[1:])
    except UsageError as error:
        return _fail(f"caloman {name}: error: {error}", 2)
    except (CalomanError, OSError) as error:  # OSError: a full disk or a folder without access, wherever it was met
        return _fail(f"caloman {name}: error: {error}")
    except KeyboardInterrupt:
        return _fail(f"caloman {name}: interrupted")
    if result is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        _say(str(result))
    return int(getattr(result, "exit_status", 0))


def _run(name: str, arguments: list[str]) -> object:
    command = getattr(caloman, FUNCTIONS[name])
    parser = command_parser(name, command)
    overrides: dict[str, list[str]] = {}
    if "overrides" in inspect.signature(command).parameters:
        arguments, overrides["overrides"] = _split(arguments, parser)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        guess = get_close_matches(unknown[0].partition("=")[0], known, n=1)
        hint = f"; did you mean {guess[0]}?" if guess else f"; see `caloman {name} --help`"
        raise UsageError(f"unknown argument {unknown[0]}{hint}")
    values = vars(options)
    variadic = [p.name for p in inspect.signature(command).parameters.values() if p.kind is p.VAR_POSITIONAL]
    positional = [value for key in variadic for value in values.pop(key)]
    return command(*positional, **values, **overrides)


def _split(arguments: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """The options of a command, and those that set keys of its configuration."""
    known = parser._option_string_actions
    own, keys = [], []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, _ = argument.partition("=")
        if argument.startswith("--") and name not in known and ("." in name or equals):
            keys += [argument] if equals else [argument, next(waiting, "")]
        else:
            own.append(argument)
    return own, keys


def command_parser(name: str, command: Callable[..., object]) -> argparse.ArgumentParser:
    """The parser of a command, from the signature and the docstring of its function."""
    summary, text, helps = _sections(inspect.getdoc(command) or "")
    parser = Parser(
        prog=f"caloman {name}",
        description=f"{summary}\n\n{text}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name != "overrides":
            _add_argument(parser, parameter, helps.get(parameter.name, ""))
    if "overrides" in inspect.signature(command).parameters:
        parser.epilog = f"--KEY=VALUE: {helps['overrides']}"
    return parser


def _add_argument(parser: argparse.ArgumentParser, parameter: inspect.Parameter, text: str) -> None:
    required = parameter.default is inspect.Parameter.empty
    options: dict[str, Any] = {"help": text.replace("%", "%%")}
    kind, several = _kind(parameter.annotation)
    if get_origin(kind) is Literal:
        options["choices"], kind = get_args(kind), type(get_args(kind)[0])
    if not required:
        options["default"] = parameter.default
        if parameter.default not in (None, False, ()):
            options["help"] += f" (default: {parameter.default})"
    if parameter.kind is parameter.VAR_POSITIONAL:
        parser.add_argument(parameter.name, type=kind, nargs="*", metavar=parameter.name.upper(), help=options["help"])
        return
    flag = f"--{parameter.name.replace('_', '-')}"
    if kind is bool:
        action = argparse.BooleanOptionalAction if parameter.default else "store_true"
        parser.add_argument(flag, action=action, **options)
        return
    options |= {"type": kind, "nargs": "+" if several else None}
    if "choices" not in options:
        options["metavar"] = parameter.name.upper()
    if required and parameter.kind is not parameter.KEYWORD_ONLY:
        parser.add_argument(parameter.name, **options)
    else:
        parser.add_argument(flag, dest=parameter.name, required=required, **options)


def _kind(hint: Any) -> tuple[Any, bool]:  # noqa: ANN401 - a type
    """The type of one value on the command line, and whether there may be several."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    members = tuple(member for member in members if member is not type(None))
    lists = [member for member in members if isinstance(get_origin(member), type)]
    if lists:
        return _kind(get_args(lists[0])[0])[0], True
    single = next((member for member in members if member is not Path), Path)
    return (str if single is Path else single), False


def _sections(docstring: str) -> tuple[str, str, dict[str, str]]:
    """Summary, text and help of the arguments of a Google-style docstring, without the mark-up."""
    plain = docstring.replace("``", "").replace("`", "'")
    head, _, rest = plain.partition("\nArgs:\n")
    summary, _, text = head.partition("\n\n")
    helps: dict[str, str] = {}
    name = ""
    for line in rest.split("\n\n")[0].splitlines():
        if line.startswith("    ") and not line.startswith("     "):
            name, _, line = line.strip().partition(":")
        helps[name] = f"{helps.get(name, '')} {line.strip()}".strip()
    return " ".join(summary.split()), text.strip(), helps


def _overview() -> str:
    lines = [f"caloman: {(caloman.__doc__ or '').splitlines()[0].removeprefix('caloman: ')}", ""]
    lines += ["usage: caloman COMMAND ...", ""]
    for group, names in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:<11} {_summary(name)}" for name in names), ""]
    lines += ["`caloman COMMAND --help` explains each; `caloman --version` tells the version.", "", EXAMPLE]
    return "\n".join(lines).rstrip()


def _summary(name: str) -> str:
    """The first sentence of a command's docstring, read from the source, for importing it would take seconds."""
    function = FUNCTIONS[name]
    path = Path(caloman.__file__).parents[1] / f"{caloman._HOMES[function].replace('.', '/')}.py"
    body = ast.parse(path.read_text()).body
    found = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == function)
    return _sections(ast.get_docstring(found) or "")[0].rstrip(".")


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _fail(text: str, status: int = 1) -> int:
    sys.stderr.write(text + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
