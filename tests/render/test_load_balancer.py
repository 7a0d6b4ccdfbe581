"""The load_balancer role's rules and templates."""

import re
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from render import default_differences, problems, render, templar

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
        ({"load_balancer_max_body": -1}, "load_balancer_max_body -1"),
        ({"load_balancer_access_log_share": 101}, "load_balancer_access_log_share is 101"),
        ({"load_balancer_engine": "nginx", "load_balancer_static": {"/": "/tmp"}}, "load_balancer_static has {'/'"),
        ({"load_balancer_engine": "nginx", "load_balancer_static": {"/a": "/tmp"}}, "load_balancer_static has {'/a'"),
        ({"load_balancer_engine": "nginx", "load_balancer_static": {"/a/": "tmp"}}, "load_balancer_static has {'/a/'"),
        ({"load_balancer_engine": "nginx", "load_balancer_static": {"/a/": "/none"}}, "{'/a/': '/none'}"),
        ({"load_balancer_static": {"/a/": "/tmp"}}, "has /a/, but HAProxy serves no files"),
        ({"load_balancer_maxconn": 9951}, "load_balancer_maxconn (9951) needs 20002 files"),
    ],
)
def test_bad_input_is_named(given, said):
    messages = problems("load_balancer", **(GIVEN | given))
    assert len(messages) == 1
    assert said in messages[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("load_balancer_rate_limit", 10),
        ("load_balancer_compression", True),
        ("load_balancer_access_log_share", 1),
        ("load_balancer_max_body", 1000),
        ("load_balancer_http2", True),
    ],
)
def test_mode_tcp_refuses_what_needs_requests(engine, option, value):
    given = {**GIVEN, "load_balancer_engine": engine, option: value}
    assert problems("load_balancer", **given) == []
    messages = problems("load_balancer", **given, load_balancer_mode="tcp")
    assert len(messages) == 1
    assert f"load_balancer_mode is tcp, which knows nothing of requests, so that it cannot do {option}." in messages[0]


def test_mode_tcp_names_all_that_it_cannot_do():
    (message,) = problems(
        "load_balancer", **GIVEN, load_balancer_mode="tcp", load_balancer_sticky=True, load_balancer_http2=True
    )
    assert "load_balancer_sticky, load_balancer_http2" in message


@pytest.mark.parametrize("engine", ENGINES)
def test_mode_tcp_looks_at_no_request(engine):
    text = config(engine, load_balancer_mode="tcp", load_balancer_timeout_client=41, load_balancer_timeout_server=43)
    if engine == "haproxy":
        front = text[text.index("frontend front") : text.index("backend app")]
        assert "http-" not in front
        assert "mode tcp" in text
        assert "http-check expect status 200" in text
        assert "timeout tunnel 43s" in text
    else:
        assert "http {" not in text
        assert "include /etc/nginx/modules-enabled/*.conf;" in text
        assert "proxy_timeout 43s;" in text
        assert "keepalive" not in text


@pytest.mark.parametrize(("modes", "trusted"), [([{}, {}], ["10.0.1.0/24"]), ([{}, {"load_balancer_mode": "tcp"}], [])])
def test_the_application_believes_no_header_that_mode_tcp_lets_through(modes, trusted):
    path = Path(__file__).parents[2] / "roles/stack/vars/main.yml"
    stack = DataLoader().load_from_file(str(path), trusted_as_template=True)
    known = {
        "hostvars": dict(zip(["one", "two"], modes, strict=True)),
        "stack_hosts": {"load_balancer": ["one", "two"]},
        "stack_tiers": {"load_balancer": {"cidrs": ["10.0.1.0/24"]}},
    }
    given = templar("app_server", **(stack | known)).template(stack["app_server_trusted_proxies"])
    assert given == trusted


def test_only_mode_tcp_wants_a_module_of_nginx():
    assert "modules-enabled" not in config("nginx")


@pytest.mark.parametrize("engine", ENGINES)
def test_there_is_an_access_log_when_it_is_asked_for(engine):
    share = {"haproxy": "unless { rand(100) lt 7 }", "nginx": "        7% 1;"}[engine]
    without, text = config(engine), config(engine, load_balancer_access_log_share=7)
    assert share in text
    assert "log-format" not in without
    assert "log_format" not in without
    for name in ("request_id", "client", "method", "path", "status", "bytes", "duration_ms", "backend"):
        assert re.search(rf'%\({name}\)|"{name}": ', text), name


def test_nginx_names_a_backend_in_its_log_as_haproxy_does():
    text = config("nginx", load_balancer_access_log_share=1)
    assert "10.0.2.10:8000 one;" in text
    assert "[fd00::b]:8000 two;" in text


def test_http2_is_for_those_who_ask():
    assert "option disable-h2-upgrade" in config("haproxy")
    assert "option disable-h2-upgrade" not in config("haproxy", load_balancer_http2=True)
    assert "http2 on;" not in config("nginx")
    assert "http2 on;" in config("nginx", load_balancer_http2=True)


@pytest.mark.parametrize(
    ("engine", "line"),
    [("haproxy", "if { req.body_size gt 1000 }"), ("nginx", "client_max_body_size 1000;")],
)
def test_a_body_is_bounded(engine, line):
    assert line in config(engine, load_balancer_max_body=1000)
    assert line not in config(engine)


def test_nginx_serves_each_folder_under_its_prefix():
    packed = {"results": [{"stdout": "0f3c9a"}, {"stdout": "77aa01"}]}
    text = config("nginx", load_balancer_static={"/static/": "/a", "/docs/": "/b"}, __load_balancer_packed=packed)
    assert re.search(r"location /static/ {\s+alias /srv/load_balancer_static/0f3c9a/;", text)
    assert re.search(r"location /docs/ {\s+alias /srv/load_balancer_static/77aa01/;", text)


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


def test_metrics_are_given_where_they_are_asked_for_alone():
    assert "prometheus-exporter" not in config("haproxy") and "stub_status" not in config("nginx")
    given = config("haproxy", load_balancer_metrics_address="10.0.1.10")
    assert "bind 10.0.1.10:8404\n    http-request use-service prometheus-exporter if { path /metrics }" in given
    assert "listen 127.0.0.1:8405;" in config("nginx", load_balancer_metrics_address="10.0.1.10")
