"""The load_balancer role's rules and templates."""

import re

import pytest
from render import default_differences, problems, render

GIVEN = {
    "load_balancer_backends": [{"name": "one", "address": "10.0.2.10"}, {"name": "two", "address": "fd00::b"}],
    "load_balancer_maxconn": 9000,
    "load_balancer_open_files": 20000,
    "load_balancer_backend_maxconn": 4000,
}
ENGINES = {"haproxy": "haproxy.cfg.j2", "nginx": "nginx.conf.j2"}


def config(engine: str, **variables) -> str:
    return render("load_balancer", ENGINES[engine], load_balancer_engine=engine, **(GIVEN | variables))


def test_defaults_and_specification_agree():
    assert default_differences("load_balancer") == set()


def test_good_input_passes():
    assert problems("load_balancer", **GIVEN, load_balancer_bind="198.51.100.7", load_balancer_port="8080") == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"load_balancer_backends": []}, "load_balancer_backends is empty"),
        ({"load_balancer_backends": [{"name": "a b", "address": "10.0.2.10"}]}, "load_balancer_backends has"),
        ({"load_balancer_backends": [{"name": "a", "address": "app.example"}]}, "load_balancer_backends has"),
        ({"load_balancer_backends": [{"name": "a", "address": "::1"}, {"name": "a", "address": "::2"}]}, "twice"),
        ({"load_balancer_backends": [{"name": "a", "address": "::1"}, {"name": "b", "address": "::1"}]}, "twice"),
        ({"load_balancer_bind": "eth0"}, "load_balancer_bind is 'eth0'"),
        ({"load_balancer_port": 8404}, "load_balancer_port is 8404"),
        ({"load_balancer_port": "0"}, "load_balancer_port is 0"),
        ({"load_balancer_proxy_cidrs": ["10.0.0.252"]}, "load_balancer_proxy_cidrs is ['10.0.0.252']"),
        ({"load_balancer_check_path": "/a b"}, "load_balancer_check_path is '/a b'"),
        ({"load_balancer_timeout_client": 0}, "load_balancer_timeout_connect, _client and _server are 3, 0"),
        ({"load_balancer_maxconn": 9951}, "load_balancer_maxconn (9951) needs 20002 files"),
    ],
)
def test_bad_input_is_named(given, said):
    messages = problems("load_balancer", **(GIVEN | given))
    assert len(messages) == 1
    assert said in messages[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_clients_address_comes_from_the_nodebalancer_and_nobody_else(engine):
    behind = config(engine, load_balancer_proxy_cidrs=["10.0.0.252/30"])
    wanted = {
        "haproxy": ["tcp-request connection expect-proxy layer4 if { src 10.0.0.252/30 }"],
        "nginx": [" proxy_protocol;", "set_real_ip_from 10.0.0.252/30;", "real_ip_header proxy_protocol;"],
    }
    assert all(line in behind and line not in config(engine) for line in wanted[engine])


@pytest.mark.parametrize("engine", ENGINES)
def test_every_backend_is_served_with_its_limit(engine):
    servers = [
        line.strip() for line in config(engine).splitlines() if line.strip().startswith("server ") and "{" not in line
    ]
    assert len(servers) == 2
    assert "10.0.2.10:8000" in servers[0]
    assert "[fd00::b]:8000" in servers[1]
    assert "4000" in (config(engine) if engine == "haproxy" else servers[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_client_claims_is_replaced(engine):
    text = config(engine)
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID"):
        assert re.search(rf"(http-request set-header|proxy_set_header) {header} ", text), header
    assert "option forwardfor" not in text
    assert "proxy_add_x_forwarded_for" not in text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sent_post_is_never_repeated(engine):
    text = config(engine)
    if engine == "haproxy":
        assert "http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE }" in text
    else:
        assert re.search(r"proxy_next_upstream error timeout;", text)
        assert "non_idempotent" not in text


@pytest.mark.parametrize("engine", ENGINES)
def test_the_unit_is_bounded_and_hardened(engine):
    lines = render("load_balancer", f"{engine}.service.j2", load_balancer_engine=engine, **GIVEN).splitlines()
    assert "LimitNOFILE=20000" in lines
    assert "ProtectSystem=strict" in lines
    assert "NoNewPrivileges=yes" in lines
    assert any(line.startswith("CapabilityBoundingSet=CAP_") for line in lines)


def test_timeouts_are_told_to_both_engines():
    timeouts = {f"load_balancer_timeout_{name}": n for name, n in {"connect": 7, "client": 41, "server": 43}.items()}
    haproxy, nginx = config("haproxy", **timeouts), config("nginx", **timeouts)
    for line in ("timeout connect 7s", "timeout client 41s", "timeout server 43s"):
        assert line in haproxy
    for line in ("proxy_connect_timeout 7s", "keepalive_timeout 41s", "proxy_read_timeout 43s"):
        assert line in nginx


def test_nginx_has_a_queue_for_each_of_its_processes():
    text = config("nginx", load_balancer_processes=7)
    assert "worker_processes 7;" in text
    assert "worker_connections 18100;" in text
    assert " reuseport backlog=9000;" in text
