# SPDX-License-Identifier: GPL-3.0-or-later
"""The external API that the service calls: /posts/{id}, as slow and as unreliable as one asks.

``python -m lab.upstream --bind ADDRESS:PORT --control SOCKET``. The socket takes one line of JSON, any of
``{"latency": seconds, "jitter": seconds, "failures": 0 to 1}``, and answers with what holds then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import uvicorn

POSTS = 100
PER_USER = 10
WORDS = "amber brook cedar delta ember fjord grove haven inlet jetty knoll ledge meadow north orchard prairie".split()
MAX_LATENCY = 60.0


@dataclass(frozen=True)
class Behaviour:
    """How the API behaves: it answers after ``latency`` ± ``jitter`` seconds, and a share of ``failures`` with 503."""

    latency: float = 0.0
    jitter: float = 0.0
    failures: float = 0.0

    def changed(self, wish: Any) -> Behaviour:
        """Return this behaviour with some values changed. Raises ValueError."""
        limits = {"latency": MAX_LATENCY, "jitter": MAX_LATENCY, "failures": 1.0}
        if not isinstance(wish, dict) or not wish.keys() <= limits.keys():
            raise ValueError(f"the upstream takes an object of {', '.join(limits)}, not {wish!r}")
        for name, value in wish.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limits[name]:
                raise ValueError(f"{name} is {value!r}; it must be a number from 0 to {limits[name]:g}")
        return replace(self, **{name: float(value) for name, value in wish.items()})

    def delay(self) -> float:
        return max(0.0, self.latency + random.uniform(-self.jitter, self.jitter))


def post(number: int) -> dict[str, Any]:
    """Return post ``number``, always the same."""
    words = random.Random(number)
    title = " ".join(words.sample(WORDS, 4))
    body = "\n".join(" ".join(words.choices(WORDS, k=7)) for _ in range(4))
    return {"userId": (number - 1) // PER_USER + 1, "id": number, "title": title, "body": body}


class Upstream:
    """The ASGI application. It knows one path, and every reply beforehand: the delay is all it spends."""

    def __init__(self, control: Path | None = None) -> None:
        self.behaviour = Behaviour()
        self._control = control
        self._server: asyncio.Server | None = None
        self._posts = {f"/posts/{number}": json.dumps(post(number)).encode() for number in range(1, POSTS + 1)}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if scope["type"] != "http":
            return
        if delay := self.behaviour.delay():
            await asyncio.sleep(delay)
        status, body = self._reply(scope["method"], scope["path"])
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _reply(self, method: str, path: str) -> tuple[int, bytes]:
        if random.random() < self.behaviour.failures:
            return 503, b"{}"
        if method not in ("GET", "HEAD"):
            return 405, b"{}"
        body = self._posts.get(path)
        return (200, body) if body else (404, b"{}")

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        await self._open_control()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._server:
            self._server.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open_control(self) -> None:
        if self._control is None:
            return
        self._control.unlink(missing_ok=True)
        mask = os.umask(0o177)  # only root may change how the upstream behaves
        try:
            self._server = await asyncio.start_unix_server(self._serve_control, self._control)
        finally:
            os.umask(mask)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                self.behaviour = self.behaviour.changed(json.loads(await reader.readline()))
            answer = asdict(self.behaviour)
        except (ValueError, TimeoutError) as error:
            answer = {"error": str(error) or "no line came within 5 s"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()


def ask(control: Path, wish: dict[str, float]) -> dict[str, Any]:
    """Change a running upstream's behaviour; return what holds then. Raises ConnectionError, ValueError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(control))
        except OSError as error:
            raise ConnectionError(f"The upstream does not answer on {control}: {error}. Is the lab running?") from error
        connection.sendall(json.dumps(wish).encode() + b"\n")
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each value of Behaviour."""
    helps = {"latency": "seconds", "jitter": "seconds, more or less", "failures": "share answered with 503, 0 to 1"}
    for item in fields(Behaviour):
        parser.add_argument(f"--{item.name}", type=float, help=helps[item.name])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.upstream", description="The external API of the lab.")
    parser.add_argument("--bind", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--control", type=Path, metavar="SOCKET")
    options = parser.parse_args()
    address, _, port = options.bind.rpartition(":")
    uvicorn.run(
        Upstream(options.control),
        host=address,
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_level="warning",
        backlog=65535,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main()
