# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.redis_primary import primary

MEMBERS = [{"name": name, "address": f"10.0.4.{number}"} for number, name in ((10, "a"), (11, "b"), (12, "c"))]


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ({}, "10.0.4.10"),
        ({"b": ["master 0"]}, "10.0.4.11"),
        ({"a": ["master 0"], "c": ["master 2"]}, "10.0.4.12"),
        ({"a": ["master 0"], "b": ["slave 0 10.0.4.12"]}, "10.0.4.12"),
        ({"a": ["sentinel 0 10.0.4.11", "master 2"]}, "10.0.4.11"),
        ({"a": ["sentinel 3 10.0.4.10"], "b": ["sentinel 10 10.0.4.12"], "c": ["sentinel 3 10.0.4.10"]}, "10.0.4.12"),
        ({"a": ["sentinel 1 10.0.4.99"]}, "10.0.4.99"),
    ],
    ids=["nothing runs", "alone", "with replicas", "by a replica", "by a Sentinel", "latest failover", "a stranger"],
)
def test_who_is_primary(said, address):
    assert primary(MEMBERS, said) == address
