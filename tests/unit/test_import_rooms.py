"""One library, one room, for the parts of `azure`: one library to the import contract, which holds all others."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {
    "azure.core": {"azure_devops", "identity", "key_vault"},
    "azure.devops": {"azure_devops"},
    "azure.functions": set[str](),
    "azure.identity": {"identity"},
    "azure.keyvault": {"key_vault"},
    "azure.monitor": {"telemetry_export"},
}


def imports(source: str) -> set[str]:
    """The first two names of everything from `azure` that the source imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:2]) for name in found if name.split(".")[0] == "azure"}


def test_every_part_of_azure_stays_in_its_room() -> None:
    elsewhere = {
        (path.relative_to(ROOT).as_posix(), part)
        for path in (ROOT / "shared").rglob("*.py")
        for part in imports(path.read_text(encoding="utf-8"))
        if path.relative_to(ROOT / "shared").parts[0].removesuffix(".py") not in ROOMS.get(part, set())
    }
    assert elsewhere == set()


def test_every_way_to_import_is_seen() -> None:
    ways = (
        "import azure.a.x\nfrom azure import b\nfrom azure.c import y\ndef f():\n    from azure.d.z import q\nimport os"
    )
    assert imports(ways) == {"azure.a", "azure.b", "azure.c", "azure.d"}
