"""Reading what is served. Contents come from one statement each, and are never parsed here; Git is never asked.

Every answer carries the generation, commit and time of the very set its body belongs to.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import quote, urlencode

from shared.errors import BranchNotFound, ConfigNotFound, InvalidRequest, RepositoryNotFound, SetChanged
from shared.model import BranchName, FilePath, Generation, Item, Names, Served
from shared.ports import ConfigReader, Queue, Registry
from shared.web import etags
from shared.web.call import Call, storable
from shared.web.etags import Negotiation
from shared.web.listing_cache import Body, Key, ListingCache
from shared.web.names import NameCache, Place, place_of, repository_of
from shared.web.problems import Detailed
from shared.web.reply import JSON, Reply, respond
from shared.web.representations import instant, of_condition

LARGEST_PAGE = 1000


class Runtimes:
    def __init__(
        self, configs: ConfigReader, registry: Registry, queue: Queue, *, cached_lists: int, anonymous_reads: bool
    ) -> None:
        self._configs = configs
        self._queue = queue
        self._names = NameCache(registry.names)
        self._lists = ListingCache(cached_lists)
        # A body that needed a key must not be kept by a proxy that answers others.
        self._cache_control = "no-cache" if anonymous_reads else "private, no-cache"

    def branches(self, call: Call, alias: str) -> Reply:
        """The branches that are served."""
        names = self._names.reload()
        repo_id = repository_of(names, alias)
        if repo_id is None:
            raise no_repository(alias)
        return respond({"repo_id": repo_id, "branches": sorted(names.branches.get(repo_id, ()))})

    def read(self, call: Call, alias: str, rest: str) -> Reply:
        """The set of a branch, or one config of it."""
        place = place_of(self._names.latest(), alias, rest)
        response = self._answer(call, place)
        if response is None:
            # The names may be old: a branch that came or went since turns the same words into another place.
            names = self._names.reload()
            moved = place_of(names, alias, rest)
            response = self._answer(call, moved) if moved != place else None
            if response is None:
                raise self._not_found(names, alias, rest, moved)
        return response

    def _answer(self, call: Call, place: Place | None) -> Reply | None:
        if place is None:
            return None
        if place.path:
            return self._item(call, place)
        if "limit" in call.args or "cursor" in call.args:
            return self._page(call, place)
        return self._list(call, place, call.text("prefix") or "")

    def _item(self, call: Call, place: Place) -> Reply | None:
        wanted = etags.negotiated(call.environ)
        found = self._configs.item(place.repo_id, place.branch, place.path, known=wanted.generations)
        served, item = found or (None, None)
        if served is None or item is None:
            return None
        tag = wanted.matching(item.generation)
        if tag is None:
            response = self._body(item.config, wanted.compressed(item.config), item.generation, served)
        else:
            response = self._not_modified(tag, served)
        response.headers["X-Blob-Id"] = item.blob_id
        return response

    def _list(self, call: Call, place: Place, prefix: str) -> Reply | None:
        served = self._configs.generation(place.repo_id, place.branch)
        if served is None:
            return None
        wanted = etags.negotiated(call.environ)
        if (tag := wanted.matching(served.generation)) is not None:
            return self._not_modified(tag, served)
        kept = self._kept((place.repo_id, place.branch, prefix), served, wanted)
        if kept is None:
            return None
        served, body = kept
        return self._body(body.plain, body.gzip if wanted.gzip else None, body.generation, served)

    def _kept(self, key: Key, served: Served, wanted: Negotiation) -> tuple[Served, Body] | None:
        """The body of the generation just read, from the cache; or of the present one, built."""
        body = self._lists.get(key, served.generation)
        if body is not None and (body.gzip or not wanted.gzip):
            return served, body
        with self._lists.builder(key):
            body = self._lists.get(key, served.generation)
            if body is None:
                listing = self._configs.listing(*key)
                if listing is None:
                    return None
                served = listing.served
                body = Body(served.generation, spliced(listing.items))
            if body.gzip is None:
                body = replace(body, gzip=wanted.compressed(body.plain))
            self._lists.put(key, body)
        return served, body

    def _page(self, call: Call, place: Place) -> Reply | None:
        limit = call.number("limit", default=LARGEST_PAGE, largest=LARGEST_PAGE)
        prefix = call.text("prefix") or ""
        cursor = call.text("cursor")
        generation, after = _opened(cursor) if cursor else (None, None)
        listing = self._configs.page(place.repo_id, place.branch, prefix, after, limit + 1)
        if listing is None:
            return None
        served = listing.served
        if generation not in (None, served.generation):
            raise _set_changed(_link(call, limit=limit, prefix=prefix))
        wanted = etags.negotiated(call.environ)
        tag = wanted.matching(served.generation)
        if tag is None:
            body = spliced(listing.items[:limit])
            response = self._body(body, wanted.compressed(body), served.generation, served)
        else:
            response = self._not_modified(tag, served)
        if len(listing.items) > limit:
            onward = _closed(served.generation, listing.items[limit - 1].filepath)
            response.headers["Link"] = f'<{_link(call, limit=limit, prefix=prefix, cursor=onward)}>; rel="next"'
        return response

    def _body(self, plain: bytes, gzip: bytes | None, generation: Generation, served: Served) -> Reply:
        if gzip is None:
            return Reply(200, self._headers(str(generation), served), plain, JSON)
        headers = self._headers(f"{generation}-gzip", served)
        headers["Content-Encoding"] = "gzip"
        return Reply(200, headers, gzip, JSON)

    def _not_modified(self, tag: str, served: Served) -> Reply:
        return Reply(304, self._headers(tag, served))

    def _headers(self, tag: str, served: Served) -> dict[str, str]:
        return {
            "ETag": f'"{tag}"',
            "X-Generation": str(served.generation),
            "X-Commit-Id": served.commit_id,
            "X-Synced-At": instant(served.synced_at) or "",
            "Cache-Control": self._cache_control,
            "Vary": "Accept-Encoding",
        }

    def _not_found(self, names: Names, alias: str, rest: str, place: Place | None) -> Exception:
        """Which of the three is unknown; of a branch that serves nothing also why."""
        repo_id = repository_of(names, alias)
        if repo_id is None:
            return no_repository(alias)
        if place is not None and place.path:
            return ConfigNotFound(
                f"{place.branch} has no config at {place.path!r}.",
                hint="The list of the branch has every path; paths are case-sensitive.",
            )
        statuses = [status for status in self._queue.status(repo_id) if f"{rest}/".startswith(f"{status.branch}/")]
        if not statuses:
            return _no_branch(rest, names.branches.get(repo_id, ()))
        status = max(statuses, key=lambda status: len(status.branch))
        error = BranchNotFound(
            f"{status.branch} serves nothing: {status.condition}, {status.reason or 'no commit was accepted yet'}.",
            hint="Its condition says why; GET /repositories/{id} has the findings.",
        )
        return Detailed(error, {"branch": status.branch, **of_condition(status)})


def spliced(items: Iterable[Item]) -> bytes:
    """A JSON array around the database's own text of each config."""
    return b"[" + b",".join(map(_spliced_item, items)) + b"]"


