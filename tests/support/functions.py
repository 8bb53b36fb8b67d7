"""The functions of this app, called as the Functions worker calls them."""

import functools
from typing import Any, NamedTuple

import azure.functions as func
from azure.functions.http import HttpResponseConverter

import function_app


class Told(NamedTuple):
    """What the host is told about an answer: one value of each header, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


@functools.cache
def functions() -> dict[str, Any]:
    """By name; the SDK lets them be asked for once in a process."""
    return {str(function.get_function_name()): function for function in function_app.app.get_functions()}


def call(
    name: str,
    url: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Told:
    """Call one of the HTTP functions as the worker does."""
    request = func.HttpRequest(
        method=method,
        url=f"https://store.example{url}",
        headers={"host": "store.example", **(headers or {})},
        params={},
        route_params={},
        body=body,
    )
    response = functions()[name].get_user_function()(req=request)
    told = HttpResponseConverter.encode(response, expected_type=None).value
    headers = {name.lower(): datum.value for name, datum in told["headers"].items()}
    return Told(int(told["status_code"].value), headers, told["body"].value)
