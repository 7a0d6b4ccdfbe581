# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.postgres_topology import TopologyError, topology

FRESH = {"initialised": False, "in_recovery": False, "system_identifier": ""}
PRIMARY = {"initialised": True, "in_recovery": False, "system_identifier": "7"}
REPLICA = {"initialised": True, "in_recovery": True, "system_identifier": "7"}


def test_lowest_number_of_a_fresh_cluster_is_primary():
    assert topology({"f-postgres-10": FRESH, "f-postgres-9": FRESH}) == {
        "primary": "f-postgres-9",
        "replicas": ["f-postgres-10"],
    }


def test_the_live_primary_stays_primary_whatever_its_number():
    states = {"f-postgres-1": REPLICA, "f-postgres-2": PRIMARY, "f-postgres-3": FRESH}
    assert topology(states) == {"primary": "f-postgres-2", "replicas": ["f-postgres-1", "f-postgres-3"]}


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"a": PRIMARY, "b": PRIMARY}, "a and b are both primaries"),
        ({"a": REPLICA, "b": FRESH}, r"only replicas are left \(a\)"),
        ({"a": PRIMARY, "b": {**REPLICA, "system_identifier": "8"}}, "a: 7, b: 8"),
    ],
)
def test_contradictions_name_the_hosts(states, message):
    with pytest.raises(TopologyError, match=message):
        topology(states)
