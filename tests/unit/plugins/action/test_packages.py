# SPDX-License-Identifier: GPL-3.0-or-later
"""What is missing, by what this machine's own dpkg shows."""

import subprocess

from ansible_collections.c50k.stack.plugins.action.packages import SHOW, missing


def shown(*names: str) -> str:
    return subprocess.run([*SHOW, *names], capture_output=True, text=True, check=False).stdout


def test_what_is_installed_is_not_missing() -> None:
    assert missing(["dpkg", "bash"], shown("dpkg", "bash")) == []


def test_an_unknown_package_is_missing_beside_an_installed_one() -> None:
    assert missing(["dpkg", "no-such-package"], shown("dpkg", "no-such-package")) == ["no-such-package"]


def test_a_package_whose_configuration_alone_is_left_is_missing() -> None:
    assert missing(["nginx"], "nginx config-files\n") == ["nginx"]


def test_a_version_is_for_apt_to_judge() -> None:
    assert missing(["dpkg=1.0"], shown("dpkg")) == ["dpkg=1.0"]
