# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter c50k.stack.log_lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils.logs import log_lines


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"log_lines": log_lines}
