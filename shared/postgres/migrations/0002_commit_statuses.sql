-- The journal as an outbox: `posted_at` is null until the commit of a sync was told how it ended, or need not be.

-- Who tells the commits of this branch at present: one at a time.
ALTER TABLE branches ADD COLUMN posting_id uuid, ADD COLUMN posting_until timestamptz;

-- What the commit shows since then; at most one row for each commit of a branch has it.
ALTER TABLE syncs ADD COLUMN told text;

-- What ended before is old news.
UPDATE syncs SET posted_at = clock_timestamp() WHERE posted_at IS NULL;

CREATE INDEX syncs_unposted ON syncs (ended_at)
    WHERE posted_at IS NULL AND commit_id <> '0000000000000000000000000000000000000000';
CREATE INDEX syncs_told ON syncs (repo_id, branch, commit_id, ended_at) WHERE told IS NOT NULL;
