# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's modules, run in this process on the lab's account."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from lab_server import TOKEN, Server


def run(
    module: ModuleType, server: Server, capsys: pytest.CaptureFixture[str], failing: bool = False, **options: Any
) -> dict[str, Any]:
    """Return the result of a module with these options."""
    account = {"api_token": TOKEN, "api_url": f"{server.address}/v4", "api_timeout": 5}
    with patch_module_args({**account, **options}), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert result.get("failed", False) is failing, result
    return result
