"""An app whose every setting and caller has a made-up secret."""

import os
from typing import Any
from urllib.parse import quote

from emulators.azure_devops import Emulator
from psycopg.conninfo import make_conninfo
from support.leaks import SECRETS, Net, basic

from shared.bootstrap import App
from shared.model import ABSENT

CLIENT_ID = "11111111-2222-4333-8444-555555555555"
UNUSED = "http://127.0.0.1:1"
WRONG_DATABASE = f"postgresql://somebody:{quote(SECRETS['database'])}@127.0.0.1:1/nothing"
KEYS = {
    "WEBHOOK_SECRET": SECRETS["hook"],
    "WEBHOOK_SECRET_PREVIOUS": SECRETS["hook-before"],
    "ADMIN_KEY": SECRETS["admin"],
    "ADMIN_KEY_PREVIOUS": SECRETS["admin-before"],
    "READER_KEYS": f"etl={SECRETS['reader']}",
    "READER_KEYS_PREVIOUS": f"etl={SECRETS['reader-before']}",
}


def settings_for(database: str, emulator: Emulator | None = None, **more: str) -> dict[str, str]:
    organisation = {} if emulator is None else {"AZURE_DEVOPS_ORGANIZATION": emulator.url}
    return {
        **KEYS,
        **organisation,
        "DATABASE_URL": make_conninfo(database, password=SECRETS["database"]),
        "DATABASE_PASSWORD": SECRETS["database-apart"],
        "AZURE_DEVOPS_PAT": SECRETS["pat"],
        "LOG_LEVEL": "DEBUG",
        "GIT_TIMEOUT_SECONDS": "1",
        "PATH": os.environ["PATH"],
        **more,
    }


def payload(repo_id: str, emulator: Emulator | None = None, branch: str = "main") -> dict[str, Any]:
    """A push whose every URL carries a credential, in front of the host and in the query."""
    base = emulator.url if emulator else "https://dev.azure.com/contoso"
    leaky = base.replace("://", f"://me:{SECRETS['payload']}@")
    query = f"?code={quote(SECRETS['payload'])}&sig={quote(SECRETS['payload'])}#{SECRETS['payload']}"
    container = {"id": repo_id, "baseUrl": f"{leaky}/{query}"}
    return {
        "eventType": "git.push",
        "id": "03c164c2-8912-4d5e-8009-3707d5f83735",
        "sessionToken": {"token": SECRETS["payload"]},
        "message": {"text": f"pushed to {leaky}"},
        "resource": {
            "refUpdates": [{"name": f"refs/heads/{branch}", "oldObjectId": ABSENT, "newObjectId": "a" * 40}],
            "repository": {
                "id": repo_id,
                "name": "orders",
                "url": f"{leaky}/_apis/git/repositories/{repo_id}{query}",
                "remoteUrl": f"{leaky}/data/_git/orders{query}",
                "project": {"name": "data", "url": f"{leaky}{query}"},
            },
            "pushedBy": {"displayName": "Ada", "url": f"{leaky}{query}", "imageUrl": f"{leaky}{query}"},
            "url": f"{leaky}/_apis/git/repositories/{repo_id}/pushes/1{query}",
        },
        "resourceContainers": {"collection": container, "account": container, "project": container},
    }


def deliver(net: Net, app: App, what: object) -> int:
    headers = {"Authorization": basic("azure-devops", SECRETS["hook"])}
    return net.call(app.wsgi, "POST", "/webhooks/azure-devops", headers=headers, json=what).status_code


def ask(net: Net, app: App, method: str, path: str, **options: Any) -> Any:
    return net.call(app.wsgi, method, path, headers={"Authorization": f"Bearer {SECRETS['admin']}"}, **options)


def look_around(net: Net, app: App, name: str) -> None:
    """What a person sees afterwards."""
    for path in ("", f"/{name}", f"/{name}/syncs", f"/{name}/deliveries"):
        ask(net, app, "GET", f"/repositories{path}")
    ask(net, app, "GET", f"/runtimes/{name}/main")
    ask(net, app, "GET", "/health")
