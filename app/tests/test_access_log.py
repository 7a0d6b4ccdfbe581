"""The line that each request leaves."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime

import orjson
import pytest
from conftest import Serve, wait_for
from starlette.types import Message, Receive, Scope, Send

from items_service import access_log
from items_service.access_log import BATCH, MOST, AccessLog, Writer


def test_each_request_is_a_line(serve: Serve, item_id: int) -> None:
    service = serve(ACCESS_LOG="on")
    service.poller.close()

    def lines() -> list[dict[str, object]]:
        return [orjson.loads(line) for line in service.log.read_bytes().splitlines() if line.startswith(b"{")]

    with service.client() as client:
        for _ in range(3):
            client.get(f"/items/{item_id}?token=geheim", headers={"X-Request-ID": "one two"})
            client.get(f"/items/{item_id}", headers={"Authorization": "geheim"})
        client.put(f"/items/{item_id}", json={"name": "geheim"})
        client.get("/no/such")
    wait_for(lambda: len([line for line in lines() if line["path"] != "/livez"]) == 8, "the lines", 5)
    found = [line for line in lines() if line["path"] != "/livez"]
    assert [(line["method"], line["path"], line["status"]) for line in found[-2:]] == [
        ("PUT", f"/items/{item_id}", 200),
        ("GET", "/no/such", 404),
    ]
    assert [line["request_id"] for line in found[:2]] == ["one two", None]
    first = found[0]
    assert first["release"] == "test-release" and first["client"] == "127.0.0.1"
    assert isinstance(first["bytes"], int) and first["bytes"] > 100
    assert isinstance(first["duration_ms"], float) and 0 < first["duration_ms"] < 5000
    assert abs(datetime.fromisoformat(str(first["time"])) - datetime.now(UTC)).total_seconds() < 60
    assert b"geheim" not in service.log.read_bytes()


def test_whoever_reads_too_slowly_misses_lines_and_stops_nobody() -> None:
    reading, writing = os.pipe()
    writer = Writer(lambda data: access_log.write_all(data, writing))
    began = time.monotonic()
    for number in range(MOST + 5 * BATCH):
        writer.put({"number": number, "text": "x" * 200})
    assert time.monotonic() - began < 5
    data = b""
    last = MOST + 5 * BATCH
    while b"dropped" not in data:
        data += os.read(reading, 1 << 20)
        if len(data) > MOST * 50:
            writer.put({"number": last})
    lines = [orjson.loads(line) for line in data[: data.rindex(b"\n")].splitlines()]
    numbers = [line["number"] for line in lines]
    assert numbers == sorted(numbers)
    (dropped,) = [line["dropped"] for line in lines if "dropped" in line][:1]
    assert dropped == last - len([number for number in numbers if number < last])


def test_the_last_line_is_written_before_the_service_says_that_it_ended(capfd: pytest.CaptureFixture[str]) -> None:
    written: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Message) -> None:
        written[message["type"]] = capfd.readouterr().out

    async def receive() -> Message:
        raise AssertionError

    async def ask_and_stop() -> None:
        log = AccessLog(app, "test-release")
        await log({"type": "http", "headers": [], "client": None, "method": "GET", "path": "/last"}, receive, send)
        written.clear()
        await log({"type": "lifespan"}, receive, send)

    asyncio.run(ask_and_stop())
    assert "/last" in written["lifespan.shutdown.complete"]
