"""Is it alive, and does it work."""

from shared.errors import Forbidden, Unauthenticated, Unavailable
from shared.ports import Journal
from shared.web.access import ANONYMOUS, Access, Role
from shared.web.call import Call
from shared.web.problems import described, seconds
from shared.web.reply import Reply, respond
from shared.web.representations import of_overview


def live(call: Call) -> Reply:
    """Touches nothing: a database that is down is no reason to restart."""
    return respond({"status": "ok"})


class Health:
    """Details are for readers; anybody else learns only whether it works."""

    def __init__(self, journal: Journal, access: Access) -> None:
        self._journal = journal
        self._access = access

    def read(self, call: Call) -> Reply:
        try:
            call.caller = self._access.admit(call, Role.READER)
            is_told = call.caller is not ANONYMOUS or self._access.anonymous_reads
        except (Unauthenticated, Forbidden, Unavailable):
            # Whoever watches with a bad key, or while the vault is down, still learns whether it works.
            is_told = self._access.anonymous_reads
        try:
            overview = self._journal.overview()
        except Unavailable as error:
            response = respond({"status": "unavailable", **(described(error) if is_told else {})}, 503)
            response.headers["Retry-After"] = seconds(error.retry_after)
            return response
        return respond({"status": "ok", **(of_overview(overview) if is_told else {})})
