"""The commands: options and printing only; the work is in the modules that each command calls.

Results go to stdout, notes and errors to stderr. `__main__.py` turns errors into sentences and exit codes.
"""

from __future__ import annotations

from typing import Any

import click
import cloup

from .._version import __version__
from ..errors import Interrupted
from .bench import bench
from .build import build
from .calibrate import calibrate
from .degrade import degrade
from .evaluate import evaluate
from .export import export
from .inspect import doctor, inspect
from .pack import pack, selftest
from .run import run
from .train import train
from .verify import verify


class _Commands(cloup.Group):
    """The group of all commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


@cloup.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="'irsde-deploy COMMAND --help' has the options of a command, and examples.",
)
@click.version_option(__version__, prog_name="irsde-deploy")
def cli() -> None:
    """Deploy image restoration with mean-reverting SDEs: export, run and verify, without PyTorch at run time."""


cli.section("Restore pictures and videos", run, inspect, doctor)
cli.section("Make a model", train, degrade, export, calibrate, build)
cli.section("Measure a model", evaluate, verify, bench)
cli.section("Embed a model in a program", pack, selftest)
