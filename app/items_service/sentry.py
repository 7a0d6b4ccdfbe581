"""Errors for Sentry, where the file sentry_dsn of $CREDENTIALS_DIRECTORY says to send them."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import URL
from starlette.types import ASGIApp, Receive, Scope, Send

from items_service.observed import route, trace_id
from items_service.unsent import Unsent

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

logger = logging.getLogger(__name__)
_request: ContextVar[Scope | None] = ContextVar("the request that is answered", default=None)


def reported(app: ASGIApp, dsn: str, release: str) -> ASGIApp:
    """Have reported what nobody catches in the application, or anybody logs as an error, and return it with that.

    A report is without a request's body, query, headers or secrets. A wrong address is said once, without its key, and
    the service goes on: reports are no reason not to serve. Nor is a Sentry that is away, or that refuses them: a
    thread sends them, and what waits for it is bounded.
    """
    import sentry_sdk
    from sentry_sdk.transport import HttpTransport
    from sentry_sdk.utils import BadDsn

    unsent = Unsent("reports for Sentry")

    class Transport(HttpTransport):
        TIMEOUT = 5  # seconds

        def on_dropped_event(self, _reason: str) -> None:
            unsent.count(1, _reason)

    try:
        sentry_sdk.init(
            dsn,
            release=release,
            transport=Transport,
            auto_session_tracking=False,  # errors alone, not a count of each request
            auto_enabling_integrations=False,  # nor each statement and command, for whatever may come after it
            max_breadcrumbs=0,  # they would be of all requests at once
            before_send=_of_the_request,
            send_default_pii=False,
            max_request_body_size="never",
            include_local_variables=False,
        )
    except BadDsn:
        logger.error("sentry_dsn is not the address of a Sentry project, https://KEY@HOST/NUMBER: nothing is reported")
        return app
    return Reported(app)


class Reported:
    """Reports what nobody catches, and knows which request a report is of.

    In place of Sentry's StarletteIntegration, which makes scopes and a transaction for each request, in a hundred
    times as long.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            _request.set(scope)
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            import sentry_sdk
            from sentry_sdk.utils import event_from_exception

            options = sentry_sdk.get_client().options
            event, hint = event_from_exception(error, options, mechanism={"type": "asgi", "handled": False})
            sentry_sdk.capture_event(event, hint)
            raise


def _of_the_request(event: Event, hint: Hint) -> Event:
    """Say what the report is of; its trace is the request's, whose id the load balancer gave."""
    if scope := _request.get():
        event["transaction"] = route(scope)
        url = URL(scope={**scope, "query_string": b""})
        event["request"] = {"method": scope.get("method"), "url": str(url)}
        event.setdefault("contexts", {})["trace"] = {"trace_id": f"{trace_id(scope):032x}", "span_id": uuid4().hex[:16]}
    return event
