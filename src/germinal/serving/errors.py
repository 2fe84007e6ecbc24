"""OpenAI's error objects: every failure reaches the client as `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from germinal.errors import (
    ContextWindowError,
    GerminalError,
    SettingError,
    TemplateError,
    UnsupportedError,
    VocabularyMismatchError,
)

logger = logging.getLogger("germinal.serving")


class APIError(Exception):
    """An error as the client will see it.

    Args:
        message: What was wrong and what to do.
        status: HTTP status.
        param: The field of the request that was wrong.
        code: A short name for programs.
        headers: Headers of the response.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole response."""
        return JSONResponse(self.body, status_code=self.status, headers=self.headers)


class QueueFullError(APIError):
    """The server has no room for more answers."""

    def __init__(self) -> None:
        message = "The server has as many open requests as it can take. Try again in a moment."
        super().__init__(message, status=503, code="overloaded", headers={"Retry-After": "1"})


class StoppingError(APIError):
    """The server is shutting down."""

    def __init__(self) -> None:
        super().__init__("The server is stopping.", status=503, code="stopping", headers={"Retry-After": "5"})


_SETTING_FIELDS = {"max_new_tokens": "max_completion_tokens", "logprobs": "top_logprobs"}


def translated(error: Exception) -> APIError:
    """Any error as an APIError. One that is not the client's fault is logged, and its details are not sent."""
    match error:
        case APIError():
            return error
        case ContextWindowError():
            return APIError(str(error), param="messages", code="context_length_exceeded")
        case SettingError():
            param = _SETTING_FIELDS.get(error.where or "", error.where)
            message = " ".join(part for part in (error.what, error.hint) if part)
            return APIError(f"Invalid value for '{param}': {message}", param=param, code="invalid_value")
        case UnsupportedError():
            return APIError(str(error), param=error.where, code="unsupported_parameter")
        case TemplateError():
            return APIError(str(error), param="messages", code="chat_template_error")
        case VocabularyMismatchError():  # a token of the text has no row in the embedding
            return APIError(str(error), code="token_without_embedding")
        case GerminalError():
            logger.error("%s", error)
            return APIError(str(error), status=500, code=type(error).__name__)
    logger.error("request failed", exc_info=error)
    return APIError("The server had an error while processing your request.", status=500, code="internal_error")


def install_error_handlers(app: FastAPI) -> None:
    """Answer every exception, our own and the framework's, with an error object."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return translated(error).response()

    async def answer_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        place = f"{request.method} {request.url.path}"
        if error.status_code == HTTPStatus.NOT_FOUND:
            return APIError(f"Unknown request URL: {place}.", status=404, code="unknown_url").response()
        headers = error.headers or {}
        return APIError(f"{error.detail}: {place}.", status=error.status_code, headers=headers).response()

    app.add_exception_handler(HTTPException, answer_http)
    for kind in (APIError, GerminalError, Exception):
        app.add_exception_handler(kind, answer)
