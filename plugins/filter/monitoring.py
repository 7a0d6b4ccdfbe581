# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters c50k.stack.grafana_dashboard and scrape_targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils.grafana import dashboard
from ansible_collections.c50k.stack.plugins.module_utils.scrape import scrape_targets


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"grafana_dashboard": dashboard, "scrape_targets": scrape_targets}
