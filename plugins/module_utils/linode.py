# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Linode API for this collection's plugins: the official SDK with limits on time, retries that cannot make a twin,
and messages that teach."""

from __future__ import annotations

import difflib
import functools
import json
import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

try:
    import requests
    from linode_api4 import ApiError, LinodeClient

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

DEFAULT_URL = "https://api.linode.com/v4"
PAGE_SIZE = 500
ATTEMPTS = 5
BACKOFF = 0.5
MAX_WAIT = 60.0
PASSING = frozenset({408, 429, 500, 502, 503, 504})
CREATE_RATE = (20, 15.0)
TOKEN = re.compile(r"[!-~]+")
TOKEN_WANTED = "a personal access token that may read and write Linodes, VPCs, Firewalls, NodeBalancers and Domains"

ARGUMENT_SPEC = {
    "api_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LINODE_TOKEN"])},
    "api_url": {"type": "str", "default": DEFAULT_URL, "fallback": (env_fallback, ["LINODE_API_URL"])},
    "api_timeout": {"type": "int", "default": 30},
    "ca_path": {"type": "path", "fallback": (env_fallback, ["LINODE_CA"])},
}

Row = dict[str, Any]


class LinodeError(Exception):
    """What the user is told: a call failed for good, or is refused before it is made.

    :ivar status: the HTTP status, or None if there is none.
    :ivar passing: whether the same call may succeed later.
    :ivar retry_after: seconds the API asks to wait, or None.
    """

    def __init__(
        self, message: str, status: int | None = None, passing: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing
        self.retry_after = retry_after


class LinodeApi:
    """The Linode API at one URL with one token.

    Every request has a time limit. After a lost connection, 408, 429 and 5xx, a GET, PUT or DELETE is sent again, with
    408 and 429 when ``Retry-After`` says (in MAX_WAIT seconds at most), else after BACKOFF seconds, doubled each time.
    A POST is sent once: see :meth:`create`. Methods may be used from several threads, and raise LinodeError only.

    :param timeout: seconds for each answer.
    """

    def __init__(
        self, token: str | None, url: str = DEFAULT_URL, timeout: float = 30, ca_path: str | None = None
    ) -> None:
        token = (token or "").strip()
        if not token:
            raise LinodeError(
                f"No Linode API token: set api_token, or the environment variable LINODE_TOKEN, to {TOKEN_WANTED}."
            )
        if not TOKEN.fullmatch(token):
            raise LinodeError("api_token (or LINODE_TOKEN) is no token: it has blanks or line breaks.")
        self.url = url.rstrip("/")
        self._sdk = LinodeClient(token, base_url=self.url, user_agent="c50k.stack", ca_path=ca_path, retry=False)
        session = self._sdk.session
        session.request = functools.partial(session.request, timeout=(min(timeout, 10), timeout))
        session.auth = _keep_authorization

    def get(self, path: str, filters: Row | None = None) -> Row:
        return self._call("get", path, filters=filters)

    def put(self, path: str, body: Row) -> Row:
        return self._call("put", path, data=body)

    def delete(self, path: str) -> None:
        """Delete what is at path; what is gone already counts as deleted."""
        try:
            self._call("delete", path)
        except LinodeError as error:
            if error.status != 404:
                raise

    def post(self, path: str, body: Row) -> Row:
        return self._send("post", path, data=body)

    def rows(self, path: str, filters: Row | None = None) -> list[Row]:
        """Every row of a paged list, in one request per 500 rows.

        A list whose total changed while it was read is read again, as rows may have moved over a page's edge unseen.
        If it never keeps still, those of the last reading are returned.
        """
        rows: dict[Any, Row] = {}
        for _attempt in range(ATTEMPTS):
            rows, totals, page, pages = {}, set(), 1, 1
            while page <= pages:
                try:
                    reply = self.get(f"{path}?page={page}&page_size={PAGE_SIZE}", filters=filters)
                    totals.add(reply["results"])
                    pages = reply["pages"]
                    rows.update((row.get("id") or json.dumps(row, sort_keys=True), row) for row in reply["data"])
                except LinodeError as error:
                    if error.status != 404 or page == 1:
                        raise
                    totals.add(None)  # the page is gone since the one before it was read
                    break
                except (AttributeError, KeyError, TypeError):
                    raise LinodeError(f"GET {self.url}{path}: the answer is not a page of a list.") from None
                page += 1
            if totals == {len(rows)}:
                break
        return list(rows.values())

    def create(
        self, path: str, body: Row, find: Callable[[], Row | None], before: Callable[[], None] = lambda: None
    ) -> Row:
        """POST body to path and return the thing made, exactly one, whatever becomes of requests and replies.

        :param find: looks the thing up by its unique label; after any failure it is asked before another attempt.
        :param before: called before each attempt, to keep a rate.
        """
        attempt = 0
        while True:
            before()
            try:
                return self.post(path, body)
            except LinodeError as error:
                if error.passing:
                    self._wait(attempt, error)
                found = find()
                if found is not None:
                    return found
                attempt += 1
                if not error.passing or attempt == ATTEMPTS:
                    raise

    def _call(self, method: str, path: str, **arguments: Any) -> Row:
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._send(method, path, **arguments)
            except LinodeError as error:
                if not error.passing:
                    raise
                self._wait(attempt, error)
        return self._send(method, path, **arguments)

    def _wait(self, attempt: int, error: LinodeError) -> None:
        delay = BACKOFF * 2**attempt if error.retry_after is None else error.retry_after
        time.sleep(min(delay, MAX_WAIT))

    def _send(self, method: str, path: str, **arguments: Any) -> Row:
        where = f"{method.upper()} {self.url}{path}"
        try:
            reply = getattr(self._sdk, method)(path, **arguments)
        except ApiError as error:
            raise self._translate(error) from None
        except requests.exceptions.SSLError as error:
            raise LinodeError(f"{where}: {error}. If the API has a certificate of your own, set ca_path.") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LinodeError(f"{where}: the answer is not the Linode API's. Is api_url right? ({error})") from None
        except requests.RequestException as error:
            reason = getattr(error.args[0] if error.args else None, "reason", error)
            raise LinodeError(
                f"{where}: no answer. Is api_url right, and the API up? ({reason})", passing=True
            ) from None
        return reply or {}

    def _translate(self, error: ApiError) -> LinodeError:
        message = str(error)
        if error.status == 401:
            message += (
                f". {self.url} refuses the token: api_token (or LINODE_TOKEN) has to be {TOKEN_WANTED}, of that API and"
                " not expired."
            )
        return LinodeError(message, error.status, error.status in PASSING, _retry_after(error))


class RateLimit:
    """Lets at most ``count`` callers pass in any ``seconds``; the others wait in line. For threads."""

    def __init__(self, count: int, seconds: float) -> None:
        self.seconds = seconds
        self._passed: deque[float] = deque(maxlen=count)
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            if len(self._passed) == self._passed.maxlen:
                time.sleep(max(0.0, self._passed[0] + self.seconds - time.monotonic()))
            self._passed.append(time.monotonic())


def client(module: AnsibleModule) -> LinodeApi:
    """The API that the module's options name; fails the module if the SDK or the token is missing."""
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("linode_api4"), exception=IMPORT_ERROR)
    options = module.params
    try:
        return LinodeApi(options["api_token"], options["api_url"], options["api_timeout"], options["ca_path"])
    except LinodeError as error:
        module.fail_json(msg=str(error))


