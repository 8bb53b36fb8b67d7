"""Composes libyaml's events into JSON values: strict, and without recursion.

PyYAML's own loaders recurse (its C one ends the process on deep nesting), keep the last of two equal keys and know no
limits. All that is wrong in a file is told in one go, up to the first mistake of syntax or the first limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from yaml._yaml import CParser
from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from shared.documents import encoding
from shared.documents.complaints import Complaints, Stop
from shared.documents.places import places, start_of
from shared.documents.scalars import Refusal, quoted, read_plain
from shared.documents.syntax import explain
from shared.model import BlobId, Document, FilePath, Finding, JsonValue, Severity

PARSER_VERSION: Final = "2"
"""Goes up when a file's JSON or verdict may change, so that every file is judged again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one file may ask for. A file that is written by people is far below all of them."""

    max_bytes: int = 1024 * 1024
    max_depth: int = 64
    """Mappings and lists inside each other, aliases expanded."""
    max_nodes: int = 100_000
    """Keys and values, aliases expanded."""
    max_alias_text: int = 1024 * 1024
    """Characters that aliases may add to what is written in the file."""
    max_findings: int = 100
    """Findings after which a file is not read any further."""


def parse(path: FilePath, blob_id: BlobId, data: bytes, limits: Limits) -> Document | tuple[Finding, ...]:
    """The one meaning of `data`, or every reason why it has none, in the order of the file; all are errors."""
    if len(data) > limits.max_bytes:
        message = f"The file has {len(data):,} bytes; at most {limits.max_bytes:,} are read."
        return (Finding(path, "file-too-large", Severity.ERROR, message, 1, 1),)
    data = data.removeprefix(encoding.BOM)
    complaints = Complaints(path, limits.max_findings)
    value: JsonValue = None
    try:
        if refused := encoding.check(data):
            complaints.stop(*refused)
        value = _Composer(data, limits, complaints).compose()
    except Stop:
        pass
    except YAMLError as error:
        line, column, message = explain(error, data)
        complaints.findings.append(Finding(path, "yaml-syntax", Severity.ERROR, message, line, column))
    if complaints.findings:
        return tuple(_with_first_lines(complaints.findings, data))
    return Document(path, blob_id, value)


def _with_first_lines(findings: list[Finding], data: bytes) -> Iterator[Finding]:
    """Repeated keys also tell where the first one stands, which nobody remembered while reading."""
    repeated = {finding.pointer for finding in findings if finding.rule == "duplicate-key"}
    first = places(data, repeated) if repeated else {}
    for finding in findings:
        place = first.get(finding.pointer)
        if finding.rule == "duplicate-key" and place and place.key:
            yield replace(finding, message=f"{finding.message} The first one is on line {place.key[0]}.")
        else:
            yield finding


class _Open:
    """What stands for a value whose anchor was read, and whose end was not."""


_OPEN: Final = _Open()


class _Frame:
    """A mapping or list that is being read."""

    __slots__ = ("anchor", "key", "mapping", "sequence")

    def __init__(self, anchor: str | None, mapping: dict[str, JsonValue] | None) -> None:
        self.anchor = anchor
        self.mapping = mapping
        self.sequence: list[JsonValue] = []
        self.key: str | None = None
        """Of the value that comes next; None when a key comes next."""

    @property
    def wants_key(self) -> bool:
        return self.mapping is not None and self.key is None

    def fill(self, value: JsonValue) -> None:
        if self.mapping is None:
            self.sequence.append(value)
        elif self.key is not None:
            self.mapping[self.key] = value
            self.key = None

    @property
    def token(self) -> str:
        """The value that comes next, as a JSON pointer says it."""
        if self.mapping is None:
            return str(len(self.sequence))
        return (self.key or "").replace("~", "~0").replace("/", "~1")


