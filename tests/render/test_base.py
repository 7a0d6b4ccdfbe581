"""The base role's rules and templates."""

import pytest
from render import default_differences, problems, render

FACTS = {"distribution": "Debian", "distribution_major_version": "13", "distribution_version": "13.2"}
DEBIAN_13 = {"ansible_facts": FACTS}


def test_defaults_and_specification_agree():
    assert default_differences("base") == set()


def test_good_input_passes():
    hosts = {"db-1": "10.0.3.10", "db-2": "fd00::1"}
    assert problems("base", **DEBIAN_13, base_hosts=hosts, base_sysctl={"net.ipv4.tcp_rmem": "4096 8192 65536"}) == []


def test_the_default_name_has_no_underscore():
    assert problems("base", **DEBIAN_13, inventory_hostname="demo-app_server-1") == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ansible_facts": FACTS | {"distribution_major_version": "12"}}, "Only Debian 13"),
        ({"ansible_facts": FACTS | {"distribution": "Ubuntu"}}, "Only Debian 13"),
        ({"base_hostname": "demo_1"}, "base_hostname is 'demo_1'"),
        ({"base_hostname": "-demo"}, "base_hostname is '-demo'"),
        ({"base_hosts": {"a b": "10.0.0.1"}}, "base_hosts has"),
        ({"base_hosts": {"a": "10.0.0.1 evil"}}, "base_hosts has"),
        ({"base_sysctl": {"somaxconn": 1}}, "base_sysctl has"),
        ({"base_sysctl": {"net.core.somaxconn": "1\nkernel.panic = 1"}}, "base_sysctl has"),
        ({"base_sysctl": {"net.core.somaxconn": ""}}, "base_sysctl has"),
        ({"base_journal_max_use": "half"}, "base_journal_max_use is 'half'"),
        ({"base_journal_keep_free": "10%"}, "base_journal_keep_free '10%'"),
        ({"base_journal_retention": "90"}, "base_journal_retention is '90'"),
        ({"base_journal_burst": -1}, "base_journal_burst is '-1'"),
    ],
)
def test_bad_input_is_named(given, said):
    messages = problems("base", **(DEBIAN_13 | given))
    assert len(messages) == 1
    assert said in messages[0]


def test_kernel_settings_are_sorted_and_single_spaced():
    text = render("base", "sysctl.conf.j2", base_sysctl={"net.b": "1\t 2", "net.a": 3})
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["-net.a = 3", "-net.b = 1 2"]


def test_the_journal_is_kept_within_its_limits():
    text = render("base", "journald.conf.j2", base_journal_max_use="64M", base_journal_burst=0)
    settings = dict(line.split("=") for line in text.splitlines() if "=" in line)
    assert settings == {
        "Storage": "persistent",
        "SystemMaxUse": "64M",
        "SystemKeepFree": "1G",
        "RuntimeMaxUse": "64M",
        "MaxRetentionSec": "90d",
        "RateLimitIntervalSec": "30s",
        "RateLimitBurst": "0",
    }


def test_the_history_has_an_end():
    text = render("base", "sysstat.j2")
    assert "\nHISTORY=7\n" in text
    assert "\nREPORTS=false\n" in text
