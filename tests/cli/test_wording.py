"""Settings in sentences become options, and nothing else does."""

from __future__ import annotations

from irsde_deploy.cli import cli
from irsde_deploy.cli.wording import for_terminal


def test_settings_become_the_options_that_set_them() -> None:
    assert for_terminal("give `noise_level` or `t0`", cli) == "give --noise-level or --t0"
    assert for_terminal("`minShapes` and `no_such_setting` stay", cli) == "`minShapes` and `no_such_setting` stay"


def test_names_from_files_cannot_command_a_terminal() -> None:
    assert for_terminal("in \x1b[2J`steps`\n.png", cli) == "in  [2J--steps .png"
