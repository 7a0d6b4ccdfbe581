# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Linode used, as the API tells it, and where the figures come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from lab_server import Rig, Server, wait_for

from lab.models import Instance
from lab.settings import Settings
from lab.statistics import SAMPLES, Counters, counters, note

NET = """Inter-|   Receive            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     999  0  0  0  0  0  0  0  999  0  0  0  0  0  0          0
  eth0:    1000       9  0  0  0  0  0  0      200       9  0  0  0  0  0  0
  eth1:      70       9  0  0  0  0  0  0       30       9  0  0  0  0  0  0
  eth2:       7       9  0  0  0  0  0  0        3       9  0  0  0  0  0  0
"""


def process(folder: Path, files: Mapping[str, str]) -> Path:
    """The folder of a process, with the files of its control group."""
    for name, text in {"net/dev": NET, **{f"root/sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_counters_of_both_versions_of_control_groups(tmp_path: Path) -> None:
    accesses = "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n"
    files = {"cpuacct/cpuacct.usage": "2500000000\n", "blkio/blkio.throttle.io_serviced": accesses}
    one = counters(process(tmp_path / "one", files), is_public=True)
    assert one == Counters(2.5, 7.0, 1000.0, 200.0, 77.0, 33.0)
    files = {"cpu.stat": "usage_usec 2500000\nuser_usec 7\n", "io.stat": "8:0 rbytes=9 wbytes=9 rios=3 wios=4\n"}
    two = counters(process(tmp_path / "two", files), is_public=False)
    assert two == Counters(2.5, 7.0, 0.0, 0.0, 1077.0, 233.0)


def test_a_host_that_has_booted_counts_from_nothing() -> None:
    before, now = Counters(cpu=50, sent=700), Counters(cpu=80, sent=1000)
    assert now.since(before) == Counters(cpu=30, sent=300)
    assert replace(now, cpu=2).since(before) == replace(now, cpu=2)


def test_a_day_is_kept(api: Server) -> None:
    instance = api.lab.store.get(Instance, api.linode()["id"])
    assert instance
    for _ in range(SAMPLES + 5):
        note(instance, Counters(cpu=150, accesses=600, received=3000), 300)
    assert len(instance.samples) == SAMPLES
    assert instance.samples[-1][1:] == [50.0, 2.0, 80.0, 0.0, 0.0, 0.0]


class Counted(Rig):
    """Hosts whose counters are given."""

    def __init__(self) -> None:
        super().__init__()
        self.used: dict[int, Counters] = {}

    async def counters(self, public: Collection[int]) -> Mapping[int, Counters]:
        return {host_id: used for host_id, used in self.used.items() if host_id in public}


def test_the_api_tells_what_was_used_once_there_is_some(serve: Callable[..., Server], tmp_path: Path) -> None:
    hosts = Counted()
    api = serve(Settings(state=tmp_path, hosts=False, limits={}, statistics_interval=0.05), hosts)
    made = api.linode(label="host")["id"]
    path = f"/linode/instances/{made}/stats"
    assert api.refusals("GET", path) == {None: "Stats are unavailable at this time."}
    hosts.used[made] = Counters(cpu=0.02, received=10, vpc_sent=20)
    wait_for(lambda: api.http.get(path).status_code == 200)
    found = api.get(path)
    assert found["title"] == f"linode.com - host (linode{made}) - day (5 min avg)"
    data = found["data"]
    # of a time that has passed: 0.05 s, in which a core was busy by two fifths
    assert data["cpu"][0][1] == 40.0
    assert (data["netv4"]["in"][0][1], data["netv4"]["private_out"][0][1]) == (1600.0, 3200.0)
    assert data["io"]["swap"][0][1] == data["netv6"]["in"][0][1] == 0
    assert {len(point) for point in data["cpu"]} == {2}


def test_a_linode_that_is_not_there_has_none(shared: Server) -> None:
    assert shared.http.get("/linode/instances/1/stats").status_code == 404
