# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""load_test_samples stays on the control node and asks the host every few seconds, so that it can tell how it goes."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.c50k.stack.plugins.module_utils.load_report import Run, progress

LAST_LINES = 20
ENDED = ("inactive", "failed")


class Teller:
    """Says how the test goes on all hosts, from what their tasks have brought into one folder."""

    def __init__(self, folder: Path, counted: str) -> None:
        self._folder, self._counted = folder, counted
        self._run = Run()
        self._read: dict[Path, int] = {}

    def line(self) -> str:
        for file in self._folder.glob("*.jsonl"):
            with file.open("rb") as samples:
                samples.seek(self._read.get(file, 0))
                text = samples.read()
                whole = text[: text.rfind(b"\n") + 1]  # another task may be writing the last line
                self._run.add(file.stem, whole.decode().splitlines())
                self._read[file] = self._read.get(file, 0) + len(whole)
        return progress(self._run, self._counted)


class ActionModule(ActionBase):
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(
            {
                "units": {"type": "list", "elements": "str", "required": True},
                "path": {"type": "path", "required": True},
                "dest": {"type": "path", "required": True},
                "timeout": {"type": "int", "required": True},
                "interval": {"type": "int", "default": 5},
                "tell": {"type": "str"},
            }
        )
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "Nothing runs in check mode."}
        folder = Path(options["dest"])
        samples = folder / f"{(task_vars or {})['inventory_hostname']}.jsonl"
        teller = Teller(folder, options["tell"]) if options["tell"] else None
        units = " ".join(map(shlex.quote, options["units"]))
        deadline = time.monotonic() + options["timeout"]
        states: list[str] = []
        with samples.open("wb") as file:
            while True:
                states, text = self._look(units, options["path"], file.tell()) if units else ([], "")
                file.write(text.encode())
                file.flush()
                if teller and file.tell():
                    self._display.display(teller.line())
                if all(state in ENDED for state in states) or "failed" in states:
                    break
                if time.monotonic() > deadline:
                    break
                time.sleep(options["interval"])
        if "failed" in states:
            return {**result, "failed": True, "msg": f"The load generator failed.\n{self._log(units)}"}
        if any(state not in ENDED for state in states):
            msg = f"The load generator had not ended after {options['timeout']} seconds.\n{self._log(units)}"
            return {**result, "failed": True, "msg": msg}
        return {**result, "changed": False}

    def _look(self, units: str, path: str, offset: int) -> tuple[list[str], str]:
        """Return the state of each unit, and then the whole lines of the file past *offset*."""
        command = f"systemctl is-active {units}; echo; tail -c +{offset + 1} {shlex.quote(path)}"
        states, _separator, text = self._run(command).partition("\n\n")
        return states.split(), text[: text.rfind("\n") + 1]

    def _log(self, units: str) -> str:
        names = " ".join(f"--unit={unit}" for unit in units.split())
        command = f"journalctl --quiet --no-pager --output=cat --lines={LAST_LINES} {names}"
        return self._run(command).rstrip()

    def _run(self, command: str) -> str:
        # not by a terminal, which would change the ends of lines
        return str(self._low_level_execute_command(command, sudoable=False)["stdout"])
