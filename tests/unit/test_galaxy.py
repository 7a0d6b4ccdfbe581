# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as it is built for others."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT_BACK = (
    "inventories/mine/.secrets/database_password",
    "molecule/deploy/inventory/.secrets/id_ed25519",
    "molecule/deploy/.cache/hosts",
    "profiles/mine/1.svg",
    "reports/mine/index.html",
    ".venv/bin/python",
    ".ruff_cache/x",
)


def test_no_secret_and_nothing_of_this_machine_is_built(tmp_path: Path) -> None:
    for name in (*KEPT_BACK, "roles/app_server/tasks/main.yml"):
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).touch()
    for name in ("galaxy.yml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / "c")
    build = ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(tmp_path / "c")]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as built:
        names = set(built.getnames())
    assert "roles/app_server/tasks/main.yml" in names
    assert not names & set(KEPT_BACK)
