-- name: request
-- The repository is locked first, against its removal; then the branches, in name order. A branch that it does not name
-- (any more) is not requested: nobody would ever finish that.
WITH repository AS (
    SELECT repo_id, branches FROM repositories WHERE repo_id = %(repo_id)s FOR KEY SHARE
), asked AS (
    INSERT INTO branches AS b (repo_id, branch, requested, announced_push, announced_at, announced_commit, left_behind)
    SELECT repository.repo_id, wanted.branch, 1, %(push_id)s, CASE WHEN wanted.new IS NOT NULL THEN clock_timestamp() END,
           wanted.new, array_remove(array_remove(ARRAY[wanted.old], wanted.new), NULL)
    FROM repository,
         unnest(%(branches)s::text[], %(olds)s::text[], %(news)s::text[]) AS wanted (branch, old, new)
    WHERE wanted.branch = ANY (repository.branches)
    ORDER BY wanted.branch COLLATE "C"
    ON CONFLICT (repo_id, branch) DO UPDATE SET (
        requested, next_attempt_at, announced_push, announced_at, announced_commit, left_behind
    ) = (
        SELECT b.requested + 1, NULL::timestamptz,
            CASE WHEN told.is_news THEN coalesce(excluded.announced_push, b.announced_push) ELSE b.announced_push END,
            CASE WHEN told.is_news THEN excluded.announced_at ELSE b.announced_at END,
            CASE WHEN told.is_news THEN excluded.announced_commit ELSE b.announced_commit END,
            CASE WHEN told.is_news THEN array_remove(excluded.left_behind || told.before, excluded.announced_commit)
                ELSE b.left_behind END
        FROM (SELECT
            -- Deliveries come in any order, and again: only a newer push says where the branch went.
            excluded.announced_commit IS NOT NULL
                AND coalesce(excluded.announced_push > b.announced_push, true) AS is_news,
            -- Of pushes that are all in order by now nothing is left; nor of many, which only a storm leaves.
            CASE WHEN b.requested > b.finished AND cardinality(b.left_behind) < 50 THEN b.left_behind ELSE '{}' END
                AS before) AS told
    )
    RETURNING branch, requested
), announced AS (
    UPDATE unannounced SET announced_at = clock_timestamp()
    WHERE repo_id = %(repo_id)s AND commit_id = ANY (%(commits)s::text[]) AND announced_at IS NULL
), due AS (
    UPDATE repositories SET heads_checked_at = NULL WHERE %(all_heads)s AND heads_checked_at IS NOT NULL
)
INSERT INTO deliveries (delivery_id, decision, repo_id, event, requests)
SELECT %(delivery_id)s, %(decision)s, %(repo_id)s, %(event)s,
       coalesce((SELECT jsonb_object_agg(branch, requested) FROM asked), '{}')
RETURNING received_at, requests

-- name: ask
WITH repository AS (
    SELECT repo_id, branches FROM repositories WHERE repo_id = %(repo_id)s FOR KEY SHARE
)
INSERT INTO branches (repo_id, branch, requested, deep_requested)
SELECT repository.repo_id, wanted.branch, 1, false
FROM repository, unnest(%(branches)s::text[]) AS wanted (branch)
WHERE wanted.branch = ANY (repository.branches)
ORDER BY wanted.branch COLLATE "C"
ON CONFLICT (repo_id, branch) DO UPDATE SET
    requested = branches.requested + CASE WHEN %(deep)s THEN 0 ELSE 1 END,
    deep_requested = branches.deep_requested OR %(deep)s,
    next_attempt_at = NULL
RETURNING branch

-- name: claim
-- The attempt is counted, and the next one set, before any work: a branch that kills its worker waits its turn.
UPDATE branches AS b SET
    lease_id = %(sync_id)s,
    lease_until = clock_timestamp() + %(lease)s,
    attempts = b.attempts + 1,
    next_attempt_at = clock_timestamp()
        + least(%(cap)s, %(base)s * power(2, least(b.attempts, 20))) * (0.5 + random() / 2)
FROM repositories AS r LEFT JOIN sources AS s ON s.source = r.source
WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND r.repo_id = b.repo_id
  AND r.suspended IS NULL
  AND (%(probe)s OR s.source IS NULL OR s.paused_until <= clock_timestamp())
  AND (b.lease_id IS NULL OR b.lease_until <= clock_timestamp())
  AND (%(request)s::bigint IS NULL OR b.finished < %(request)s)
