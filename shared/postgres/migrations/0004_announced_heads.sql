-- What pushes announced while a request is open: where they led to last, and which heads they left behind. A Git host that
-- still answers one of those has not caught up.
ALTER TABLE branches
    ADD COLUMN announced_commit text,
    ADD COLUMN announced_at timestamptz,
    ADD COLUMN left_behind text[] NOT NULL DEFAULT '{}';
