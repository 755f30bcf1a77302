"""Sentences for people at a terminal: settings become options, and nothing in them can move the cursor."""

from __future__ import annotations

import re
from functools import cache

import click

from ..errors import one_line

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)`")


def for_terminal(sentence: str, commands: click.Group) -> str:
    """One line, with every setting that is an option of some command written as that option.

    Outside of `cli/` sentences name settings as Python does, between backticks: `noise_level`. Here that becomes
    --noise-level. Names that no command has an option for stay as they are.
    """
    options = _options(commands)
    return one_line(_SETTING.sub(lambda match: options.get(match[1], match[0]), sentence))


@cache
def _options(commands: click.Group) -> dict[str, str]:
    """Name of a setting -> the option that sets it, of all commands: the option's own name, else the parameter's."""
    spelled, named = dict[str, str](), dict[str, str]()
    for command in commands.commands.values():
        for parameter in command.params:
            for option in reversed(_long_options(parameter)):
                spelled[option[2:].replace("-", "_")] = option
                named[parameter.name or ""] = option  # the first, such as --opt-level for `optimization_level`
    return named | spelled


def _long_options(parameter: click.Parameter) -> list[str]:
    return [option for option in (*parameter.opts, *parameter.secondary_opts) if option.startswith("--")]
