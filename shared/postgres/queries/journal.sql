-- name: deliveries
SELECT delivery_id, decision, event, requests, received_at
FROM deliveries WHERE repo_id = %(repo_id)s ORDER BY received_at DESC LIMIT %(limit)s

-- name: syncs
SELECT sync_id, repo_id, branch, trigger, outcome, started_at, ended_at, from_request, to_request, commit_id,
       generation, written, removed, reason, message, report
FROM syncs
WHERE repo_id = %(repo_id)s AND (%(branch)s::text IS NULL OR branch = %(branch)s)
ORDER BY ended_at DESC LIMIT %(limit)s

-- name: overview
SELECT
    (SELECT coalesce(jsonb_object_agg(condition, n), '{}') FROM (
        SELECT condition, count(*) AS n FROM branch_conditions GROUP BY condition) AS counted),
    (SELECT count(*) FROM branches WHERE requested > finished),
    (SELECT count(*) FROM unannounced
     WHERE announced_at IS NULL AND seen_at < clock_timestamp() - interval '1 hour'),
    (SELECT clock_timestamp() - ended_at FROM sweeps)

-- name: vitals
-- A branch that is Ready and syncs again has been behind since its delivery came, not since it became Ready. Any other has
-- been behind since its first failure after it was Ready, whatever its condition was called meanwhile.
WITH lagging AS (
    SELECT r.name, c.branch, c.condition, clock_timestamp() - behind.since AS age,
           CASE WHEN b.commit_id IS NOT NULL THEN clock_timestamp() - b.synced_at END AS served
    FROM branch_conditions AS c
    JOIN repositories AS r ON r.repo_id = c.repo_id
    JOIN branches AS b ON b.repo_id = c.repo_id AND b.branch = c.branch
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.condition = 'Syncing' AND b.condition = 'Ready' THEN (
            SELECT min(received_at) FROM deliveries AS d
            WHERE d.repo_id = b.repo_id AND d.received_at >= r.created_at
              AND (d.requests ->> b.branch)::bigint > b.finished
        ) ELSE least(c.since, (
            SELECT min(ended_at) FROM syncs AS s
            WHERE s.repo_id = b.repo_id AND s.branch = b.branch AND s.outcome IN ('rejected', 'failed')
              AND s.ended_at > coalesce(b.synced_at, r.created_at)
        )) END AS since) AS behind
    WHERE c.condition NOT IN ('Ready', 'Suspended') AND behind.since IS NOT NULL
    ORDER BY behind.since LIMIT %(laggards)s
)
SELECT
    (SELECT coalesce(jsonb_object_agg(condition, n), '{}') FROM (
        SELECT condition, count(*) AS n FROM branch_conditions GROUP BY condition) AS counted),
    (SELECT count(*) FROM branches WHERE requested > finished),
    (SELECT count(*) FROM unannounced
     WHERE announced_at IS NULL
       AND seen_at BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() - interval '1 hour'),
    (SELECT coalesce(jsonb_agg(jsonb_build_array(name, branch, condition, extract(epoch FROM age)::float8,
                                                 extract(epoch FROM served)::float8)), '[]') FROM lagging)

-- name: prune
WITH old_syncs AS (
    DELETE FROM syncs WHERE sync_id IN (
        SELECT sync_id FROM syncs WHERE ended_at < clock_timestamp() - %(retention)s LIMIT %(limit)s) RETURNING 1
), old_deliveries AS (
    DELETE FROM deliveries WHERE delivery_id IN (
        SELECT delivery_id FROM deliveries WHERE received_at < clock_timestamp() - %(retention)s LIMIT %(limit)s)
    RETURNING 1
), old_unannounced AS (
    DELETE FROM unannounced WHERE (repo_id, branch, commit_id) IN (
        SELECT repo_id, branch, commit_id FROM unannounced
        WHERE seen_at < clock_timestamp() - %(retention)s LIMIT %(limit)s)
    RETURNING 1
)
SELECT (SELECT count(*) FROM old_syncs) + (SELECT count(*) FROM old_deliveries) + (SELECT count(*) FROM old_unannounced)
