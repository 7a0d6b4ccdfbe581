"""Errors for Sentry, where the file sentry_dsn of $CREDENTIALS_DIRECTORY says to send them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from items_service.unsent import Unsent

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

logger = logging.getLogger(__name__)


def report_errors(dsn: str, release: str) -> None:
    """Report what nobody catches, and what is logged as an error, without a request's body, query, cookies or secrets.

    A wrong address is said once, without its key, and the service goes on: reports are no reason not to serve. Nor is a
    Sentry that is away, or that refuses them: a thread sends them, and what waits for it is bounded.
    """
    import sentry_sdk
    from sentry_sdk.integrations.starlette import StarletteIntegration
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
            integrations=[StarletteIntegration()],
            before_send=_without_query,
            send_default_pii=False,
            max_request_body_size="never",
            include_local_variables=False,
        )
    except BadDsn:
        logger.error("sentry_dsn is not the address of a Sentry project, https://KEY@HOST/NUMBER: nothing is reported")


def _without_query(event: Event, hint: Hint) -> Event:
    event.get("request", {}).pop("query_string", None)
    return event
