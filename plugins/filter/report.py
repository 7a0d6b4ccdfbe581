# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters c50k.stack.fleet_report and fleet_report_page."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.release import __version__ as ansible_version
from ansible_collections.c50k.stack.plugins.module_utils.report import report
from jinja2 import Environment, StrictUndefined

COLLECTION = Path(__file__).resolve().parents[2]
DRILL = "restore_drill-"


def fleet_report(
    hosts: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], folder: str
) -> dict[str, Any]:
    found = [told_by(tier, name, hostvars[name], given) for tier in hosts for name in hosts[tier] if name in hostvars]
    names = [host["name"] for host in found if host["reached"]]
    texts = {
        host["cluster"]: str(registered(hostvars[host["name"]], "report_backups").get("stdout") or "")
        for host in found
        if registered(hostvars[host["name"]], "report_backups").get("stdout")
    }
    marks = "\n".join(str(registered(hostvars[name], "report_marks").get("stdout") or "") for name in names)
    firsts = {tier: hostvars[members[0]] for tier, members in hosts.items() if members and members[0] in hostvars}
    told = {
        **given,
        "hosts": found,
        "clusters": sorted({host["cluster"] for host in found if host["tier"] == "postgres"}),
        "backups": texts,
        "marks": marks,
        "variables": {**firsts, "kernel": next(iter(firsts.values()), {})},
        "control": {"collection": version(), "ansible": ansible_version, "python": platform.python_version()},
        "load_tests": read(Path(folder, "load_tests.json")) or [],
        "drills": {file.stem.removeprefix(DRILL): read(file) for file in sorted(Path(folder).glob(f"{DRILL}*.json"))},
    }
    return report(told, time.time())


def told_by(tier: str, name: str, variables: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a host: by the inventory, and where it answered by itself."""
    facts = variables.get("ansible_facts") or {}
    state = variables.get("postgres_state") or {}
    release = (registered(variables, "report_release").get("stdout_lines") or []) if tier == "app_server" else []
    is_reached = name in given["reached"]
    is_member = tier == "postgres" and is_reached and state.get("initialised")
    kind = ("replica" if state["in_recovery"] else "primary") if is_member else ""
    return {
        "name": name,
        "tier": tier,
        "cluster": variables.get("postgres_cluster", "main"),
        "reached": is_reached,
        "type": variables.get("linode_type") or "",
        "zone": variables.get("linode_region") or "",
        "os": " ".join(str(facts[key]) for key in ("distribution", "distribution_version") if key in facts),
        "kernel": facts.get("kernel"),
        "python": facts.get("python_version"),
        "packages": registered(variables, "report_packages").get("stdout_lines") or [],
        "programs": given["programs"].get(tier) or [],
        "release": release[0] if release else "",
        "origin": release[1] if len(release) > 1 else "",
        "role": kind,
        "timelines": registered(variables, "report_timelines").get("stdout_lines") or [],
    }


def registered(variables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = variables.get(name)
    return found if isinstance(found, Mapping) else {}


def read(file: Path) -> Any:
    """What a run before has written, None where it has not; a broken file is named."""
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise AnsibleFilterError(f"c50k.stack.fleet_report: {file} is no JSON ({error}): remove it.") from error


def version() -> str:
    """The collection's version: as it was installed, or of its source."""
    manifest, source = COLLECTION / "MANIFEST.json", COLLECTION / "galaxy.yml"
    if manifest.exists():
        return str(json.loads(manifest.read_text())["collection_info"]["version"])
    return str(yaml.safe_load(source.read_text())["version"]) if source.exists() else "of an unknown version"


def fleet_report_page(sections: Mapping[str, Any], template: str) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(Path(template).read_text()).render(sections)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fleet_report": fleet_report, "fleet_report_page": fleet_report_page}
