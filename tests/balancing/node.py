# SPDX-License-Identifier: GPL-3.0-or-later
"""A small server, for the nodes of a NodeBalancer: ``python node.py NAME``.

Port 8080 speaks HTTP and says who answers, to whom, and what it was sent; ``POST /status/503`` lets all other paths
answer so from then on. Port 7000 speaks lines: it says its name, after the hex of a PROXY header if it got one, and
then the line.
"""

from __future__ import annotations

import asyncio
import json
import sys

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of a PROXY header, version 2


class Node:
    def __init__(self, name: str) -> None:
        self._name = name
        self._status = 200

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        method, path, _ = head[0].split(" ")
        status = self._status
        if method == "POST":
            self._status, status = int(path.rpartition("/")[2]), 200
        headers = [line.split(": ", 1) for line in head[1:] if line]
        said = {"node": self._name, "peer": writer.get_extra_info("peername")[0], "headers": headers, "path": path}
        body = json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async def lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = ""
        while line := await self._line(reader):
            if line.startswith(b"\r\n") and not header:
                rest = await reader.readexactly(len(SIGNATURE) - 2 + 4)
                header = (line + rest + await reader.readexactly(int.from_bytes(rest[-2:]))).hex()
            elif line.startswith(b"PROXY ") and not header:
                header = line.hex()
            else:
                writer.write(f"{self._name} {header} {line.decode().strip()}\n".encode())
        writer.close()

    @staticmethod
    async def _line(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readline()
        except ConnectionError:
            return b""


async def main() -> None:
    node = Node(sys.argv[1])
    await asyncio.start_server(node.http, "0.0.0.0", 8080, backlog=1024)
    await asyncio.start_server(node.lines, "0.0.0.0", 7000, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
