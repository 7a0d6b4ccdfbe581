# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m lab``: the lab's command line."""

from __future__ import annotations

import argparse
import asyncio
import sys

from lab import daemon, upstream
from lab.hosts import HostError
from lab.network import NetworkError
from lab.server import PortTaken, serve
from lab.settings import SettingError, Settings
from lab.shell import CommandError
from lab.store import StateError, made_with_hosts

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
    commands.add_parser("status", help="show the instances")
    commands.add_parser("token", help="print the account's token")
    behaviour = commands.add_parser("upstream", help="show or change how the external API behaves")
    upstream.add_options(behaviour)
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
    private: dict[int, list[str]] = {}
    for row in daemon.call(settings, "/vpcs/ips"):
        private.setdefault(row["linode_id"], []).append(row["address"])
    table = [("ID", "LABEL", "STATUS", "TYPE", "PUBLIC", "VPC", "TAGS")]
    for item in daemon.call(settings, "/linode/instances"):
        table.append(
            (
                *(str(item["id"]), item["label"], item["status"], item["type"]),
                *(" ".join(part) or "-" for part in (item["ipv4"], private.get(item["id"], []), item["tags"])),
            )
        )
    print(f"{settings.address}/v4, pid {pid}, {len(table) - 1} instances")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
