"""The same service on FastAPI, done well: one client, one pool, and the same two caches, in its usual idioms."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import redis.asyncio as redis
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException, Request, Response
from sqlalchemy.ext.asyncio import create_async_engine

UPSTREAM = os.environ["UPSTREAM_URL"]
POSTS = 100
TTL = 60
HOT = 1.0  # seconds in memory
COLUMNS = ("id", "name", "description", "price_cents", "created_at", "version")
QUERY = sa.text(f"SELECT {', '.join(COLUMNS)} FROM items WHERE id IN (:first, :second)")


def secret(name: str) -> str:
    return Path(os.environ["CREDENTIALS_DIRECTORY"], name).read_text().strip()


@asynccontextmanager
async def lifespan(app: FastAPI):
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
    pool = int(os.environ["DATABASE_POOL_SIZE"])
    url = sa.make_url(os.environ["DATABASE_READ_URL"]).set(password=secret("database_password"))
    app.state.engine = create_async_engine(url, pool_size=pool, max_overflow=0, isolation_level="AUTOCOMMIT")
    app.state.cache = redis.from_url(os.environ["CACHE_URL"], password=secret("cache_password"))
    app.state.hot = {}
    async with httpx.AsyncClient(base_url=UPSTREAM, limits=limits, timeout=5.0) as app.state.client:
        yield
    await app.state.cache.aclose()
    await app.state.engine.dispose()


app = FastAPI(lifespan=lifespan)


async def post(client: httpx.AsyncClient, item_id: int):
    try:
        answer = await client.get(f"/posts/{(item_id - 1) % POSTS + 1}")
        answer.raise_for_status()
        return orjson.loads(answer.content)
    except httpx.HTTPError:
        return {"error": "External service unavailable"}


async def rows(engine, item_id: int):
    async with engine.connect() as connection:
        found = (await connection.execute(QUERY, {"first": item_id, "second": item_id + 1})).all()
    return {row.id: dict(zip(COLUMNS, row, strict=True)) for row in found}


@app.get("/items/{item_id}")
async def read_item(item_id: int, request: Request, source: str | None = None):
    state = request.app.state
    key = f"cache:fastapi:{item_id}"
    if source is None:
        hot = state.hot.get(item_id)
        if hot and hot[0] > time.monotonic():
            return Response(hot[1], media_type="application/json")
        cached = await state.cache.get(key)
        if cached:
            state.hot[item_id] = (time.monotonic() + HOT, cached)
            return Response(cached, media_type="application/json")
    found, main, related = await asyncio.gather(
        rows(state.engine, item_id), post(state.client, item_id), post(state.client, item_id + 1)
    )
    if item_id not in found:
        raise HTTPException(404)
    second = found.get(item_id + 1)
    body = orjson.dumps(
        {
            "main_item": found[item_id] | {"details": main},
            "related_item": second and second | {"details": related},
        }
    )
    if source is None:
        await state.cache.set(key, body, ex=TTL)
    return Response(body, media_type="application/json")


@app.get("/readyz")
@app.get("/livez")
async def health():
    return {"status": "ok"}
