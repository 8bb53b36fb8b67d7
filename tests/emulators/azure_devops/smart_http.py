"""Git itself over HTTP, for people who clone and push: `git http-backend` on the repository that the address names."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from emulators.azure_devops.answers import Answer
from support.git import environment

_RECEIVES = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.receivepack", "GIT_CONFIG_VALUE_0": "true"}
SERVICES = ("info/refs", "git-upload-pack", "git-receive-pack")


def serve(git_dir: Path, service: str, method: str, query: str, headers: Mapping[str, str], body: bytes) -> Answer:
    gateway = {
        "GIT_PROJECT_ROOT": os.fspath(git_dir),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{service}",
        "QUERY_STRING": query,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        "GIT_PROTOCOL": headers.get("git-protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_USER": "somebody",
        **_RECEIVES,
    }
    command = ["git", "http-backend"]
    everything = {**environment(), **gateway}
    done = subprocess.run(command, input=body, capture_output=True, env=everything, check=False)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
    status = int(fields.pop("Status", "200" if head else "500").split()[0])
    return Answer(status, content, fields.pop("Content-Type", "text/plain"), fields)
