"""A run and its manifest: what a new one is made of, and how an old one is repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ..core.card import ModelCard
from ..errors import InputFileError, InvalidValueError, OutputFileError
from ..system.files import file_sha256, seen_from
from .data import CalibrationData, data_in, find_data
from .manifest import Manifest, TableFile, read_manifest, sde_of
from .problem import Problem, packages
from .range_table import RangeTable, graph_sha256


@dataclass(frozen=True)
class Original:
    """The run to be repeated.

    Attributes:
        path: of its manifest, which relative folders are seen from.
        manifest: what it was made of.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def read(cls, path: Path, model: onnx.ModelProto, card: ModelCard) -> Original:
        """Read a manifest that must be of this graph and this SDE.

        Raises:
            InputFileError: no manifest, or one of another graph or SDE.
        """
        manifest = read_manifest(path)
        if manifest.graph_sha256 != graph_sha256(model):
            raise InputFileError(
                f"{path}: is of another graph than this ONNX file's (their SHA-256 differ): give the file that it is "
                "of, or calibrate without the manifest"
            )
        if manifest.sde != sde_of(card):
            mine, theirs = json.dumps(sde_of(card)), json.dumps(manifest.sde)
            raise InputFileError(
                f"{path}: is of another SDE ({theirs}) than this ONNX file's ({mine}): give the file it names"
            )
        try:
            manifest.settings.table(card.sde)
        except InvalidValueError as error:
            raise InputFileError(f"{path}: {error}") from None
        return cls(path, manifest)

    def pictures(self, given: str | None) -> CalibrationData:
        """The pictures that the manifest names: in the folders given, else where they were then.

        Raises:
            InputFileError: one is not there, or another file than it was.
        """
        if given:
            return find_data(given).only(self.manifest.pictures)
        folders = [os.path.normpath(self.path.parent / part) for part in self.manifest.data]
        return data_in(tuple(folders)).only(self.manifest.pictures)

    def require_same(self, path: Path) -> None:
        """Raise OutputFileError where a file just written is not the manifest's, whose place a new one would take."""
        if file_sha256(path) != self.manifest.output_sha256:
            raise OutputFileError(
                f"{self.path}: the result differs from this manifest's, which a new one would replace: give another "
                "`output`, or pass `overwrite`"
            )

    def repeated_by(self, made: Manifest) -> bool:
        """Whether a run has given the same file."""
        return self.manifest.output_sha256 == made.output_sha256

    def changed_packages(self, made: Manifest) -> list[str]:
        """Names of the packages that were of another version then."""
        before = self.manifest.packages
        return [name for name, version in made.packages.items() if before.get(name) != version]


def made_of(
    problem: Problem, table: RangeTable, table_file: Path, float_layers: Sequence[str], source: Path, output: Path
) -> Manifest:
    """The manifest of a run that has written `output` from the graph file `source`."""
    folders = tuple(seen_from(output.parent, Path(part)) for part in problem.data.folders)
    return Manifest(
        settings=replace(problem.settings, states=table.states),
        data=folders,
        pictures=tuple(problem.data.hashes),
        model_sha256=file_sha256(source),
        graph_sha256=graph_sha256(problem.model),
        sde=sde_of(problem.card),
        float_layers=tuple(float_layers),
        ranges=TableFile(table_file.name, file_sha256(table_file)),
        output_sha256=file_sha256(output),
        packages=packages(),
    )
