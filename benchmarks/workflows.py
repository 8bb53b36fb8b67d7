"""Runtime configs for measuring: real Samara workflows from `examples/`, each with an id of its own.

2.1 to 3.2 kB of YAML each, 2.7 kB on average.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from shared.model import BlobId, FilePath, RuntimeConfig, Validation
from shared.rules import Rules

_EXAMPLES = Path(__file__).parents[1] / "examples"
_REAL = (
    "valid/customer_orders.yaml",
    "team/sales/orders/orders_runtime.yaml",
    "team/finance/ledger/month_end_runtime.yaml",
    "team/marketing/campaigns/newsletter_runtime.yaml",
    "team/logistics/tracking/parcels_runtime.yaml",
)
_FOLDERS = 100
_MARK = "workflow-mark"


class _Template(NamedTuple):
    yaml: str
    json: str


def path(number: int) -> FilePath:
    return FilePath(f"team-{number % _FOLDERS:03}/job-{number:05}-runtime.yaml")


def content(number: int, revision: int = 0) -> bytes:
    """The file `number`, as of its `revision`."""
    return _template(number).yaml.replace(_MARK, f"workflow-{number}-{revision}").encode()


def files(count: int) -> dict[str, bytes]:
    return {path(number): content(number) for number in range(count)}


def config(number: int, revision: int = 0) -> RuntimeConfig:
    """The same file, judged: what a sync hands to the store."""
    text = _template(number).json.replace(_MARK, f"workflow-{number}-{revision}")
    return RuntimeConfig(path(number), BlobId(f"{revision:020x}{number:020x}"), text)


def configs(count: int, revision: int = 0) -> tuple[RuntimeConfig, ...]:
    return tuple([config(number, revision) for number in range(count)])


def _template(number: int) -> _Template:
    return _templates()[number % len(_REAL)]


@cache
def _templates() -> tuple[_Template, ...]:
    return tuple(_marked((_EXAMPLES / name).read_text("utf-8")) for name in _REAL)


def _marked(text: str) -> _Template:
    """The workflow's id is its first one."""
    yaml = re.sub(r"(?m)^(\s+id:).*$", rf"\1 {_MARK}", text, count=1)
    document, findings = Rules.shipped().judge(FilePath("x"), BlobId("x"), yaml.encode(), Validation.ENFORCE)
    assert document is not None, findings
    assert not findings, findings
    return _Template(yaml, json.dumps(document.value, ensure_ascii=False, separators=(",", ":")))