RETURNING b.repo_id, b.branch, b.requested, b.finished, b.deep_requested, b.generation, b.commit_id, b.judged_commit,
          b.judged_tree, b.judged_ruleset, b.report, s.paused_until,
          clock_timestamp() AS started_at,
          CASE WHEN b.announced_at > clock_timestamp() - %(patience)s THEN b.left_behind ELSE '{}' END AS left_behind,
          CASE WHEN b.announced_at > clock_timestamp() - %(patience)s THEN b.announced_commit END AS announced

-- name: why_not
SELECT r.suspended, s.paused_until > clock_timestamp() AS is_paused, s.reason, b.branch IS NOT NULL AS is_known
FROM repositories AS r
LEFT JOIN sources AS s ON s.source = r.source
LEFT JOIN branches AS b ON b.repo_id = r.repo_id AND b.branch = %(branch)s
WHERE r.repo_id = %(repo_id)s

-- name: claim_due
-- Where the source was in trouble, only the one that moves its pause on may go: the probe. No row means that no branch is
-- due; a row of nulls, that another became the probe first.
WITH due AS (
    SELECT b.repo_id, b.branch, s.source
    FROM branches AS b
    JOIN repositories AS r ON r.repo_id = b.repo_id
    LEFT JOIN sources AS s ON s.source = r.source
    WHERE (b.requested > b.finished OR b.deep_requested)
      AND (b.next_attempt_at IS NULL OR b.next_attempt_at <= clock_timestamp())
      AND (b.lease_id IS NULL OR b.lease_until <= clock_timestamp())
      AND r.suspended IS NULL
      AND r.source <> ALL (ARRAY(SELECT source FROM repositories WHERE repo_id = ANY (%(busy)s)))
      AND (s.source IS NULL OR s.paused_until <= clock_timestamp())
    ORDER BY b.next_attempt_at NULLS FIRST
    LIMIT 1
    FOR UPDATE OF b SKIP LOCKED
), probe AS (
    UPDATE sources AS s SET paused_until = clock_timestamp() + %(lease)s
    FROM due WHERE s.source = due.source AND s.paused_until <= clock_timestamp()
    RETURNING s.source, s.paused_until
), claimed AS (
    UPDATE branches AS b SET
        lease_id = %(sync_id)s,
        lease_until = clock_timestamp() + %(lease)s,
        attempts = b.attempts + 1,
        next_attempt_at = clock_timestamp()
            + least(%(cap)s, %(base)s * power(2, least(b.attempts, 20))) * (0.5 + random() / 2)
    FROM due
    WHERE b.repo_id = due.repo_id AND b.branch = due.branch
      AND (due.source IS NULL OR EXISTS (SELECT FROM probe))
    RETURNING b.repo_id, b.branch, b.requested, b.finished, b.deep_requested, b.generation, b.commit_id, b.judged_commit,
              b.judged_tree, b.judged_ruleset, b.report, (SELECT paused_until FROM probe),
              clock_timestamp() AS started_at,
              CASE WHEN b.announced_at > clock_timestamp() - %(patience)s THEN b.left_behind ELSE '{}' END AS left_behind,
              CASE WHEN b.announced_at > clock_timestamp() - %(patience)s THEN b.announced_commit END AS announced
)
SELECT claimed.* FROM due LEFT JOIN claimed ON true

-- name: renew
UPDATE branches SET lease_until = clock_timestamp() + %(lease)s
WHERE repo_id = %(repo_id)s AND branch = %(branch)s AND lease_id = %(sync_id)s
RETURNING requested

-- name: settle
-- No verdict: what was asked for stays asked for. A deferred sync was no attempt, and is due now.
WITH fence AS (
    UPDATE branches AS b SET
        lease_id = NULL,
        lease_until = NULL,
        -- A failure is tried again, also that of a sync nobody had to ask for.
        requested = CASE WHEN %(failed)s AND NOT b.deep_requested THEN greatest(b.requested, b.finished + 1)
            ELSE b.requested END,
        attempts = CASE WHEN %(failed)s THEN b.attempts ELSE greatest(b.attempts - 1, 0) END,
        next_attempt_at = CASE
            WHEN b.requested > %(seen)s THEN clock_timestamp()
            WHEN %(pause)s::interval IS NOT NULL THEN clock_timestamp() + %(pause)s
            WHEN %(failed)s THEN clock_timestamp()
                + least(%(cap)s, %(base)s * power(2, least(b.attempts - 1, 20))) * (0.5 + random() / 2)
            ELSE clock_timestamp() END,
        condition = coalesce(%(condition)s, b.condition),
        reason = CASE WHEN %(condition)s::text IS NULL THEN b.reason ELSE %(reason)s END,
        message = CASE WHEN %(condition)s::text IS NULL THEN b.message ELSE %(message)s END,
        since = CASE WHEN coalesce(%(condition)s, b.condition) = b.condition THEN b.since ELSE clock_timestamp() END,
        deferred = CASE WHEN %(condition)s::text IS NULL THEN %(message)s END
    WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND b.lease_id = %(sync_id)s
    RETURNING b.generation, b.requested > %(seen)s AS more, b.deep_requested
), logged AS (
    INSERT INTO syncs (sync_id, repo_id, branch, trigger, outcome, started_at, from_request, to_request, commit_id,
                       generation, reason, message)
    SELECT %(sync_id)s, %(repo_id)s, %(branch)s, %(trigger)s, %(outcome)s, %(started_at)s, %(finished)s, %(seen)s,
           %(head)s, fence.generation, %(reason)s, %(message)s
    FROM fence
)
SELECT generation, more, deep_requested FROM fence