def instance_filter(tags: Iterable[str] = (), regions: Iterable[str] = ()) -> Row | None:
    """The X-Filter for instances that have all the tags and are in one of the regions; None if neither is given."""
    terms: list[Row] = [{"tags": tag} for tag in tags]
    if regions:
        terms.append({"+or": [{"region": region} for region in regions]})
    if len(terms) > 1:
        return {"+and": terms}
    return terms[0] if terms else None


def check_capability(api: LinodeApi, region: str | None, *capabilities: str) -> None:
    """Refuse a region that does not exist, or that lacks one of the capabilities.

    :raises LinodeError: naming the nearest regions that would do.
    """
    able = {row["id"]: set(row.get("capabilities", [])) for row in api.rows("/regions")}
    allowed = [name for name, has in able.items() if has.issuperset(capabilities)]
    if region not in able:
        raise LinodeError(
            f"region is {region}, which the API does not have. Near to it: {suggest(region or '', allowed)}."
        )
    missing = [name for name in capabilities if name not in able[region]]
    if missing:
        raise LinodeError(
            f"region is {region}, which does not offer {' and '.join(missing)}. Regions that do:"
            f" {suggest(region, allowed)}."
        )


def ipv4_of(nodebalancer: Row) -> str | None:
    """The public address of a NodeBalancer; the API has shown it as a text, and as an object with it."""
    address = nodebalancer.get("ipv4")
    return address.get("address") if isinstance(address, dict) else address


def suggest(wanted: str, allowed: Iterable[str]) -> str:
    """The allowed values nearest to the wanted one, or the first ten if none is near."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(wanted, allowed, n=5, cutoff=0.5)
    return ", ".join(near or allowed[:10]) + ("" if near or len(allowed) <= 10 else ", …")


def stranger(kind: str, have: Row, tags: Iterable[str]) -> str | None:
    """What is said of a thing that has the label of ours and not all of its tags; None if it is ours."""
    if set(tags) <= set(have["tags"]):
        return None
    has = ", ".join(sorted(have["tags"])) or "none"
    return (
        f"{have['label']} is the label of {kind} {have['id']}, whose tags ({has}) are not all of {', '.join(tags)}:"
        " it is taken for somebody else's; give yours another label, or this one the tags"
    )


def _keep_authorization(request: Any) -> Any:
    """Do nothing, so that requests does not put a ~/.netrc entry in the place of the token."""
    return request


def _retry_after(error: ApiError) -> float | None:
    # Linode sends Retry-After with every reply; it means something with these two.
    if error.status not in (408, 429):
        return None
    try:
        return max(0.0, float(error.response.headers["Retry-After"]))
    except (AttributeError, KeyError, ValueError):
        return None
