"""The yardstick: a bare pass-through of one Starlette route and aiohttp that knows no key, no budget and no log.

Usage: PROVIDER_URL=… uvicorn --factory benchmarks.gateway_run.passthrough:create_app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def create_app() -> Starlette:
    url = f"{os.environ['PROVIDER_URL']}/v1/chat/completions"

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield {"session": session}

    async def forward(request: Request) -> Response:
        body = await request.body()
        headers = {"authorization": "Bearer bench", "content-type": "application/json"}
        response = await request.state.session.post(url, data=body, headers=headers)
        if response.content_type == "text/event-stream":
            return StreamingResponse(response.content.iter_any(), media_type="text/event-stream")
        return Response(await response.read(), response.status, media_type="application/json")

    return Starlette(routes=[Route("/v1/chat/completions", forward, methods=["POST"])], lifespan=lifespan)
