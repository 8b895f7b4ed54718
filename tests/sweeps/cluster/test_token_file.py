"""Ray's token file, made and repaired as a program on a shared machine would find it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.cluster.token_file import keep_token_private

START = """
import sweeps, ray
from sweeps.cluster.connection import Cluster, joined
with joined(Cluster(num_cpus=1), say=print):
    assert ray.cluster_resources()["CPU"] == 1
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_token_file_is_made_for_this_user_alone_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "home" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    keep_token_private()
    token = path.read_text()
    assert len(token) == 64
    assert mode(path) == 0o600
    path.chmod(0o644)
    keep_token_private()
    assert (mode(path), path.read_text()) == (0o600, token)
    assert list(path.parent.iterdir()) == [path]


def test_token_file_is_not_made_where_the_environment_has_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "known")
    keep_token_private()
    assert not list(tmp_path.iterdir())


def test_token_file_of_a_cluster_that_a_sweep_starts_is_private(tmp_path: Path) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    environment["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", START], env=environment, check=True)
    assert mode(tmp_path / ".ray" / "auth_token") == 0o600
