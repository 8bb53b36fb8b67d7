"""The three functions, and the way between Azure Functions and the WSGI app.

Nothing of the app is imported before the first call: an import error here makes the host register no function at all,
and say so nowhere. The SDK's own WSGI middleware turns a 503 into an exception and loses its Retry-After.
"""

import io
import json
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.types import WSGIApplication

import azure.functions as func

if TYPE_CHECKING:
    from shared.bootstrap import App

logger = logging.getLogger(__name__)
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
_building = threading.Lock()
_built: "App | None" = None


@app.route("webhooks/azure-devops", methods=["POST"])
def webhook(req: func.HttpRequest, context: func.Context = None) -> func.HttpResponse:  # type: ignore[assignment]
    return _answer(req, context, unexpected=503)  # Azure DevOps tries again after 503, and loses pushes after 500.


@app.route("{*path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def config_api(req: func.HttpRequest, context: func.Context = None) -> func.HttpResponse:  # type: ignore[assignment]
    return _answer(req, context, unexpected=500)


@app.timer_trigger("timer", schedule="%RECONCILE_SCHEDULE%")
def reconcile(timer: func.TimerRequest, context: func.Context = None) -> None:  # type: ignore[assignment]
    try:
        _app().sweep(context)
    except Exception:
        logger.exception("The sweep failed", extra={"past_due": timer.past_due})
        raise


def _app() -> "App":
    """Built by whoever comes first, while the others wait; after a failure the next call tries again."""
    global _built
    with _building:
        if _built is None:
            from shared import bootstrap

            _built = bootstrap.build()
        return _built


def _answer(req: func.HttpRequest, context: func.Context, unexpected: int) -> func.HttpResponse:
    status, kind, detail = 503, "unavailable", "The app could not start; its log says why, and names wrong settings."
    try:
        wsgi = _app().wsgi
        status, kind, detail = unexpected, "internal", "Something is broken here; the log has the details."
        return _call(wsgi, _environ(req) | {"runtime_store.host": context})
    except Exception:
        logger.exception("The request failed")
        problem = {"type": f"urn:runtime-store:problem:{kind}", "kind": kind, "status": status, "detail": detail}
        headers = {"Content-Type": "application/problem+json"} | ({"Retry-After": "30"} if status == 503 else {})
        return func.HttpResponse(json.dumps(problem), status_code=status, headers=headers)


def _call(wsgi: WSGIApplication, environ: dict[str, Any]) -> func.HttpResponse:
    status, headers, body = "", dict[str, str](), list[bytes]()

    def start_response(line: str, pairs: list[tuple[str, str]], _error: object = None, /) -> Any:
        nonlocal status
        status = line
        for name, value in ((name.lower(), value) for name, value in pairs):  # The host keeps one value of each name.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return body.append

    result = wsgi(environ, start_response)
    try:
        body.extend(result)
    finally:
        getattr(result, "close", bool)()
    # The SDK says text/plain where the app says nothing (304); with an empty type the host says nothing either.
    return func.HttpResponse(b"".join(body), status_code=int(status[:3]), headers=headers, mimetype="")


def _environ(req: func.HttpRequest) -> dict[str, Any]:
    """As PEP 3333 has it, where text is bytes read as Latin-1; the body is whole by now, however it came."""
    url, body = urlsplit(req.url), req.get_body() or b""
    text = {key: value.encode().decode("latin-1") for key, value in req.headers.items() if key != "transfer-encoding"}
    environ: dict[str, Any] = {f"HTTP_{key.upper().replace('-', '_')}": text[key] for key in text}
    environ |= {"REQUEST_METHOD": req.method, "QUERY_STRING": url.query, "SERVER_PROTOCOL": "HTTP/1.1"}
    environ |= {"SCRIPT_NAME": "", "PATH_INFO": unquote_to_bytes(url.path).decode("latin-1")}
    environ |= {"SERVER_NAME": url.hostname or "localhost", "SERVER_PORT": str(url.port or 443)}
    environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": text.get("content-type", "")}
    environ |= {"wsgi.url_scheme": url.scheme, "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr}
    return environ | {"wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": 0}
