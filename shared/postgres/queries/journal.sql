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
