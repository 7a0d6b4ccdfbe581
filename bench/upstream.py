# SPDX-License-Identifier: GPL-3.0-or-later
"""An external API that takes its time, with any number of callers at once: /posts/{id}, after --latency seconds.

Flow: processes that share a port, since one holds only as many connections as it may hold files -> for each request a
timer -> an answer made beforehand. Usage: python bench/upstream.py --port 9000 --processes 6 --latency 90
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import re
import resource
import signal
import socket
from multiprocessing.synchronize import Semaphore
from typing import cast

import uvloop

POSTS = 100
START = 20  # seconds that a process may take to listen
REQUEST = re.compile(rb"GET /posts/(\d+) HTTP/1\.1\r\n")


def answer(number: int) -> bytes:
    post = {"userId": 1, "id": number, "title": f"post {number}", "body": "what the external API says of it"}
    body = json.dumps(post).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ANSWERS = {number: answer(number) for number in range(1, POSTS + 1)}
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Caller(asyncio.Protocol):
    """One connection, kept alive, with one request at a time."""

    latency = 0.0
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        match = REQUEST.match(data)
        reply = ANSWERS.get(int(match[1]), NOT_FOUND) if match else NOT_FOUND
        if self.latency:
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, reply)
        else:
            self.transport.write(reply)


async def serve(port: int, latency: float, ready: Semaphore) -> None:
    Caller.latency = latency
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Caller, "0.0.0.0", port, reuse_port=True, backlog=65535)
    ready.release()
    await server.serve_forever()


def run(port: int, latency: float, ready: Semaphore) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    uvloop.run(serve(port, latency, ready))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("0.0.0.0", options.port))  # else each process would say that the port is taken
    ready = multiprocessing.Semaphore(0)
    children = [
        multiprocessing.Process(target=run, args=(options.port, options.latency, ready), daemon=True)
        for _number in range(options.processes)
    ]
    for child in children:
        child.start()
    signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in children])
    for child in children:
        if not ready.acquire(timeout=START):
            raise SystemExit(f"{child.name} does not listen on port {options.port} after {START} s")
    print("listening", flush=True)
    for child in children:
        child.join()


if __name__ == "__main__":
    main()
