# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters c50k.stack.archive_queue_bytes, backup_choice, backup_problems and drill_report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils import backups


def backup_choice(info: list[dict[str, Any]], target: object = "latest") -> dict[str, Any]:
    try:
        return backups.backup_choice(info, str(target))
    except backups.BackupError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "archive_queue_bytes": backups.archive_queue_bytes,
            "backup_choice": backup_choice,
            "backup_problems": backups.backup_problems,
            "drill_report": backups.drill_report,
        }
