# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m lab``: the lab's command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from lab import daemon, faults, network, upstream
from lab.catalog import BALANCER_LIMITS
from lab.hosts import HostError
from lab.network import NetworkError
from lab.server import PortTaken, serve
from lab.settings import SettingError, Settings
from lab.shell import CommandError
from lab.store import StateError, made_with_hosts
from lab.tasks import TASKS

REFUSALS = (
    *(daemon.DaemonError, PortTaken, SettingError, StateError),
    *(HostError, NetworkError, CommandError, ConnectionError, ValueError),
)
NOT_RUNNING = 3  # exit code of `status`


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Linode, on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start the lab and wait until it answers")
    start.add_argument("--no-hosts", action="store_true", help="the API alone: instances have nothing behind them")
    start.add_argument("--foreground", action="store_true", help="stay, and log to the terminal")
    commands.add_parser("stop", help="stop the lab; remove its hosts, its network and its state")
    commands.add_parser("restart", help="restart the API; hosts and state stay")
    commands.add_parser("reset", help="remove all instances and records, and faults; the lab and its token stay")
    commands.add_parser("status", help="show the instances and the faults to come")
    commands.add_parser("page", help="print the address of the page that shows the fleet")
    commands.add_parser("token", help="print the account's token")
    behaviour = commands.add_parser("upstream", help="show or change how the external API behaves")
    upstream.add_options(behaviour)
    power = commands.add_parser("power-loss", help="end a host in an instant; Lassie boots it again")
    power.add_argument("label", help="of the Linode")
    power.add_argument("--seconds", type=float, default=60.0, help="how long it stays off (60)")
    _add_fault_options(commands.add_parser("fault", help="make the API or the boots go wrong"))
    options = parser.parse_args()
    try:
        return _run(options)
    except REFUSALS as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    settings = Settings.from_environment(hosts=not getattr(options, "no_hosts", False))
    match options.command:
        case "start" if options.foreground:
            asyncio.run(serve(settings))
        case "start":
            _started(settings, "is running" if daemon.start(settings) else "was running already")
        case "stop":
            daemon.end(settings)
            daemon.remove(settings)
            print("The lab is gone: hosts, network and state.")
        case "restart":
            daemon.end(settings)
            settings = Settings.from_environment(hosts=made_with_hosts(settings.database) is not False)
            daemon.start(settings)
            _started(settings, "was restarted")
        case "status":
            return _status(settings)
        case "reset":
            daemon.call(settings, "POST", "/reset", {})
            print("The account is empty.")
        case "fault":
            _fault(settings, options)
        case "power-loss":
            daemon.call(settings, "POST", "/power-loss", {"label": options.label, "seconds": options.seconds})
            print(f"{options.label} is off, for {options.seconds:g} s.")
        case "page":
            if daemon.process(settings) is None:
                raise daemon.DaemonError("The lab is not running: `python -m lab start`.")
            print(f"{settings.address}/#{settings.token_file.read_text().strip()}")
        case "token":
            if not settings.token_file.exists():
                raise daemon.DaemonError("There is no token before the first `python -m lab start`.")
            print(settings.token_file.read_text())
        case "upstream":
            wish = {name: getattr(options, name) for name in ("latency", "jitter", "failures")}
            given = {name: value for name, value in wish.items() if value is not None}
            for name, value in upstream.ask(settings.upstream_socket, given).items():
                print(f"{name:9}{value:g}")
    return 0


def _started(settings: Settings, what: str) -> None:
    print(f"The lab {what}: {settings.address}/v4 (token in {settings.token_file})")


def _status(settings: Settings) -> int:
    pid = daemon.process(settings)
    if pid is None:
        print("The lab is not running.")
        return NOT_RUNNING
    state = daemon.call(settings, "GET", "/state")
    table = [("ID", "LABEL", "STATUS", "TYPE", "PUBLIC", "VPC", "TAGS")]
    for item in state["instances"]:
        table.append(
            (
                *(str(item["id"]), item["label"], item["status"], item["type"]),
                *(" ".join(part) or "-" for part in (item["ipv4"], item["vpc"], item["tags"])),
            )
        )
    print(f"{settings.address}/v4, pid {pid}, {len(table) - 1} instances")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for item in state["firewalls"]:
        print(f"firewall {item['label']}, {item['status']}, on {item['devices']}")
        print(f"  inbound: {item['inbound']}\n  outbound: {item['outbound']}")
    if state["firewalls"] and made_with_hosts(settings.database):
        for router, (count, most) in asyncio.run(network.tracked()).items():
            print(f"{router} tracks {count} connections of {most} at most")
    for item in state["nodebalancers"]:
        print(f"nodebalancer: {balancer_words(item)}")
    for item in state["faults"]:
        print(f"fault: {_words(item)}")
    return 0


def balancer_words(balancer: dict[str, Any]) -> str:
    """Return a NodeBalancer in one line; what it holds at once only where that is less than its type does."""
    words = [f"{balancer['label']} {balancer['ipv4']} {balancer['type']}"]
    for config in balancer["configs"]:
        status = config["nodes_status"]
        health = f"{status['up']} up, {status['down']} down of {len(config['nodes'])}"
        words.append(f"{config['port']} {config['protocol']} {config['algorithm']}: {health}")
    most, _ = BALANCER_LIMITS[balancer["type"]]
    if balancer["connections"] not in (None, most):
        words.append(f"holds {balancer['connections']} connections, not {most}: this machine's file limit")
    return "; ".join(words)


def _add_fault_options(parser: argparse.ArgumentParser) -> None:
    """Add a command for each kind of fault, with an option for each value it takes."""
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("list", help="show the faults that are still to come")
    kinds.add_parser("clear", help="forget them")
    helps: dict[str, tuple[type, str]] = {
        "label": (str, "of the Linode; without it, any"),
        "seconds": (float, "how long; for timeout and rate-limit, what Retry-After says"),
        "task": (str, f"only one of {', '.join(TASKS)}"),
        "linodes": (int, "how many Linodes"),
        "share": (float, "share of the requests, up to 1"),
        "method": (str, "only requests with this method"),
        "path": (str, "only requests whose path begins so, /linode/instances for example"),
    }
    for name, kind in faults.KINDS.items():
        command = kinds.add_parser(name, help=kind.help)
        command.add_argument("--count", type=int, help="how many times (1); 0: until cleared")
        for option in sorted(kind.takes):
            value, text = helps[option]
            command.add_argument(f"--{option}", type=value, help=text)


def _fault(settings: Settings, options: argparse.Namespace) -> None:
    if options.kind == "clear":
        daemon.call(settings, "DELETE", "/faults")
    elif options.kind == "list":
        for item in daemon.call(settings, "GET", "/faults")["data"]:
            print(_words(item))
    else:
        wish = {name: value for name, value in vars(options).items() if name != "command" and value is not None}
        print(_words(daemon.call(settings, "POST", "/faults", wish)))


def _words(fault: dict[str, object]) -> str:
    """Return a fault in one line: its kind, then what is set."""
    given = (f"{name} {value}" for name, value in fault.items() if name not in ("id", "kind", "count") and value)
    times = f"{fault['count']} times" if fault["count"] else "until cleared"
    return ", ".join((f"{fault['kind']}: {times}", *given))


if __name__ == "__main__":
    sys.exit(main())
