# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""fleet_lock runs on the control node, in a process that the run itself has started, whatever host the task is for."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.c50k.stack.plugins.plugin_utils.fleet_lock import acquire

# Hosts that are asked to keep the lock, one after the other.
CANDIDATES = 3
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ControlPath=none", "-o", "ServerAliveInterval=10")


def login(variables: Mapping[str, Any], name: str) -> list[str]:
    """The words of an ssh command to a host, from its connection variables."""
    user = variables.get("ansible_ssh_user", variables.get("ansible_user"))
    key = variables.get("ansible_ssh_private_key_file", variables.get("ansible_private_key_file"))
    port = variables.get("ansible_ssh_port", variables.get("ansible_port"))
    more = [str(variables.get(f"ansible_ssh_{kind}_args", "")) for kind in ("common", "extra")]
    options = [
        *SSH,
        *(["-l", user] if user else []),
        *(["-i", key] if key else []),
        *(["-p", str(port)] if port else []),
    ]
    return [*options, *shlex.split(" ".join(more)), str(variables.get("ansible_host", name))]


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(
            {"path": {"type": "path", "required": True}, "hosts": {"type": "list", "elements": "str", "default": []}}
        )
        path = Path(self._loader.path_dwim(options["path"]))
        hostvars = (task_vars or {})["hostvars"]
        logins = [login(hostvars[host], host) for host in options["hosts"][:CANDIDATES]]
        owner = {
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "pid": os.getppid(),  # each task runs in a child of the run
            "playbook": " ".join(context.CLIARGS.get("args", ())),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        try:
            other = acquire(path, owner, logins)
        except OSError as error:
            return {**result, "failed": True, "msg": f"Cannot lock {path}: {error}"}
        if other is not None and any(other.get(key) != owner[key] for key in ("host", "pid")):
            who = (
                f"{other.get('user')}@{other.get('host')} has been running {other.get('playbook')} since "
                f"{other.get('since')} (process {other.get('pid')})"
            )
            mend = "Wait until it has ended, or end it: its lock goes with it."
            return {**result, "failed": True, "msg": f"Another run works on this fleet: {who}. {mend}", "owner": other}
        return {**result, "changed": False, "owner": other or owner}