-- name: pause_source
-- A wish that comes with its own time is no failure, and what was on its way when a pause began is the failure that
-- began it, once more: many syncs that are refused together count once. Each pause has an end of its own, so that whoever
-- knew an older one does not end this one.
INSERT INTO sources AS s (source, paused_until, condition, reason, failures)
VALUES (%(source)s, clock_timestamp() + coalesce(%(pause)s::interval, %(base)s), %(condition)s, %(message)s,
        CASE WHEN %(pause)s::interval IS NULL THEN 1 ELSE 0 END)
ON CONFLICT (source) DO UPDATE SET
    failures = s.failures + CASE WHEN s.failures = 0 OR s.paused_until <= clock_timestamp()
        OR s.paused_until = %(until)s::timestamptz THEN excluded.failures ELSE 0 END,
    since = CASE WHEN s.condition = excluded.condition THEN s.since ELSE excluded.since END,
    condition = excluded.condition,
    reason = excluded.reason,
    paused_until = CASE
        WHEN %(pause)s::interval IS NOT NULL OR s.failures = 0 OR s.paused_until <= clock_timestamp()
            OR s.paused_until = %(until)s::timestamptz
        THEN greatest(s.paused_until + interval '1 microsecond', clock_timestamp()
            + coalesce(%(pause)s::interval, least(%(cap)s, %(base)s * power(2, least(s.failures, 20)))))
        ELSE s.paused_until END
RETURNING paused_until

-- name: resume_source
WITH resumed AS (
    DELETE FROM sources
    WHERE source = %(source)s AND paused_until <= coalesce(%(until)s::timestamptz, clock_timestamp())
    RETURNING source
), waiting AS (
    SELECT b.repo_id, b.branch
    FROM resumed
    JOIN repositories AS r ON r.source = resumed.source
    JOIN branches AS b ON b.repo_id = r.repo_id
    WHERE (b.requested > b.finished OR b.deep_requested)
      AND (b.lease_id IS NULL OR b.lease_until <= clock_timestamp())
    ORDER BY b.repo_id, b.branch
    FOR UPDATE OF b SKIP LOCKED
)
UPDATE branches AS b SET next_attempt_at = NULL
FROM waiting WHERE b.repo_id = waiting.repo_id AND b.branch = waiting.branch
RETURNING b.branch

-- name: waited
-- Deliveries outlast a registration, and the next one of the same repository counts its requests from one again.
SELECT clock_timestamp() - min(d.received_at)
FROM deliveries AS d JOIN repositories AS r ON r.repo_id = d.repo_id AND d.received_at >= r.created_at
WHERE d.repo_id = %(repo_id)s AND (d.requests ->> %(branch)s)::bigint BETWEEN %(finished)s + 1 AND %(seen)s

-- name: status
SELECT b.repo_id, b.branch, c.condition, c.reason, c.message, c.since, b.generation, b.commit_id, b.synced_at,
       b.judged_commit, b.report, b.requested, b.finished,
       b.lease_id IS NOT NULL AND b.lease_until > clock_timestamp() AS syncing,
       b.attempts, b.next_attempt_at, b.deep_synced_at,
       (SELECT count(*) FROM runtime_configs AS c WHERE c.repo_id = b.repo_id AND c.branch = b.branch) AS configs
FROM branches AS b JOIN branch_conditions AS c ON c.repo_id = b.repo_id AND c.branch = b.branch
WHERE %(repo_id)s::text IS NULL OR b.repo_id = %(repo_id)s
ORDER BY b.repo_id, b.branch
