# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's configuration for a NodeBalancer, and what HAProxy says about its servers. Nothing here has effects.

Data: a Balancer, the records of one NodeBalancer. Flow: Balancer -> ``configuration`` -> haproxy.cfg -> HAProxy ->
its statistics -> ``health``. A node is a server whose name holds its id and its address: with another address it is
another server, with no past.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import catalog
from lab.models import NodeBalancer, NodeBalancerConfig, NodeBalancerNode
from lab.network import VpcAddress

SPARE_FILES = 200  # of a process: listeners, its own sockets, threads
UNKNOWN = "Unknown"
NO_STATES = "1\n"  # a file of server states with no server in it

# Linode documents no timeouts; these let a long poll and a WebSocket live.
_DEFAULTS = """\
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  retries 3
  option redispatch 1
  load-server-state-from-file global
"""
_TLS = {
    "recommended": "ssl-min-ver TLSv1.2",
    "legacy": "ssl-min-ver TLSv1.0 ciphers ALL:!aNULL:!eNULL:@SECLEVEL=0",
}
_PROXY = {"none": [], "v1": ["send-proxy"], "v2": ["send-proxy-v2"]}
_PEERS_PORT = 10000  # of the namespace's own loopback: a new process learns the tables of the one it follows


@dataclass(frozen=True)
class Balancer:
    """A NodeBalancer with its configs, their nodes, and its addresses in its VPC by the id of their record."""

    record: NodeBalancer
    configs: tuple[NodeBalancerConfig, ...] = ()
    nodes: tuple[NodeBalancerNode, ...] = ()
    vpc: tuple[tuple[int, VpcAddress], ...] = ()

    @property
    def id(self) -> int:
        return self.record.id


@dataclass(frozen=True)
class Files:
    """The files of one NodeBalancer in a folder."""

    folder: Path
    balancer_id: int

    @property
    def config(self) -> Path:
        return self._file(".cfg")

    @property
    def socket(self) -> Path:
        return self._file(".sock")

    @property
    def states(self) -> Path:
        return self._file(".states")

    def certificate(self, config_id: int) -> Path:
        return self._file(f"-{config_id}.pem")

    def certificates(self) -> list[Path]:
        return list(self.folder.glob(f"nb-{self.balancer_id}-*.pem"))

    def all(self) -> list[Path]:
        return [*self.folder.glob(f"nb-{self.balancer_id}.*"), *self.certificates()]

    def _file(self, end: str) -> Path:
        return self.folder / f"nb-{self.balancer_id}{end}"


