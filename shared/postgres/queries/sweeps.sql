-- name: begin
UPDATE sweeps SET sweep_id = %(sweep_id)s, started_at = clock_timestamp(), started_by = %(trigger)s,
                  lease_until = clock_timestamp() + %(lease)s
WHERE sweep_id IS NULL OR lease_until <= clock_timestamp()
RETURNING sweep_id

-- name: end
-- Without a summary it broke: then the last one that ended still is the one before.
UPDATE sweeps SET sweep_id = NULL, lease_until = NULL, summary = coalesce(%(summary)s::jsonb, summary),
    ended_at = CASE WHEN %(summary)s::jsonb IS NULL THEN ended_at ELSE clock_timestamp() END
WHERE sweep_id = %(sweep_id)s
RETURNING ended_at

-- name: age
SELECT clock_timestamp() - ended_at FROM sweeps

-- name: claim_head_checks
-- Each repository has its own moment in the interval, so that a thousand of them do not ask at once.
-- `due` is a statement part of its own, and so read once: as `WHERE repo_id IN (SELECT ... LIMIT)` a nested loop reads it
-- again for each repository, skips the one that was just marked, and marks them all.
WITH due AS (
    SELECT r.repo_id
    FROM repositories AS r LEFT JOIN sources AS s ON s.source = r.source
    WHERE r.suspended IS NULL AND (s.source IS NULL OR s.paused_until <= clock_timestamp())
      AND r.source <> ALL (ARRAY(SELECT source FROM repositories WHERE repo_id = ANY (%(busy)s)))
      AND (r.heads_checked_at IS NULL OR r.heads_checked_at < date_bin(
            %(interval)s, clock_timestamp(),
            timestamptz '2000-01-01 00:00:00Z'
                + %(interval)s * (('x' || substr(md5(r.repo_id), 1, 7))::bit(28)::int / 268435456.0)))
    ORDER BY r.heads_checked_at NULLS FIRST, r.repo_id
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF r SKIP LOCKED
)
UPDATE repositories AS r SET heads_checked_at = clock_timestamp()
FROM due WHERE r.repo_id = due.repo_id
RETURNING r.repo_id, r.name, r.project, r.source, r.root, r.pattern, r.branches, r.validation, r.suspended, r.revision,
          r.heads_checked_at, r.created_at, r.updated_at

-- name: judged
SELECT branch, judged_commit, judged_ruleset, requested > finished AS is_waiting FROM branches WHERE repo_id = %(repo_id)s

-- name: moved
WITH repository AS (
    SELECT repo_id, branches FROM repositories WHERE repo_id = %(repo_id)s FOR KEY SHARE
), head AS (
    SELECT repository.repo_id, h.branch, h.commit_id
    FROM repository, unnest(%(branches)s::text[], %(commits)s::text[]) AS h (branch, commit_id)
    WHERE h.branch = ANY (repository.branches)
), asked AS (
    INSERT INTO branches (repo_id, branch, requested)
    SELECT repo_id, branch, 1 FROM head ORDER BY branch COLLATE "C"
    ON CONFLICT (repo_id, branch) DO UPDATE SET requested = branches.requested + 1
    RETURNING branch
)
INSERT INTO unannounced (repo_id, branch, commit_id)
SELECT head.repo_id, head.branch, head.commit_id FROM head
WHERE NOT EXISTS (
    SELECT FROM deliveries AS d
    WHERE d.repo_id = head.repo_id AND d.received_at > clock_timestamp() - interval '1 hour'
      AND d.event @> jsonb_build_object('updates', jsonb_build_array(
            jsonb_build_object('branch', head.branch, 'new', head.commit_id))))
ON CONFLICT DO NOTHING
RETURNING branch

-- name: ask_due_deep_syncs
-- A minute of the night for each repository, by hash.
WITH due AS (
    SELECT b.repo_id, b.branch
    FROM branches AS b JOIN repositories AS r ON r.repo_id = b.repo_id
    WHERE b.commit_id IS NOT NULL AND NOT b.deep_requested AND r.suspended IS NULL
      AND b.deep_synced_at < date_bin(
            interval '1 day', clock_timestamp(),
            timestamptz '2000-01-01 00:00:00Z'
                + interval '1 minute' * (('x' || substr(md5(b.repo_id), 1, 7))::bit(28)::int %% 300))
    ORDER BY b.repo_id, b.branch
    FOR NO KEY UPDATE OF b SKIP LOCKED
)
UPDATE branches AS b SET deep_requested = true
FROM due WHERE b.repo_id = due.repo_id AND b.branch = due.branch
RETURNING b.branch
