"""The module capacity_facts, on the files of hosts laid out in a folder."""

import os
from pathlib import Path

import pytest
from ansible_collections.c50k.stack.plugins.modules import capacity_facts

LIMITS = "Limit                     Soft Limit           Hard Limit           Units\n"
RESOURCE = 1 << capacity_facts.CAP_SYS_RESOURCE


class HostFiles:
    """A machine of 4 CPUs and 8 GiB on cgroup v2, with nothing limited; tests write over its files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/1/status", f"Name:\tsystemd\nCapEff:\t{(1 << 41) - 1:016x}\nCpus_allowed_list:\t0-3\n")
        self.write(
            "proc/1/limits", LIMITS + "Max open files            1024                 524288               files\n"
        )
        self.write("proc/1/cgroup", "0::/init.scope\n")
        self.write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n")
        self.write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:         1000 kB\n")
        self.write("proc/sys/fs/nr_open", "1048576\n")
        self.write("sys/devices/system/cpu/online", "0-3\n")
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def capacity(self, *sysctls: str) -> dict:
        return capacity_facts.read_capacity(self.root, sysctls)


@pytest.fixture
def host(tmp_path: Path) -> HostFiles:
    return HostFiles(tmp_path)


@pytest.fixture
def hybrid(host: HostFiles) -> HostFiles:
    """A container on a machine with hybrid cgroups: controllers on version 1, and no namespace to hide the paths."""
    own = "/libpod_parent/libpod-1"
    host.write("proc/1/cgroup", f"9:name=systemd:{own}/init.scope\n4:memory:{own}\n2:cpu,cpuacct:{own}\n0::{own}\n")
    host.write(
        "proc/self/mountinfo",
        f"834 648 0:29 {own} /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        f"837 648 0:32 {own} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "505 648 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
        "648 637 0:182 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n",
    )
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    host.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    return host


def test_a_machine_without_limits_has_all_of_itself(host: HostFiles) -> None:
    assert host.capacity() == {
        "cores": 4.0,
        "memory_bytes": 8 << 30,
        "open_files": 1048576,
        "sysctl_writable": [],
    }


@pytest.mark.parametrize(
    ("allowed", "online", "cores"), [("0-3", "0-1", 2.0), ("1,3", "0-3", 2.0), ("0-63", "0-3", 4.0), ("0", "0-3", 1.0)]
)
def test_only_cpus_both_allowed_and_online_count(host: HostFiles, allowed: str, online: str, cores: float) -> None:
    host.write("proc/1/status", f"CapEff:\t0\nCpus_allowed_list:\t{allowed}\n")
    host.write("sys/devices/system/cpu/online", online)
    assert host.capacity()["cores"] == cores


def test_version_2_limits_of_the_top_group_count(host: HostFiles) -> None:
    host.write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    host.write("sys/fs/cgroup/memory.max", f"{2 << 30}\n")
    assert (host.capacity()["cores"], host.capacity()["memory_bytes"]) == (1.5, 2 << 30)


def test_the_tightest_group_on_the_way_up_counts(host: HostFiles) -> None:
    host.write("proc/1/cgroup", "0::/machine/guest/init.scope\n")
    for folder, quota, memory in (("machine", "300000", 3 << 30), ("machine/guest", "max", 1 << 30)):
        host.write(f"sys/fs/cgroup/{folder}/cpu.max", f"{quota} 100000\n")
        host.write(f"sys/fs/cgroup/{folder}/memory.max", f"{memory}\n")
    host.write("sys/fs/cgroup/memory.max", "max\n")
    host.write("sys/fs/cgroup/other/memory.max", "4096\n")
    assert (host.capacity()["cores"], host.capacity()["memory_bytes"]) == (3.0, 1 << 30)


def test_version_1_without_a_limit_leaves_the_machine(hybrid: HostFiles) -> None:
    assert (hybrid.capacity()["cores"], hybrid.capacity()["memory_bytes"]) == (4.0, 8 << 30)


def test_version_1_limits_beside_an_empty_version_2_count(hybrid: HostFiles) -> None:
    hybrid.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n")
    hybrid.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{1 << 30}\n")
    assert (hybrid.capacity()["cores"], hybrid.capacity()["memory_bytes"]) == (2.0, 1 << 30)


def test_files_follow_the_hard_limit_of_systemd_that_may_not_raise_it(host: HostFiles) -> None:
    host.write("proc/1/status", f"CapEff:\t{0xA8AC75FB & ~RESOURCE:016x}\nCpus_allowed_list:\t0\n")
    host.write("proc/1/limits", LIMITS + "Max open files            20000                20000                files\n")
    assert host.capacity()["open_files"] == 20000
    host.write("proc/1/limits", LIMITS + "Max open files            1024                 2000000              files\n")
    assert host.capacity()["open_files"] == 1048576


def test_sysctls_that_can_be_written_are_named_in_order(host: HostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only = host.root / "proc/sys/net/netfilter/nf_conntrack_max"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != read_only and real(path, mode))  # root may write all
    for name in (
        "vm/swappiness",
        "net/core/somaxconn",
        "net/netfilter/nf_conntrack_max",
        "net/ipv4/conf/eth0.1/rp_filter",
    ):
        host.write(f"proc/sys/{name}", "1")
    wanted = ["vm.swappiness", "net.netfilter.nf_conntrack_max", "net.core.absent", "net/core/somaxconn"]
    wanted.append("net.ipv4.conf.eth0/1.rp_filter")
    assert host.capacity(*wanted)["sysctl_writable"] == [wanted[0], *wanted[3:]]
    host.write("run/systemd/container", "podman\n")
    assert host.capacity(*wanted)["sysctl_writable"] == wanted[3:]


def test_an_unknown_kernel_is_an_error_not_a_guess(host: HostFiles) -> None:
    host.write("proc/1/status", "Name:\tinit\n")
    with pytest.raises(ValueError, match="no line 'Cpus_allowed_list:'"):
        host.capacity()
