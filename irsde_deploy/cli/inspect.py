"""irsde-deploy inspect and doctor."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .common import PATH


@click.command()
@click.argument("file", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def inspect(file: Path, as_json: bool) -> None:
    """Show what a model FILE holds: its card, graph inputs and sizes."""
    from ..reports.inspection import format_inspection, inspect_file

    description = inspect_file(file)
    click.echo(json.dumps(description, indent=2) if as_json else format_inspection(description))


@click.command()
def doctor() -> None:
    """Show what is installed, which providers and devices work, and the command that installs what is missing."""
    from ..reports.doctor import examine

    for finding in examine():
        mark = "ok     " if finding.found else "missing"
        click.echo(f"{mark}  {finding.what:<34} {finding.detail}")
