"""Traces and errors, as a collector and a Sentry on loopback get them."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import APP, External, Serve, Service, Services, free_port, wait_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

REQUEST_ID = "0af7651916cd43dd8448eb211c80319c"


class Observer:
    """Takes whatever is posted, and answers with a status."""

    def __init__(self, status: int = 200) -> None:
        bodies = self.bodies = list[bytes]()
        asked = self.asked = list[tuple[str, Message]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                asked.append((self.path, self.headers))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        groups = [group for request in requests for of in request.resource_spans for group in of.scope_spans]
        return [span for group in groups for span in group.spans]


def with_credential(environment: dict[str, str], directory: Path, name: str, secret: str) -> str:
    """A folder with one more credential than the environment's."""
    for path in Path(environment["CREDENTIALS_DIRECTORY"]).iterdir():
        (directory / path.name).write_text(path.read_text())
    (directory / name).write_text(secret)
    return str(directory)


@pytest.fixture
def observer() -> Iterator[Observer]:
    made = Observer()
    yield made
    made.close()


def test_a_request_is_a_trace_with_all_that_it_asked(
    serve: Serve, observer: Observer, external: External, item_id: int
) -> None:
    service = serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{observer.address}", OTEL_BSP_SCHEDULE_DELAY="100")

    def spans() -> dict[str, Span]:
        return {span.name: span for span in observer.spans() if span.trace_id.hex() == REQUEST_ID}

    with service.client() as client:
        client.get(f"/items/{item_id}", headers={"X-Request-ID": REQUEST_ID})
    wait_for(lambda: "GET /items/{id}" in spans(), "the trace", 5)
    found = spans()
    root = found.pop("GET /items/{id}")
    assert found.keys() == {"cache get_many", "postgresql select", "GET the external API", "cache fill"}
    assert {span.parent_span_id for span in found.values()} == {root.span_id}
    attributes = {one.key: one.value for one in root.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["http.route"].string_value == "/items/{id}"
    assert external.traces[-1] and external.traces[-1].split("-")[1] == REQUEST_ID

    with service.client() as client:
        answers = [client.get(f"/items/{item_id}").headers["X-Cache"] for _ in range(20)]
    assert answers.count("hit") > 10  # of them some from memory, which the router never sees
    wait_for(lambda: sum(span.parent_span_id == b"" for span in observer.spans()) > 20, "the traces", 5)
    assert {span.name for span in observer.spans() if span.parent_span_id == b""} <= {"GET /items/{id}", "GET /livez"}


def test_a_part_of_the_requests_is_traced_where_their_ids_are_uuids(serve: Serve, observer: Observer) -> None:
    service = serve(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{observer.address}",
        OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.25",
    )
    names = [uuid.uuid4().hex for _ in range(400)]
    last = "0" * 31 + "1"

    def traced() -> set[str]:
        return {span.trace_id.hex() for span in observer.spans()}

    with service.client() as client:
        for name in [*names, last]:
            client.get("/livez", headers={"X-Request-ID": name})
    wait_for(lambda: last in traced(), "the last trace", 5)
    assert 50 < len(traced() & set(names)) < 150


def test_no_client_has_its_requests_traced_and_who_is_called_out_to_learns_that_they_are_not(
    serve: Serve, observer: Observer, external: External, item_id: int
) -> None:
    service = serve(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{observer.address}",
        OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.5",
    )
    sampled, other, theirs = REQUEST_ID, "f" + REQUEST_ID[1:], "1" * 32
    with service.client() as client:
        client.headers["traceparent"] = f"00-{theirs}-{'1' * 16}-01"
        for name in (other, sampled):
            client.get(f"/items/{item_id}?source=primary", headers={"X-Request-ID": name})
    wait_for(lambda: "GET /items/{id}" in {span.name for span in observer.spans()}, "the trace", 5)
    assert not {span.trace_id.hex() for span in observer.spans()} & {other, theirs}
    told = [(trace or "").split("-") for trace in external.traces]
    assert {(trace, int(flags, 16) & 1) for _, trace, _, flags in told} == {(other, 0), (sampled, 1)}


@pytest.fixture(params=["closed", "hangs", "refuses"])
def away(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that is not there, takes connections and says nothing, or refuses whatever it gets."""
    if request.param == "closed":
        yield f"127.0.0.1:{free_port()}"
    elif request.param == "hangs":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
    else:
        observer = Observer(status=401)
        yield observer.address
        observer.close()


def unsent(service: Service, what: str) -> float:
    """How many of them did not reach who was to get them, by the service's own metrics."""
    with service.client() as client:
        found = re.search(rf'telemetry_unsent_total{{what="{what}"}} (\S+)', client.get("/metrics").text)
    return float(found[1]) if found else 0.0


def test_a_collector_that_is_away_stops_nobody_and_is_said_once(
    serve: Serve, environment: dict[str, str], away: str, tmp_path: Path, item_id: int
) -> None:
    service = serve(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{away}",
        OTEL_BSP_SCHEDULE_DELAY="50",
        CREDENTIALS_DIRECTORY=with_credential(environment, tmp_path, "otlp_headers", "api-key=geheim"),
    )
    with service.client() as client:
        for _ in range(20):
            answer = client.get(f"/items/{item_id}?source=primary")
            assert answer.status_code == 200 and answer.elapsed.total_seconds() < 2
        wait_for(lambda: unsent(service, "spans"), "the first spans to be given up", 10)
        assert client.get(f"/items/{item_id}?source=primary").status_code == 200
        wait_for(lambda: unsent(service, "spans") > 60, "the others", 20)
    said = service.log.read_text()
    assert said.count("spans were not sent") == 1 and said.count("\n") == 1
    assert "geheim" not in said


def test_more_spans_than_the_collector_takes_are_dropped_and_said_once(serve: Serve, item_id: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which never answers
        service = serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with service.client() as client:
            for _ in range(2700):  # 512 of them are on their way, 2,048 wait
                assert client.get("/livez").is_success
        assert unsent(service, "spans") > 100
        assert service.log.read_text().count("\n") == 1


def test_the_collector_gets_its_headers_which_are_secrets(
    serve: Serve, environment: dict[str, str], observer: Observer, tmp_path: Path
) -> None:
    service = serve(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{observer.address}/otlp",
        OTEL_BSP_SCHEDULE_DELAY="50",
        CREDENTIALS_DIRECTORY=with_credential(
            environment, tmp_path, "otlp_headers", "api-key=a%2Cb%3Dc, X-Team=items\n"
        ),
    )
    with service.client() as client:
        client.get("/livez")
    wait_for(lambda: observer.asked, "a span", 5)
    path, headers = observer.asked[0]
    assert path == "/otlp/v1/traces"
    assert (headers["api-key"], headers["x-team"]) == ("a,b=c", "items")


def test_an_error_is_reported_without_what_the_client_sent(
    serve: Serve, services: Services, observer: Observer, environment: dict[str, str], tmp_path: Path
) -> None:
    credentials = with_credential(environment, tmp_path, "sentry_dsn", f"http://key@{observer.address}/1")
    nothing = services.database_url(name="postgres")  # a database without the table
    service = serve(CREDENTIALS_DIRECTORY=credentials, DATABASE_WRITE_URL=nothing, DATABASE_READ_URL=nothing)
    with service.client() as client:
        client.headers["Authorization"] = "geheim"
        client.headers["X-Request-ID"] = REQUEST_ID
        client.cookies["session"] = "geheim"
        assert client.post("/items?token=geheim", json={"name": "geheim"}).status_code == 500
    wait_for(lambda: b"UndefinedTable" in b"".join(observer.bodies), "the report", 10)
    said = b"".join(observer.bodies)
    assert b"geheim" not in said and services.password.encode() not in said
    reports = [json.loads(body.splitlines()[2]) for body in observer.bodies]
    (report,) = reports  # and none of the server's own line about it
    assert report["request"] == {"method": "POST", "url": f"{service.url}/items"}
    assert report["release"] == "test-release" and report["transaction"] == "/items"
    assert report["contexts"]["trace"]["trace_id"] == REQUEST_ID
    assert report["exception"]["values"][-1]["mechanism"]["handled"] is False
    frames = [frame for value in report["exception"]["values"] for frame in value["stacktrace"]["frames"]]
    assert frames and not [frame for frame in frames if "vars" in frame]


def test_what_is_logged_as_an_error_is_reported_with_its_request(observer: Observer) -> None:
    program = """
import asyncio, logging, sys
from items_service.sentry import reported

async def app(scope, receive, send):
    logging.getLogger("a part").error("it went wrong")

scope = {"type": "http", "method": "GET", "scheme": "http", "server": ("host", 80), "path": "/a",
         "query_string": b"token=geheim", "headers": [(b"authorization", b"geheim")]}
asyncio.run(reported(app, sys.argv[1], "test-release")(scope, None, None))
logging.getLogger("a part").error("it went wrong again")
"""
    subprocess.run([sys.executable, "-c", program, f"http://key@{observer.address}/1"], cwd=APP, check=True)
    wait_for(lambda: len(observer.bodies) == 2, "the reports", 10)
    first, second = (json.loads(body.splitlines()[2]) for body in observer.bodies)
    assert first["logentry"]["message"] == "it went wrong"
    assert first["request"] == {"method": "GET", "url": "http://host/a"}
    assert "request" not in second
    assert b"geheim" not in b"".join(observer.bodies)


def test_a_wrong_address_for_errors_is_said_and_stops_nobody(
    serve: Serve, environment: dict[str, str], tmp_path: Path
) -> None:
    service = serve(CREDENTIALS_DIRECTORY=with_credential(environment, tmp_path, "sentry_dsn", "geheim@nowhere"))
    with service.client() as client:
        assert client.get("/items/1").status_code == 200
    said = service.log.read_text()
    assert "sentry_dsn is not the address of a Sentry project" in said and "geheim" not in said


def test_a_sentry_that_is_away_stops_nobody_and_is_said_once(
    serve: Serve, services: Services, environment: dict[str, str], away: str, tmp_path: Path
) -> None:
    nothing = services.database_url(name="postgres")  # a database without the table
    service = serve(
        CREDENTIALS_DIRECTORY=with_credential(environment, tmp_path, "sentry_dsn", f"http://geheim@{away}/1"),
        DATABASE_WRITE_URL=nothing,
        DATABASE_READ_URL=nothing,
    )
    for _ in range(3):
        with service.client() as client:  # the server closes the connection after an error
            answer = client.post("/items", json={"name": "x"})
            assert answer.status_code == 500 and answer.elapsed.total_seconds() < 2
    wait_for(lambda: unsent(service, "reports for Sentry"), "the first report to be given up", 10)
    said = service.log.read_text()
    assert said.count("reports for Sentry were not sent") == 1
    assert "geheim" not in said
