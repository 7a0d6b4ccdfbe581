"""The endpoints."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypedDict

import orjson
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from items_service.cache import SETTLE
from items_service.changes import Changes
from items_service.database import Item, Role, Store, Write, Written
from items_service.health import Health
from items_service.hot import WROTE
from items_service.items import Items, NoItem
from items_service.shards import SHARDS

LARGEST_ID = 2**63 - 1 - SHARDS  # its related item still is a bigint
LONGEST_POLL = 600  # seconds
LONGEST_LIST = 100  # items


class State(TypedDict):
    """What the lifespan gives to every request."""

    database: Store
    items: Items
    changes: Changes
    health: Health


class JSON(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else orjson.dumps(content)


class ItemsEndpoint(HTTPEndpoint):
    async def get(self, request: Request[State]) -> Response:
        """`?limit=` items whose ids are above `?after=`; with several clusters those of `missing` may lack."""
        limit = _whole(request, "limit", 20, 1, LONGEST_LIST)
        page = await request.state["database"].page(_whole(request, "after", 0, 0, LARGEST_ID), limit)
        return JSON({"items": page.items, "partial": bool(page.missing), "missing": page.missing})

    async def post(self, request: Request[State]) -> Response:
        written = await request.state["database"].insert(await _item_values(request))
        await request.state["items"].written(written.item, is_new=True)
        return _written(written, 201)


class ItemEndpoint(HTTPEndpoint):
    async def get(self, request: Request[State]) -> Response:
        """The item and the next one as its related item, each with details from the external API.

        `?source=replica|primary` reads past the cache from that database; X-Database says which kind answered.
        """
        item_id = _item_id(request.path_params["id"])
        source, wrote = _source(request), _wrote(request)
        items = request.state["items"]
        try:
            if source is not None:
                answer = await items.fresh(item_id, source)
            elif wrote is not None:
                answer = await items.fresh(item_id, "replica", after=wrote)
            else:
                answer = await items.shared(item_id)
        except NoItem:
            raise _no_item(item_id) from None
        items.answers[answer.cache] += 1
        headers = {"X-Cache": answer.cache}
        if answer.cache != "hit":
            headers |= {"X-Database": answer.database or "", "X-Upstream": "ok" if answer.ok else "error"}
        return JSON(answer.body, headers=headers)

    async def put(self, request: Request[State]) -> Response:
        item_id = _item_id(request.path_params["id"])
        written = await request.state["database"].update(item_id, await _item_values(request))
        if written is None:
            raise _no_item(item_id)
        await request.state["items"].written(written.item, is_new=False)
        return _written(written, 200)


async def changes(request: Request[State]) -> Response:
    """The item as it is next written, on whichever host; 204 if it is not within `timeout` seconds.

    `?after=VERSION` answers at once where the item is newer already, so that nothing is missed between two polls.
    """
    item_id = _item_id(request.path_params["id"])
    timeout = _whole(request, "timeout", 30, 1, LONGEST_POLL)
    after = _whole(request, "after", 0, 0, 2**31 - 1)
    news = request.state["changes"].next(item_id, timeout)
    if after:
        waiting = asyncio.ensure_future(news)  # from before the read, so that no write falls between the two
        try:
            items = (await request.state["database"].read("primary", item_id)).items
            if item_id not in items:
                raise _no_item(item_id)
            if items[item_id]["version"] > after:
                return JSON(items[item_id])
            written = await waiting
        finally:
            waiting.cancel()
    else:
        written = await news
    return Response(status_code=204) if written is None else JSON(written)


async def alive(request: Request[State]) -> Response:
    return JSON({"status": "ok"})


async def ready(request: Request[State]) -> Response:
    status, content = request.state["health"].report()
    return JSON(content, status)


async def index(request: Request[State]) -> Response:
    return RedirectResponse("/static/")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):  # before it had its answer
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])


def _written(written: Written, status: int) -> Response:
    response = JSON(written.item, status, headers={"Location": f"/items/{written.item['id']}"})
    response.set_cookie(WROTE, str(written.write), max_age=SETTLE, httponly=True, samesite="lax")
    return response


def _wrote(request: Request[State]) -> Write | None:
    """The client's last write; None if it has not just written.

    A forged one asks no more of the primary than `?source=primary` does: reads share their statements.
    """
    return Write.parse(request.cookies.get(WROTE, ""))


def _no_item(item_id: int) -> HTTPException:
    return HTTPException(404, f"there is no item {item_id}")


def _item_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and 1 <= int(text) <= LARGEST_ID):
        raise HTTPException(400, f"the item id must be a whole number from 1 to {LARGEST_ID}")
    return int(text)


def _whole(request: Request[State], name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and low <= int(text) <= high):
        raise HTTPException(400, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def _source(request: Request[State]) -> Role | None:
    match request.query_params.get("source"):
        case None:
            return None
        case "primary":
            return "primary"
        case "replica":
            return "replica"
        case _:
            raise HTTPException(400, "source must be replica or primary")


async def _item_values(request: Request[State]) -> Item:
    """The columns of the item in the request's body."""
    try:
        values = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise HTTPException(400, "the body must be JSON") from None
    if not isinstance(values, dict) or not values.keys() <= {"name", "description", "price_cents"}:
        raise HTTPException(400, "the body must be an object of name, description and price_cents")
    name, description, price = values.get("name"), values.get("description", ""), values.get("price_cents", 0)
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or "\0" in name:
        raise HTTPException(400, "name must be a string of 1 to 200 characters, none of them NUL")
    if not isinstance(description, str) or len(description) > 10_000 or "\0" in description:
        raise HTTPException(400, "description must be a string of at most 10000 characters, none of them NUL")
    if type(price) is not int or not 0 <= price < 2**31:
        raise HTTPException(400, f"price_cents must be a whole number from 0 to {2**31 - 1}")
    return {"name": name, "description": description, "price_cents": price}
