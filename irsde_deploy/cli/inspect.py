"""irsde-deploy inspect and doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from .command import command, json_option, takes_engine
from .common import PATH
from .output import report, show


@command("irsde-deploy inspect derain.onnx", "irsde-deploy inspect derain.plan --json")
@takes_engine("file", "FILE", PATH, "Model file")
@json_option()
def inspect(file: Path) -> None:
    """Show what a model FILE holds: its card, graph inputs and sizes."""
    from ..reports.inspection import format_inspection, inspect_file

    description = inspect_file(file)
    report(**description)
    show(format_inspection(description))


@command("irsde-deploy doctor", "irsde-deploy doctor --json")
@json_option()
def doctor() -> None:
    """Show what is installed, which providers and devices work, and the command that installs what is missing."""
    from ..reports.doctor import examine

    findings = []
    for finding in examine():
        mark = "ok     " if finding.found else "missing"
        show(f"{mark}  {finding.what:<34} {finding.detail}")
        findings.append(asdict(finding))
    report(findings=findings)
