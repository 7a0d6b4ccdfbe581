"""The endpoints."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import orjson
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.websockets import WebSocket

from items_service.cache import JUST_WRITTEN, SETTLE, Cache
from items_service.database import Database, Item, Role
from items_service.health import Health
from items_service.upstream import Upstream

LARGEST_ID = 2**63 - 2  # its related item still is a bigint
WROTE = "wrote"  # the cookie of a client that has just written: it reads from the primary


class State(TypedDict):
    """What the lifespan gives to every request."""

    database: Database
    cache: Cache
    upstream: Upstream
    health: Health


class JSON(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else orjson.dumps(content)


async def create_item(request: Request[State]) -> Response:
    item = await request.state["database"].insert(await _item_values(request))
    # the item before it has a related item now
    await request.state["cache"].invalidate(item["id"] - 1)
    return _written(request, item, 201)


class ItemEndpoint(HTTPEndpoint):
    async def get(self, request: Request[State]) -> Response:
        """The item and the next one as its related item, each with details from the external API.

        `?source=replica|primary` reads past the cache from that database; X-Database says which kind answered.
        """
        item_id = _item_id(request)
        source = _source(request)
        cache = request.state["cache"]
        use_cache = source is None and WROTE not in request.cookies
        if use_cache:
            answer = await cache.get(item_id)
            if answer:
                return JSON(answer, headers={"X-Cache": "hit"})
            use_cache = answer != JUST_WRITTEN
        headers = {"X-Cache": "miss" if use_cache else "bypass"}

        upstream = request.state["upstream"]
        details = asyncio.gather(upstream.details(item_id), upstream.details(item_id + 1))
        try:
            rows, database = await request.state["database"].read(
                (item_id, item_id + 1), source or ("replica" if use_cache else "primary")
            )
            if item_id not in rows:
                raise HTTPException(404, f"there is no item {item_id}", headers)
            main, related = await details
        finally:
            details.cancel()

        answer = orjson.dumps(
            {
                "main_item": rows[item_id] | {"details": main.content},
                "related_item": rows[item_id + 1] | {"details": related.content} if item_id + 1 in rows else None,
            }
        )
        ok = main.ok and related.ok
        if use_cache and ok:
            await cache.fill(item_id, answer)
        headers |= {"X-Database": database or "", "X-Upstream": "ok" if ok else "error"}
        return JSON(answer, headers=headers)

    async def put(self, request: Request[State]) -> Response:
        item_id = _item_id(request)
        item = await request.state["database"].update(item_id, await _item_values(request))
        if item is None:
            raise HTTPException(404, f"there is no item {item_id}")
        await request.state["cache"].invalidate(item_id, item_id - 1)
        return _written(request, item, 200)


async def alive(request: Request[State]) -> Response:
    return JSON({"status": "ok"})


async def ready(request: Request[State]) -> Response:
    status, content = request.state["health"].report()
    return JSON(content, status)


async def index(request: Request[State]) -> Response:
    return RedirectResponse("/static/")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


def _written(request: Request[State], item: Item, status: int) -> Response:
    response = JSON(item, status, headers={"Location": f"/items/{item['id']}"})
    response.set_cookie(WROTE, "1", max_age=SETTLE, httponly=True, samesite="lax")
    return response


def _item_id(request: Request[State]) -> int:
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and 1 <= int(text) <= LARGEST_ID):
        raise HTTPException(400, f"the item id must be a whole number from 1 to {LARGEST_ID}")
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
