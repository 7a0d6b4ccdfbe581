# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.c50k.stack.plugins.module_utils.scrape import scrape_targets

TIERS = {
    "postgres": {"hosts": [{"name": "demo-postgres-1", "address": "10.0.3.10"}]},
    "redis": {
        "hosts": [{"name": "demo-redis-1", "address": "10.0.4.10"}, {"name": "demo-redis-2", "address": "10.0.4.11"}]
    },
}


def test_a_job_without_a_tier_is_on_every_host_and_says_which():
    found = scrape_targets(TIERS, [{"job": "node", "port": 9100}], {"demo-postgres-1": "main"})
    assert found == [
        {
            "targets": ["10.0.3.10:9100"],
            "labels": {"job": "node", "instance": "demo-postgres-1", "tier": "postgres", "cluster": "main"},
        },
        {"targets": ["10.0.4.10:9100"], "labels": {"job": "node", "instance": "demo-redis-1", "tier": "redis"}},
        {"targets": ["10.0.4.11:9100"], "labels": {"job": "node", "instance": "demo-redis-2", "tier": "redis"}},
    ]


def test_an_exporter_that_asks_another_program_is_told_its_address():
    job = {"job": "sentinel", "tier": "redis", "port": 9121, "path": "/scrape", "target": "redis://{address}:26379"}
    labels = [row["labels"] for row in scrape_targets(TIERS, [job], {})]
    assert [row["__param_target"] for row in labels] == ["redis://10.0.4.10:26379", "redis://10.0.4.11:26379"]
    assert {row["__metrics_path__"] for row in labels} == {"/scrape"}


def test_what_is_not_there_is_not_asked():
    assert scrape_targets(TIERS, [{"job": "patroni", "tier": "postgres", "port": 8008, "on": False}], {}) == []
