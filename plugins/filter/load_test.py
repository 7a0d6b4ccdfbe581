# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters c50k.stack.load_test_plan, load_test_plots and load_test_report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils import load_report
from ansible_collections.c50k.stack.plugins.module_utils.load_test import LoadTestError, plan


def load_test_plan(spec: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return plan(spec)
    except LoadTestError as error:
        raise AnsibleFilterError(f"c50k.stack.load_test_plan: {error}") from error


def load_test_report(folder: str, amount: int) -> dict[str, Any]:
    run = load_report.Run()
    for file in sorted(Path(folder).glob("*.jsonl")):
        with file.open() as lines:
            run.add(file.stem, lines)
    try:
        return load_report.figures(run, amount)
    except ValueError as error:
        raise AnsibleFilterError(f"c50k.stack.load_test_report: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "load_test_plan": load_test_plan,
            "load_test_plots": load_report.plots,
            "load_test_report": load_test_report,
        }
