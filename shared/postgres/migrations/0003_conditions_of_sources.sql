-- A source in trouble is a condition of its branches, also of those whose own syncs did not meet it.
ALTER TABLE sources ADD COLUMN condition text NOT NULL DEFAULT 'FetchFailed';

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
        (4, true, b.condition, b.reason, b.message, b.since)
    ) AS candidates (rank, holds, condition, reason, message, since)
    WHERE holds ORDER BY rank LIMIT 1
) AS told;
