# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab changes of the machine's own settings, and sets back."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import network
from lab.network import Network


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(network, "_sysctl", lambda name: tmp_path / name)
    (tmp_path / "low").write_text("7\n")
    (tmp_path / "high").write_text("100\n")
    return tmp_path


def test_a_setting_is_raised_and_set_back(settings: Path) -> None:
    machine = Network(settings / "state")
    machine._set_machine("low", 50)
    machine._set_machine("high", 50)
    assert [(settings / name).read_text() for name in ("low", "high")] == ["50", "100\n"]
    (settings / "low").write_text("3")  # somebody lowers it, and the lab starts again
    Network(settings / "state")._set_machine("low", 50)
    Network(settings / "state")._reset_machine()
    assert [(settings / name).read_text() for name in ("low", "high")] == ["7", "100\n"]
    assert not (settings / "state" / "sysctl.json").exists()
