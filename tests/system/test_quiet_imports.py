"""Libraries are kept from reporting while they are imported, and everything is as before afterwards."""

from __future__ import annotations

import importlib
import os
import sys

import pytest

from irsde_deploy.system import libraries


def test_what_is_hidden_from_a_library_is_there_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with libraries._not_importable("wave"), pytest.raises(ImportError):
        importlib.import_module("wave")
    module = importlib.import_module("wave")
    with pytest.raises(ZeroDivisionError), libraries._not_importable("wave"):
        raise ZeroDivisionError
    assert sys.modules["wave"] is module


def test_variables_are_set_for_an_import_alone_and_the_users_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRSDE_TEST_USERS", "mine")
    monkeypatch.delenv("IRSDE_TEST_NEW", raising=False)
    wanted = {"IRSDE_TEST_USERS": "ours", "IRSDE_TEST_NEW": "ours", "IRSDE_TEST_NONE": None}
    with libraries._environment(**wanted):
        assert (os.environ["IRSDE_TEST_USERS"], os.environ["IRSDE_TEST_NEW"]) == ("mine", "ours")
        assert "IRSDE_TEST_NONE" not in os.environ
    assert os.environ["IRSDE_TEST_USERS"] == "mine"
    assert "IRSDE_TEST_NEW" not in os.environ


def test_the_compilers_folder_is_in_our_cache_unless_the_user_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRSDE_CACHE", "/ours")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/mine")
    libraries.keep_compiler_in_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/mine"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    libraries.keep_compiler_in_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/ours/torchinductor"
