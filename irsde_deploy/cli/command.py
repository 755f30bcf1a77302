"""What every command is: options in groups, examples under its help, -q and -v, an engine by its place or by --engine.

Options in groups, and their help, are cloup's, a layer over click.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
import cloup

from . import output

_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

GENERAL = frozenset({"quiet", "verbose", "as_json"})
"""Parameters that say how a command prints, and not what it does."""


class Command(cloup.Command):
    """A command with examples, -q and -v.

    Args:
        examples: command lines, for the help.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), params: list[click.Parameter], **settings: Any):
        quiet = click.Option(["-q", "--quiet", "quiet"], is_flag=True, help="Print errors alone.")
        verbose = click.Option(["-v", "--verbose", "verbose"], is_flag=True, help="Print versions, engine and timings.")
        super().__init__(*arguments, params=[*params, quiet, verbose], **settings)
        self.examples = examples

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it ends with is printed here, unless it ends with an error (`__main__`)."""
        printing = {name: bool(ctx.params.pop(name, False)) for name in ("quiet", "verbose", "as_json")}
        output.begin(ctx.info_name or "", **printing)
        try:
            value = super().invoke(ctx)
        except SystemExit as stop:
            output.end(int(stop.code or 0))
            raise
        output.end(0)
        return value

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, a line each, however long."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def command(*examples: str) -> Callable[[Callable[..., Any]], Command]:
    """A decorator that makes a command of a function; `examples` are for its help."""
    return cloup.command(cls=Command, examples=examples)


def json_option(help_text: str = "Print one JSON object on stdout, for scripts.") -> _Decorator:
    """The option --json, of which `output` takes care."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


_OTHER_NAMES = {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt", "ort": "onnxruntime", "vino": "openvino"}
"""What people call a device or a library -> what it is called here."""


class Choice(click.Choice[str]):
    """One of some words; another that is like one of them is answered with it."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """What to say of another word."""
        words = super().get_invalid_choice_message(value, ctx).rstrip(".")
        asked = str(value).lower()
        meant = [_OTHER_NAMES.get(asked.partition(":")[0], asked), *difflib.get_close_matches(asked, self.choices, n=1)]
        known = [name for name in meant if name in self.choices]
        return f"{words}: did you mean {known[0]}?" if known else words


def takes_engine(name: str, metavar: str, path: click.ParamType[Any], what: str) -> _Decorator:
    """A decorator that adds an engine to a command, by its place or as --engine, given as the parameter `name`.

    Args:
        name: of the parameter.
        metavar: what the argument is called in the help.
        path: the type of both.
        what: help of the option.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_engine(engine_argument: Path | None, engine_option: Path | None, **settings: Any) -> Any:
            engine = one_engine(engine_argument, engine_option, metavar)
            return function(**{name: engine}, **settings)

        option = click.option("--engine", "engine_option", type=path, help=f"{what}, in place of {metavar}.")
        return click.argument("engine_argument", metavar=metavar, required=False, type=path)(option(with_engine))

    return decorate


def one_engine(by_place: Path | None, by_option: Path | None, metavar: str) -> Path:
    """The engine that was given in one of two ways; a usage error for none, and for two."""
    context = click.get_current_context()
    if by_place is not None and by_option is not None:
        raise click.UsageError(f"an engine is given twice, {by_place} and --engine {by_option}: leave one out", context)
    engine = by_place or by_option
    if engine is None:
        raise click.UsageError(f"no engine is given: name it as {metavar}, or with --engine FILE", context)
    return engine
