"""The HTTP application: OpenAI's routes over one service."""

from __future__ import annotations

import hmac
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from germinal.serving.chat import CompletionResponse
from germinal.serving.errors import APIError, install_error_handlers
from germinal.serving.requests import read_chat_request
from germinal.serving.service import Service
from germinal.version import __version__


def create_app(service: Service, api_keys: Sequence[str] = ()) -> FastAPI:
    """The application; it starts and stops the service with itself.

    Args:
        service: What answers.
        api_keys: Clients must send one of these as a bearer token. If empty, no key is needed.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    # No pages of documentation: they load scripts from other hosts, and the interface is OpenAI's own.
    app = FastAPI(title="germinal", version=__version__, lifespan=lifespan, openapi_url=None)
    install_error_handlers(app)
    app.include_router(_openai_routes(service, api_keys))

    @app.get("/health")
    async def health() -> JSONResponse:
        figures = service.health()
        status = "ok" if figures is not None else "stopped"
        body = {"status": status, "model": service.model_id, **(figures or {})}
        return JSONResponse(body, status_code=200 if figures is not None else 503)

    return app


def _openai_routes(service: Service, api_keys: Sequence[str]) -> APIRouter:
    router = APIRouter(prefix="/v1", dependencies=[Depends(_key_check(api_keys))])
    model = {"id": service.model_id, "object": "model", "created": int(time.time()), "owned_by": "germinal"}

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @router.get("/models/{model_id:path}")
    async def one_model(model_id: str) -> dict[str, Any]:
        _check_model(model_id, service)
        return model

    @router.post("/chat/completions")
    async def chat_completions(request: Request) -> Response:
        wanted = await read_chat_request(request)
        _check_model(wanted.model, service)
        return CompletionResponse(await service.answer(wanted), wanted, service.model_id)

    return router


def _check_model(name: str, service: Service) -> None:
    if name != service.model_id:
        message = f"The model '{name}' does not exist. This server has '{service.model_id}'."
        raise APIError(message, status=404, param="model", code="model_not_found")


def _key_check(api_keys: Sequence[str]) -> Any:
    known = [key.encode() for key in api_keys]

    async def check(request: Request) -> None:
        if not known:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Every key is compared, each in constant time, so that timing tells nothing. Headers come as Latin-1.
        matches = [hmac.compare_digest(given.strip().encode("latin-1"), key) for key in known]
        if scheme.lower() != "bearer" or not any(matches):
            message = "No API key provided." if not given else "Incorrect API key provided."
            message += " Send one as 'Authorization: Bearer KEY'."
            headers = {"WWW-Authenticate": "Bearer"}
            raise APIError(message, status=401, code="invalid_api_key", headers=headers)

    return check