def _spliced_item(item: Item) -> bytes:
    tail = f'"blob_id":"{item.blob_id}","generation":{item.generation},"updated_at":"{instant(item.updated_at)}"'
    return b'{"filepath":%b,"config":%b,%b}' % (json.dumps(item.filepath).encode(), item.config, tail.encode())


def _closed(generation: Generation, after: FilePath) -> str:
    """A cursor: where to go on, and in which set."""
    return base64.urlsafe_b64encode(json.dumps([generation, after]).encode()).decode().rstrip("=")


def _opened(cursor: str) -> tuple[Generation, FilePath]:
    try:
        generation, after = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if type(generation) is not int or not isinstance(after, str):
            raise ValueError("not a generation and a path")
    except (ValueError, TypeError, RecursionError) as error:
        hint = "Follow the Link header of the page before."
        raise InvalidRequest("The cursor is not one of ours.", field="cursor", hint=hint) from error
    return Generation(generation), FilePath(storable(after, "cursor"))


def _link(call: Call, *, limit: int, prefix: str, cursor: str = "") -> str:
    """This list's address with other parameters. A `code` in the query is a key, and is not repeated."""
    parameters = {"limit": str(limit), "prefix": prefix, "cursor": cursor}
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{quote(call.root_path.rstrip('/') + call.path)}?{query}"


def _set_changed(first: str) -> Detailed:
    error = SetChanged(
        "The branch moved to another set since the page before.",
        hint="Start again with the first page, or read the list without limit: it is always whole.",
    )
    return Detailed(error, {"first": first}, {"Link": f'<{first}>; rel="first"'})


def no_repository(alias: str) -> RepositoryNotFound:
    return RepositoryNotFound(f"No repository has the id or name {alias!r}.", hint="GET /repositories lists them.")


def _no_branch(rest: str, served: Sequence[BranchName]) -> BranchNotFound:
    return BranchNotFound(
        f"No branch of this repository is at the start of {rest!r}.",
        hint=f"Served are: {', '.join(sorted(served)) or 'none yet'}.",
    )