class _Composer:
    """One reading of one file."""

    __slots__ = (
        "_alias_text",
        "_anchors",
        "_complaints",
        "_data",
        "_documents",
        "_limits",
        "_nodes",
        "_root",
        "_stack",
    )

    def __init__(self, data: bytes, limits: Limits, complaints: Complaints) -> None:
        self._data = data
        self._limits = limits
        self._complaints = complaints
        self._stack: list[_Frame] = []
        self._anchors: dict[str, JsonValue | _Open] = {}
        self._documents = 0
        self._nodes = 0
        self._alias_text = 0
        self._root: JsonValue = None

    def compose(self) -> JsonValue:
        """What the file says; worth nothing when there are complaints. Raises `Stop` and `YAMLError`."""
        for event in iter(CParser(self._data).get_event, None):
            if isinstance(event, ScalarEvent):
                self._scalar(event)
            elif isinstance(event, CollectionStartEvent):
                self._begin(event)
            elif isinstance(event, CollectionEndEvent):
                self._end()
            elif isinstance(event, AliasEvent):
                self._alias(event)
            elif isinstance(event, DocumentStartEvent):
                self._begin_document(event)
        if not self._documents:
            message = "The file is empty: a mapping (key: value) is expected."
            self._complaints.add(Refusal("not-a-mapping", message), (1, 1))
        return self._root

    def _begin_document(self, event: DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop("several-documents", "A second document begins here (---): one file holds one document.", event)
        if event.version or event.tags:
            self._complain("directive", "Lines that begin with % are not supported: remove them.", event)

    def _scalar(self, event: ScalarEvent) -> None:
        self._count(event)
        value: JsonValue = event.value
        if not event.style and event.tag is None:
            read = read_plain(event.value)
            if isinstance(read, Refusal):
                self._complaints.add(read, start_of(event), self._pointer())
            else:
                value = read
        elif event.style == '"' and "\0" in event.value:
            self._complain("nul-character", "The character NUL (\\0) cannot be stored: remove it.", event)
        if event.anchor is not None or event.tag is not None:
            self._note_properties(event, event.tag, value)
        self._place(value, event)

    def _begin(self, event: CollectionStartEvent) -> None:
        self._count(event)
        if event.anchor is not None or event.tag is not None:
            self._note_properties(event, event.tag, _OPEN)
        if len(self._stack) >= self._limits.max_depth:
            self._stop_too_deep(event)
        is_mapping = isinstance(event, MappingStartEvent)
        if not self._stack and not is_mapping:
            self._complain_of_root("a list", event)
        elif self._stack and self._stack[-1].wants_key:
            message = "A key must be text; this is a mapping or a list."
            if is_mapping and event.flow_style:
                message = "A key must be text; this is a mapping in braces. Put the {{ }} of a template in quotes."
            self._complain("key-not-text", message, event)
        self._stack.append(_Frame(event.anchor, {} if is_mapping else None))

    def _end(self) -> None:
        frame = self._stack.pop()
        value: JsonValue = frame.sequence if frame.mapping is None else frame.mapping
        if frame.anchor is not None:
            self._anchors[frame.anchor] = value
        if not self._stack:
            self._root = value
        elif self._stack[-1].wants_key:
            self._stack[-1].key = ""  # It was refused as a key where it began.
        else:
            self._stack[-1].fill(value)

    def _place(self, value: JsonValue, event: NodeEvent) -> None:
        """Make a scalar, or what an alias repeats, the next key or value."""
        if not self._stack:
            self._complain_of_root("empty" if value is None else "a single value", event)
            return
        frame = self._stack[-1]
        if frame.key is None and frame.mapping is not None:
            frame.key = self._key(frame, value, event)
        else:
            frame.fill(value)

    def _key(self, frame: _Frame, value: JsonValue, event: NodeEvent) -> str:
        if not isinstance(value, str):
            shown = event.value if isinstance(event, ScalarEvent) and event.value else "this"
            self._complain("key-not-text", f"A key must be text, and {shown} is not: put it in quotes.", event)
            return ""
        if frame.mapping is not None and value in frame.mapping:
            frame.key = value
            self._complain("duplicate-key", f"The key {quoted(value)} stands in this mapping already.", event)
        return value

    def _alias(self, event: AliasEvent) -> None:
        self._count(event)
        value = self._anchors.get(event.anchor or "", _OPEN)
        if isinstance(value, _Open):
            message = f"*{event.anchor} stands inside the value that it repeats."
            if event.anchor not in self._anchors:
                message = f"No anchor &{event.anchor} stands above this alias."
            self._complain("alias", message, event)
            value = ""
        self._weigh(value, event)
        self._place(value, event)

    def _weigh(self, value: JsonValue, event: AliasEvent) -> None:
        """Count what an alias repeats, and stop where that is too much.

        Work is bounded by `max_nodes` over all aliases of a file together, because what was counted stays counted.
        """
        waiting: list[tuple[JsonValue, int]] = [(value, len(self._stack))]
        while waiting:
            item, depth = waiting.pop()
            if isinstance(item, str):
                self._alias_text += len(item)
            elif isinstance(item, list | dict):
                if depth >= self._limits.max_depth:
                    self._stop_too_deep(event)
                self._nodes += len(item)
                if isinstance(item, dict):
                    self._nodes += len(item)
                    self._alias_text += sum(map(len, item))
                    item = list(item.values())
                waiting.extend((child, depth + 1) for child in item)
            if self._nodes > self._limits.max_nodes or self._alias_text > self._limits.max_alias_text:
                message = f"With *{event.anchor} the aliases of this file become too large when they are written out."
                self._stop("aliases-too-large", message, event)

    def _count(self, event: NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > self._limits.max_nodes:
            self._stop("too-many-values", f"The file has more than {self._limits.max_nodes:,} keys and values.", event)

    def _note_properties(self, event: NodeEvent, tag: str | None, value: "JsonValue | _Open") -> None:
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._complain("tag", f"Tags are not supported: remove {shown}; text can be put in quotes.", event)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                self._complain("repeated-anchor", f"The anchor &{event.anchor} is used above: rename this one.", event)
            self._anchors[event.anchor] = value

    def _complain_of_root(self, found: str, event: Event) -> None:
        self._complain("not-a-mapping", f"The file is {found}: a mapping (key: value) is expected.", event)

    def _complain(self, rule: str, message: str, event: Event) -> None:
        self._complaints.add(Refusal(rule, message), start_of(event), self._pointer())

    def _stop(self, rule: str, message: str, event: Event) -> NoReturn:
        self._complaints.stop(Refusal(rule, message), start_of(event), self._pointer())

    def _stop_too_deep(self, event: Event) -> NoReturn:
        message = f"Mappings and lists are nested more than {self._limits.max_depth} deep here."
        self._stop("too-deep", message, event)

    def _pointer(self) -> str:
        return "".join(f"/{frame.token}" for frame in self._stack if not frame.wants_key)
