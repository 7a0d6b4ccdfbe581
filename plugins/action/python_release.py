# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""python_release runs on the control node, in Ansible's own Python and as its user, whatever host the task is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.c50k.stack.plugins.plugin_utils.release import (
    EXCLUDE,
    OLD_TAGS,
    ReleaseError,
    Target,
    archive_path,
    build,
    default_platforms,
    describe,
)
from ansible_collections.c50k.stack.plugins.plugin_utils.release_source import is_address, open_source

ARGUMENT_SPEC = {
    "source": {"type": "str", "required": True},
    "version": {"type": "str", "default": ""},
    "requirements": {"type": "str", "default": "requirements.txt"},
    "python_version": {"type": "str", "default": "3.13"},
    "architecture": {"type": "str", "default": "x86_64", "choices": list(OLD_TAGS)},
    "platforms": {"type": "list", "elements": "str"},
    "exclude": {"type": "list", "elements": "str", "default": list(EXCLUDE)},
    "cache_dir": {"type": "path", "default": "~/.cache/c50k"},
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(ARGUMENT_SPEC)
        cache = Path(self._loader.path_dwim(options["cache_dir"]))
        platforms = tuple(options["platforms"] or default_platforms(options["architecture"]))
        target = Target(options["python_version"], options["architecture"], platforms)
        source = options["source"]
        if not is_address(source):
            source = self._loader.path_dwim(source)
        try:
            with open_source(
                source, options["version"], options["requirements"], options["exclude"], target, cache
            ) as opened:
                release = describe(opened, target)
                archive = archive_path(cache, release)
                changed = not archive.exists() if self._task.check_mode else build(release, cache)
        except (ReleaseError, OSError) as error:
            return {**result, "failed": True, "msg": f"No release was made. {error}"}
        return {**result, "changed": changed, "id": release.id, "archive": str(archive), "origin": opened.origin}
