"""Paths that are kept in files: as seen from the file's folder."""

from __future__ import annotations

from pathlib import Path

from irsde_deploy.system.files import seen_from


def test_a_path_is_seen_from_a_folder_with_links_followed(tmp_path: Path) -> None:
    (tmp_path / "there" / "data").mkdir(parents=True)
    (tmp_path / "plans").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert seen_from(tmp_path / "plans", tmp_path / "link" / "data") == "../there/data"
    assert seen_from(tmp_path, tmp_path) == "."
