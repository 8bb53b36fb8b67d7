-- name: claim
-- Only the right to post: what to post is read by a statement that starts after this one, since this one's snapshot may be
-- older than what the last poster did.
WITH waiting AS MATERIALIZED (
    SELECT repo_id, branch, max(ended_at) AS ended_at FROM syncs
    WHERE posted_at IS NULL AND commit_id IS NOT NULL
      AND ended_at > statement_timestamp() - %(news)s  -- stable: looked up in the index
    GROUP BY repo_id, branch
), due AS (
    SELECT b.repo_id, b.branch
    FROM waiting
    JOIN repositories AS r ON r.repo_id = waiting.repo_id
    JOIN branches AS b ON b.repo_id = waiting.repo_id AND b.branch = waiting.branch
    LEFT JOIN sources AS paused ON paused.source = r.source AND paused.paused_until > clock_timestamp()
    WHERE r.source = %(source)s AND paused.source IS NULL
      AND (b.posting_until IS NULL OR b.posting_until <= clock_timestamp())
    ORDER BY b.posting_until NULLS FIRST, waiting.ended_at DESC
    LIMIT 1
    FOR NO KEY UPDATE OF b SKIP LOCKED
)
UPDATE branches AS b SET posting_id = %(lease_id)s, posting_until = clock_timestamp() + %(lease)s
FROM due WHERE b.repo_id = due.repo_id AND b.branch = due.branch
RETURNING b.repo_id, b.branch

-- name: unposted
SELECT s.sync_id, s.repo_id, s.branch, s.trigger, s.outcome, s.started_at, s.ended_at, s.from_request, s.to_request,
       s.commit_id, s.generation, s.written, s.removed, s.reason, s.message, s.report,
       (SELECT told.told FROM syncs AS told
        WHERE told.repo_id = s.repo_id AND told.commit_id = s.commit_id
          AND told.told IS NOT NULL
        ORDER BY told.ended_at DESC LIMIT 1),
       CASE WHEN b.commit_id = s.commit_id THEN
            (SELECT count(*) FROM runtime_configs AS c WHERE c.repo_id = b.repo_id AND c.branch = b.branch) END,
       -- Of any branch: a commit has one status for all of them.
       EXISTS (SELECT FROM branches AS any_branch
               WHERE any_branch.repo_id = s.repo_id
                 AND s.commit_id IN (any_branch.judged_commit, any_branch.commit_id)),
       EXISTS (SELECT FROM syncs AS later
               WHERE later.repo_id = s.repo_id AND later.branch = s.branch AND later.ended_at > s.ended_at
                 AND later.commit_id <> s.commit_id),
       r.repo_id, r.name, r.project, r.source, r.root, r.pattern, r.branches, r.validation, r.suspended, r.revision,
       r.heads_checked_at, r.created_at, r.updated_at
FROM branches AS b
JOIN repositories AS r ON r.repo_id = b.repo_id
JOIN syncs AS s ON s.repo_id = b.repo_id AND s.branch = b.branch
WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND b.posting_id = %(lease_id)s
  AND s.posted_at IS NULL AND s.commit_id IS NOT NULL
  AND s.ended_at > statement_timestamp() - %(news)s
ORDER BY s.ended_at DESC LIMIT 1

-- name: posted
-- Fed from the right to post, so that a poster who lost it changes nothing.
WITH lease AS (
    UPDATE branches SET posting_id = NULL, posting_until = NULL
    WHERE repo_id = %(repo_id)s AND branch = %(branch)s AND posting_id = %(lease_id)s
    RETURNING repo_id, branch
), done AS (
    UPDATE syncs AS s SET
        posted_at = coalesce(s.posted_at, clock_timestamp()),
        told = CASE WHEN s.sync_id = %(sync_id)s THEN %(told)s END
    FROM lease
    WHERE s.repo_id = lease.repo_id AND s.branch = lease.branch AND s.commit_id = %(commit_id)s
      AND s.ended_at <= %(ended_at)s
      AND (s.posted_at IS NULL AND s.ended_at > statement_timestamp() - %(news)s OR s.told IS NOT NULL)
)
UPDATE syncs AS s SET posted_at = NULL
FROM lease
WHERE s.repo_id = lease.repo_id AND s.branch = lease.branch AND s.commit_id <> %(commit_id)s
  AND s.told LIKE 'pending: %%' AND s.ended_at < %(ended_at)s
RETURNING s.sync_id

-- name: release
UPDATE branches SET posting_id = NULL, posting_until = NULL
WHERE repo_id = %(repo_id)s AND branch = %(branch)s AND posting_id = %(lease_id)s
RETURNING branch
