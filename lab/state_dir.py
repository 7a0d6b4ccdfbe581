# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its state."""

from __future__ import annotations

import os
from pathlib import Path


def state_dir() -> Path:
    """Return the lab's state folder: C50K_LAB_STATE, or /var/lib/c50k-lab."""
    return Path(os.environ.get("C50K_LAB_STATE", "/var/lib/c50k-lab"))
