"""Runtime Store: PostgreSQL holds exactly what a Git branch holds, and HTTP serves it.

Read `model`, then `ports`, `sync` and `bootstrap`; everything else hangs on those four.
"""
