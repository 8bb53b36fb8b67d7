"""Git's objects and refs, written as files: a push costs a millisecond, and no process.

https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
"""

import os
import zlib
from collections.abc import Mapping
from hashlib import sha1
from pathlib import Path
from typing import TypeAlias

_PERSON = "Grace Hopper <grace@example.com>"

Folder: TypeAlias = "dict[str, str | Folder]"


class Objects:
    """Of one bare repository."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir

    def blob(self, content: bytes) -> str:
        return self._write("blob", content)

    def commit(self, files: Mapping[str, str], parent: str | None, number: int) -> str:
        """A commit of these files, blob ids by path. `number` makes it one that there never was."""
        root: Folder = {}
        for path, blob_id in files.items():
            *folders, name = path.split("/")
            here = root
            for folder in folders:
                inner = here.setdefault(folder, {})
                assert isinstance(inner, dict)
                here = inner
            here[name] = blob_id
        person = f"{_PERSON} {1_767_225_600 + number} +0000"
        parents = f"parent {parent}\n" if parent else ""
        text = f"tree {self._tree(root)}\n{parents}author {person}\ncommitter {person}\n\nPush {number}\n"
        return self._write("commit", text.encode())

    def set_head(self, branch: str, commit: str | None) -> None:
        """Create, move or delete a branch."""
        ref = self.git_dir / "refs" / "heads" / branch
        if commit is None:
            ref.unlink()
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        half = ref.with_name(f"{ref.name}.lock")
        half.write_text(f"{commit}\n", encoding="ascii")
        half.replace(ref)

    def _tree(self, folder: Folder) -> str:
        ids = {name: what if isinstance(what, str) else self._tree(what) for name, what in folder.items()}
        # A folder is sorted as if its name ended with a slash.
        names = sorted(folder, key=lambda name: name if isinstance(folder[name], str) else f"{name}/")
        entries = (
            b"%s %s\0%s"
            % (b"100644" if isinstance(folder[name], str) else b"40000", name.encode(), bytes.fromhex(ids[name]))
            for name in names
        )
        return self._write("tree", b"".join(entries))

    def _write(self, kind: str, content: bytes) -> str:
        whole = b"%s %d\0%s" % (kind.encode(), len(content), content)
        object_id = sha1(whole, usedforsecurity=False).hexdigest()
        path = self.git_dir / "objects" / object_id[:2] / object_id[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            half = path.with_name(f"{path.name}.{os.getpid()}")
            half.write_bytes(zlib.compress(whole, 1))
            half.replace(path)
        return object_id
