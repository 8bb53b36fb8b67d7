-- What takes time comes first, and the tables that readers wait for last: what is altered stays locked until the end.

-- The journal is an outbox: `posted_at` is null until the commit of a sync was told how it ended, or need not be. `told` is
-- what the commit shows since then.
ALTER TABLE syncs ADD COLUMN told text;
-- What ended before is old news; what is older than a day is so anyway.
UPDATE syncs SET posted_at = clock_timestamp() WHERE posted_at IS NULL AND ended_at > clock_timestamp() - interval '2 days';
CREATE INDEX syncs_unposted ON syncs (ended_at) WHERE posted_at IS NULL AND commit_id IS NOT NULL;
CREATE INDEX syncs_told ON syncs (repo_id, commit_id, ended_at) WHERE told IS NOT NULL;

-- A source in trouble is a condition of its branches, also of those whose own syncs did not meet it.
ALTER TABLE sources ADD COLUMN condition text NOT NULL DEFAULT 'FetchFailed';

ALTER TABLE branches
    -- Who tells the commits of this branch at present: one at a time.
    ADD COLUMN posting_id uuid,
    ADD COLUMN posting_until timestamptz,
    -- The newest push that was announced: its number, when, and where it led to. While the request is open, the heads that
    -- announced pushes left behind: a Git host that still answers one of those has not caught up.
    ADD COLUMN announced_push bigint,
    ADD COLUMN announced_at timestamptz,
    ADD COLUMN announced_commit text,
    ADD COLUMN left_behind text[] NOT NULL DEFAULT '{}',
    -- Why the latest sync came to no verdict, while that is so.
    ADD COLUMN deferred text;

-- What is true of a branch now: the first of these that holds.
CREATE VIEW branch_conditions AS
SELECT b.repo_id, b.branch, told.condition, told.reason, told.message, told.since
FROM branches AS b
JOIN repositories AS r ON r.repo_id = b.repo_id
LEFT JOIN sources AS s ON s.source = r.source
CROSS JOIN LATERAL (
    SELECT * FROM (VALUES
        (1, r.suspended IS NOT NULL, 'Suspended', 'Suspended', r.suspended, b.since),
        (2, b.lease_id IS NOT NULL AND b.lease_until > clock_timestamp(), 'Syncing', 'Running', 'A sync is running.', b.since),
        -- Who is refused cannot see whether somebody pushed; to be throttled matters to who waits.
        (3, s.condition = 'AuthenticationFailed' OR s.condition IS NOT NULL AND b.requested > b.finished,
            s.condition, 'SourcePaused', s.reason, s.since),
        (4, b.condition = 'Ready' AND b.requested > b.finished, 'Syncing', 'Requested',
            concat_ws(' ', b.message, 'A newer request waits.', b.deferred), b.since),
        (5, true, b.condition, b.reason, b.message, b.since)
    ) AS candidates (rank, holds, condition, reason, message, since)
    WHERE holds ORDER BY rank LIMIT 1
) AS told;
