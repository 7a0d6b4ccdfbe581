# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""packages asks dpkg, and only for what is missing apt, which takes long to open its lists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from ansible.plugins.action import ActionBase

ARGUMENT_SPEC = {
    "name": {"type": "list", "elements": "str", "required": True},
    "start": {"type": "bool", "default": True},
}
SHOW = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n")
PLAIN = re.compile(r"[a-z0-9][a-z0-9+.-]+")
APT = {"install_recommends": False, "update_cache": True, "cache_valid_time": 86400, "lock_timeout": 300}
DO_NOT_START = 101  # what policy-rc.d ends with


def missing(names: Iterable[str], shown: str) -> list[str]:
    """Return the names that dpkg-query does not show as installed; a name with a version is apt's to judge."""
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [name for name in names if not PLAIN.fullmatch(name) or name not in installed]


class ActionModule(ActionBase):
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(ARGUMENT_SPEC)
        # it ends with 1 when it knows nothing of one of them
        shown = self._low_level_execute_command(shlex.join([*SHOW, *options["name"]]))["stdout"]
        lacking = missing(options["name"], shown)
        if not lacking or self._task.check_mode:
            more = {"diff": {"prepared": f"to be installed: {' '.join(lacking)}\n"}} if lacking else {}
            return {**result, "changed": bool(lacking), "missing": lacking, **more}
        arguments = {**APT, "name": options["name"], **({} if options["start"] else {"policy_rc_d": DO_NOT_START})}
        made = self._execute_module("ansible.builtin.apt", module_args=arguments, task_vars=task_vars)
        return {**result, **made, "missing": lacking}
