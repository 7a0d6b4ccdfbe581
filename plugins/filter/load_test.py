# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters of load tests: c50k.stack.load_test_calibration, _compared, _plan, _plots and _report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.module_utils import load_history, load_report
from ansible_collections.c50k.stack.plugins.module_utils.calibration import (
    CalibrationError,
    Host,
    calibrate,
    read_usage,
)
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


def load_test_compared(figures: Mapping[str, Any], plan: Mapping[str, Any], fleet: str, history: str) -> dict[str, Any]:
    file = Path(history)
    try:
        before = json.loads(file.read_text()) if file.exists() else []
        now = load_history.entry(plan, figures, fleet)
        return {**load_history.compare(now, before), "history": load_history.add(now, before)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(
            f"c50k.stack.load_test_compared: {history} is not what load tests have written ({error!r}). Remove it; the "
            "next test begins it anew."
        ) from error


def load_test_calibration(
    figures: Mapping[str, Any],
    plan: Mapping[str, Any],
    hosts: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    read = []
    for tier, names in hosts.items():
        for name in names:
            usage = read_usage(hostvars[name]["load_test_usage"]["stdout"].splitlines())
            read.append(Host(name, tier, float(hostvars[name]["ansible_facts"]["capacity"]["cores"]), usage))
    try:
        return calibrate(plan, figures, read, measured)
    except CalibrationError as error:
        raise AnsibleFilterError(f"capacity_measured stays as it was. {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "load_test_calibration": load_test_calibration,
            "load_test_compared": load_test_compared,
            "load_test_plan": load_test_plan,
            "load_test_plots": load_report.plots,
            "load_test_report": load_test_report,
        }