def max_connections(balancer: Balancer, file_limit: int) -> int:
    """Return how many connections a NodeBalancer holds: what its type does, or half of a process's files."""
    own, _ = catalog.BALANCER_LIMITS[balancer.record.type]
    return max(1, min(own, (file_limit - SPARE_FILES - len(balancer.nodes)) // 2))


def contents(balancer: Balancer, files: Files, file_limit: int) -> dict[Path, str]:
    """Return the text of each file that HAProxy reads, certificates with their keys among them."""
    certificates = {
        files.certificate(config.id): f"{config.ssl_cert}\n{config.ssl_key}\n"
        for config in balancer.configs
        if config.protocol == "https"
    }
    return {**certificates, files.config: configuration(balancer, files, file_limit)}


def configuration(balancer: Balancer, files: Files, file_limit: int) -> str:
    """Return the text of haproxy.cfg."""
    sections = [
        "global",
        "  user haproxy",
        "  group haproxy",
        "  localpeer self",
        f"  maxconn {max_connections(balancer, file_limit)}",
        f"  stats socket {_quoted(str(files.socket))} mode 600 level admin expose-fd listeners",
        f"  server-state-file {_quoted(str(files.states))}",
        "",
        _DEFAULTS,
        "peers self",
        f"  peer self 127.0.0.1:{_PEERS_PORT}",
    ]
    if balancer.record.client_conn_throttle:
        sections += ["", "backend clients", "  stick-table type ip size 100k expire 10s store conn_rate(1s)"]
    for config in balancer.configs:
        if config.protocol != "udp":
            sections += ["", *_listen(balancer, config, files)]
    return "\n".join([*sections, ""])


def server_name(node: NodeBalancerNode) -> str:
    return f"{node.id}_{node.address.replace('[', '').replace(']', '')}"


def health(statistics: str) -> dict[int, str]:
    """Return UP, DOWN or Unknown by node id from ``show stat``'s CSV; Unknown: no check, or none has ended yet."""
    found = {}
    for row in csv.DictReader(statistics.removeprefix("# ").splitlines()):
        asked = row["check_status"].removeprefix("* ") not in ("", "INI")
        status = "DOWN" if row["status"].startswith("DOWN") else "UP"
        found[int(row["svname"].split("_")[0])] = status if asked else UNKNOWN
    return found


def _listen(balancer: Balancer, config: NodeBalancerConfig, files: Files) -> Iterator[str]:
    http = config.protocol != "tcp"
    yield f"listen {config.id}"
    yield f"  mode {'http' if http else 'tcp'}"
    yield f"  bind {balancer.record.ipv4}:{config.port}{_tls(config, files)}"
    if limit := balancer.record.client_conn_throttle:
        yield "  tcp-request connection track-sc0 src table clients"
        yield f"  tcp-request connection reject if {{ sc0_conn_rate(clients) gt {limit} }}"
    if http:
        yield "  option httpclose"
        yield "  option disable-h2-upgrade"
        yield "  option forwardfor"
        yield f"  http-request set-header X-Forwarded-Proto {config.protocol}"
    else:
        yield "  timeout client 1h"
        yield "  timeout server 1h"
    yield f"  balance {config.algorithm}"
    yield "  option allbackups"
    if config.stickiness == "table":
        yield "  stick-table type ip size 100k expire 30m peers self"
        yield "  stick on src"
    elif config.stickiness == "http_cookie":
        yield "  cookie NB_SRVID insert indirect nocache"
    yield from _check(config)
    for node in balancer.nodes:
        if node.config_id == config.id and node.mode != "reject":
            yield f"  server {' '.join(_server(balancer, config, node))}"


def _tls(config: NodeBalancerConfig, files: Files) -> str:
    if config.protocol != "https":
        return ""
    return f" ssl crt {_quoted(str(files.certificate(config.id)))} alpn http/1.1 {_TLS[config.cipher_suite]}"


def _check(config: NodeBalancerConfig) -> Iterator[str]:
    """Yield what a check asks; HAProxy makes a connection where nothing is said."""
    if config.check == "none":
        return
    yield f"  timeout check {config.check_timeout}s"
    if config.check in ("http", "http_body"):
        yield "  option httpchk"
        yield f"  http-check send meth GET uri {_quoted(config.check_path)}"
    if config.check == "http":
        yield "  http-check expect status 200-399"
    elif config.check == "http_body":
        yield f"  http-check expect string {_quoted(config.check_body)}"


def _server(balancer: Balancer, config: NodeBalancerConfig, node: NodeBalancerNode) -> list[str]:
    words = [server_name(node), node.address]
    # drained: with no weight a server gets what is pinned to it and nothing new
    words += ["weight", "0" if node.mode == "drain" else str(node.weight)]
    if node.mode == "backup":
        words.append("backup")
    if config.check != "none":
        words += ["check", "inter", f"{config.check_interval}s", "fall", str(config.check_attempts)]
        if config.check_passive:
            layer = "layer4" if config.protocol == "tcp" else "layer7"
            words += ["observe", layer, "error-limit", "1", "on-error", "mark-down"]
    if config.stickiness == "http_cookie":
        words += ["cookie", f"srv{node.id}"]
    if source := _source(balancer, node):
        words += ["source", source]
    return [*words, *_PROXY[config.proxy_protocol]]


def _source(balancer: Balancer, node: NodeBalancerNode) -> str | None:
    """Return the address that a node sees: the NodeBalancer's in the VPC, or its private one."""
    if node.vpc_config_id is not None:
        return dict(balancer.vpc)[node.vpc_config_id].address
    return balancer.record.private_ipv4 if balancer.record.backend_connectivity == "legacy" else None


def _quoted(text: str) -> str:
    """Return a text as one literal word of haproxy.cfg."""
    return "'" + text.replace("'", r"'\''") + "'"
