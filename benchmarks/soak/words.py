"""What all parts agree on. The keys are made up, and open nothing but what a soak starts."""

HOOK_SECRET = "made-up-hook-secret-0123456789abcdef"
ADMIN_KEY = "made-up-admin-key-0123456789abcdefgh"
READER_KEY = "made-up-reader-key-0123456789abcdef"
TOKEN = "emulator-personal-access-token"

LASTING = ("main", "dev", "acc")
"""Branches that are never deleted."""
PASSING = ("release/1.0", "feature/etl/orders")
BRANCHES = (*LASTING, *PASSING)
ALWAYS = "always_runtime.yaml"
"""The path that every commit has."""
ABSENT = "0" * 40
"""The commit of a branch that does not exist."""
