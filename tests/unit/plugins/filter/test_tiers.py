# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.fleet import FleetError
from ansible_collections.c50k.stack.plugins.module_utils.tiers import tiers

GROUPS = {"redis": ["b", "a"], "all": ["a", "b"]}
HOSTVARS = {
    "a": {"stack_address": "10.0.4.10", "ansible_facts": {"capacity": {"cores": 2.0}}},
    "b": {"stack_address": "10.0.4.11", "ansible_facts": {}},
}


def test_a_tier_of_a_fleet_has_its_part_of_the_subnet_whatever_its_hosts():
    redis = tiers(GROUPS, HOSTVARS, {"redis": {"count": 2, "max": 3}}, "10.0.0.0/20")["redis"]
    assert redis == {
        "hosts": [{"name": "a", "address": "10.0.4.10"}, {"name": "b", "address": "10.0.4.11"}],
        "cidrs": ["10.0.4.0/24"],
        "max": 3,
        "capacity": [{"cores": 2.0}, None],
    }


def test_without_a_subnet_a_tier_is_its_hosts():
    found = tiers(GROUPS, HOSTVARS)
    assert found["redis"]["cidrs"] == ["10.0.4.10/32", "10.0.4.11/32"]
    assert found["postgres"] == {"hosts": [], "cidrs": [], "max": None, "capacity": []}


def test_a_host_without_an_address_is_named():
    with pytest.raises(FleetError, match="a has no stack_address"):
        tiers({"redis": ["a"]}, {"a": {}})
