"""Renders what a role would write, and tells what it would refuse, with Ansible's own templating and no host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[2] / "roles"


def load(role: str, path: str) -> Any:
    """A YAML file of the role, its texts trusted as templates."""
    return DataLoader().load_from_file(str(ROLES / role / path), trusted_as_template=True)


def templar(role: str, **variables: Any) -> Templar:
    """Ansible's templating with the role's defaults, its private variables, and ``variables`` over both."""
    known = {"inventory_hostname": "demo-host_1", "ansible_managed": "Ansible managed", "ansible_check_mode": False}
    for path in ("defaults/main.yml", "vars/main.yml"):
        if (ROLES / role / path).exists():
            known |= load(role, path)
    loader = DataLoader()
    loader.set_basedir(str(ROLES / role / "templates"))
    return Templar(loader=loader, variables=known | variables)


def render(role: str, template: str, **variables: Any) -> str:
    """The text of ``roles/ROLE/templates/TEMPLATE``."""
    source = trust_as_template((ROLES / role / "templates" / template).read_text())
    options = {"preserve_trailing_newlines": True, "escape_backslashes": False}
    return str(templar(role, **variables).template(source, **options))


def value(role: str, name: str, **variables: Any) -> Any:
    """What the role's variable ``name`` comes to."""
    return templar(role, **variables).template(trust_as_template(f"{{{{ {name} }}}}"))


def problems(role: str, **variables: Any) -> list[str]:
    """What ``roles/ROLE/tasks/validate.yml`` says: one message for each broken rule."""
    rules = load(role, "tasks/validate.yml")[0]["vars"]
    return [
        rule["say"] for rule in templar(role, **rules, **variables).template(rules[f"__{role}_rules"]) if not rule["ok"]
    ]


def default_differences(role: str) -> set[str]:
    """Variables whose default is not the same in ``defaults/main.yml`` and ``meta/argument_specs.yml``."""
    defaults = load(role, "defaults/main.yml")
    options = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    specified = {name: option.get("default") for name, option in options.items() if not option.get("required")}
    return {name for name in defaults.keys() | specified.keys() if defaults.get(name, "") != specified.get(name)}
