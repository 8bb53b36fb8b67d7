-- name: stored
SELECT filepath, blob_id, ruleset, findings FROM runtime_configs WHERE repo_id = %(repo_id)s AND branch = %(branch)s

-- name: stored_verified
SELECT filepath, blob_id, ruleset, findings, digest = config_digest(filepath, blob_id, config)
FROM runtime_configs WHERE repo_id = %(repo_id)s AND branch = %(branch)s

-- name: replace
-- One statement: it moves the rows, ends the sync and writes its journal, or does nothing. `fence` is the only thing the
-- four writers are fed from: it locks the branch and re-checks the lease on its newest version, so that a loser's DELETE
-- and INSERT see no row. `counted` decides, before, whether a new generation is due, because one statement can update the
-- branch only once.
WITH incoming AS MATERIALIZED (
    SELECT path COLLATE "C" AS filepath, blob_id, config::jsonb AS config,
           config_digest(path, blob_id, config::jsonb) AS digest, findings::jsonb AS findings
    FROM unnest(%(paths)b::text[], %(blobs)b::text[], %(configs)b::text[], %(findings)b::text[])
        AS document (path, blob_id, config, findings)
), compared AS MATERIALIZED (
    SELECT incoming.*, c.id, c.ruleset,
           -- As text, since jsonb takes 1 and 1.0 for equal.
           c.blob_id IS DISTINCT FROM incoming.blob_id OR c.digest <> incoming.digest
               OR c.config::text <> incoming.config::text AS differs
    FROM incoming
    -- OFFSET 0 makes it one look into the index per document, whatever the statistics say: without any, a join would
    -- read the whole branch.
    LEFT JOIN LATERAL (
        SELECT * FROM runtime_configs AS c
        WHERE c.repo_id = %(repo_id)s AND c.branch = %(branch)s AND c.filepath = incoming.filepath
        OFFSET 0
    ) AS c ON true
), removable AS MATERIALIZED (
    SELECT c.filepath FROM runtime_configs AS c
    WHERE c.repo_id = %(repo_id)s AND c.branch = %(branch)s AND c.filepath = ANY (%(gone)b::text[])
), counted AS MATERIALIZED (
    SELECT (SELECT count(*) FROM compared WHERE differs) AS written, (SELECT count(*) FROM removable) AS removed
), fence AS (
    UPDATE branches AS b SET
        generation = CASE WHEN n.written + n.removed = 0 THEN b.generation
            ELSE greatest(b.generation + 1, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END,
        commit_id = %(serve)s,
        synced_at = CASE WHEN %(accepted)s THEN clock_timestamp() ELSE b.synced_at END,
        judged_commit = %(judged_commit)s,
        judged_tree = %(judged_tree)s,
        judged_ruleset = %(judged_ruleset)s,
        report = %(report)s,
        finished = greatest(b.finished, %(seen)s),
        deep_requested = b.deep_requested AND NOT %(deep)s,
        deep_synced_at = CASE WHEN %(deep)s OR b.deep_synced_at IS NULL OR b.commit_id IS NULL
            THEN clock_timestamp() ELSE b.deep_synced_at END,
        lease_id = NULL,
        lease_until = NULL,
        attempts = 0,
        next_attempt_at = NULL,
        deferred = NULL,
        condition = %(condition)s,
        reason = %(reason)s,
        message = %(message)s,
        since = CASE WHEN b.condition = %(condition)s AND b.reason = %(reason)s THEN b.since ELSE clock_timestamp() END
    FROM counted AS n
    WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND b.lease_id = %(sync_id)s
    RETURNING b.generation, b.requested > b.finished AS more, n.written, n.removed, b.deep_requested
), deleted AS (
    DELETE FROM runtime_configs AS c USING fence
    WHERE c.repo_id = %(repo_id)s AND c.branch = %(branch)s AND c.filepath = ANY (%(gone)b::text[])
), upserted AS (
    INSERT INTO runtime_configs AS c (repo_id, branch, filepath, config, blob_id, ruleset, generation, digest,
                                      findings)
    SELECT %(repo_id)s, %(branch)s, filepath, config, blob_id,
           -- Healed under rules that did not accept it, a row keeps those that did.
           CASE WHEN %(accepted)s THEN %(judged_ruleset)s ELSE coalesce(compared.ruleset, %(judged_ruleset)s) END,
           fence.generation, digest, findings
    FROM compared, fence
    WHERE differs
    ON CONFLICT (repo_id, branch, filepath) DO UPDATE SET
        config = excluded.config, blob_id = excluded.blob_id, ruleset = excluded.ruleset,
        generation = excluded.generation, digest = excluded.digest, findings = excluded.findings,
        updated_at = clock_timestamp()
), rejudged AS (
    -- The same content under new rules: no new generation, and the row's own times stay.
    UPDATE runtime_configs AS c SET ruleset = %(judged_ruleset)s, findings = compared.findings
    FROM compared, fence
    WHERE c.id = compared.id AND NOT compared.differs AND compared.ruleset <> %(judged_ruleset)s AND %(accepted)s
), logged AS (
    INSERT INTO syncs (sync_id, repo_id, branch, trigger, outcome, started_at, from_request, to_request, commit_id,
                       generation, written, removed, reason, message, report)
    SELECT %(sync_id)s, %(repo_id)s, %(branch)s, %(trigger)s,
           CASE WHEN NOT %(accepted)s THEN 'rejected' WHEN fence.written + fence.removed = 0 THEN 'unchanged'
                ELSE 'replaced' END,
           %(started_at)s, %(finished)s, %(seen)s, %(judged_commit)s, fence.generation, fence.written, fence.removed,
           %(reason)s, %(message)s, nullif(%(report)s, '{"findings": [], "omitted": 0}'::jsonb)
    FROM fence
)
SELECT generation, more, written + removed > 0, written, removed, deep_requested FROM fence

-- name: ended
SELECT s.generation, b.requested > s.to_request, s.written + s.removed > 0, s.written, s.removed, b.deep_requested
FROM syncs AS s JOIN branches AS b ON b.repo_id = s.repo_id AND b.branch = s.branch
WHERE s.sync_id = %(sync_id)s

-- name: would_take
SELECT count(config_digest(path, blob_id, config::jsonb))
FROM unnest(%(paths)s::text[], %(blobs)s::text[], %(configs)s::text[]) AS document (path, blob_id, config)

-- name: item
SELECT b.generation, b.commit_id, b.synced_at, c.blob_id, c.generation, c.updated_at,
       CASE WHEN c.generation = ANY (%(known)s::bigint[]) THEN ''::bytea
            ELSE convert_to(c.config::text, 'UTF8') END
FROM branches AS b
LEFT JOIN runtime_configs AS c ON c.repo_id = b.repo_id AND c.branch = b.branch AND c.filepath = %(path)s
WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND b.commit_id IS NOT NULL

-- name: generation
SELECT generation, commit_id, synced_at FROM branches
WHERE repo_id = %(repo_id)s AND branch = %(branch)s AND commit_id IS NOT NULL

-- name: listing
SELECT b.generation, b.commit_id, b.synced_at, c.blob_id, c.generation, c.updated_at,
       convert_to(c.config::text, 'UTF8'), c.filepath
FROM branches AS b
LEFT JOIN runtime_configs AS c ON c.repo_id = b.repo_id AND c.branch = b.branch AND starts_with(c.filepath, %(prefix)s)
WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND b.commit_id IS NOT NULL
ORDER BY c.filepath

-- name: page
SELECT b.generation, b.commit_id, b.synced_at, c.blob_id, c.generation, c.updated_at,
       convert_to(c.config::text, 'UTF8'), c.filepath
FROM branches AS b
LEFT JOIN LATERAL (
    SELECT * FROM runtime_configs AS c
    WHERE c.repo_id = b.repo_id AND c.branch = b.branch AND c.filepath > %(after)s
      AND starts_with(c.filepath, %(prefix)s)
    ORDER BY c.filepath LIMIT %(limit)s
) AS c ON true
WHERE b.repo_id = %(repo_id)s AND b.branch = %(branch)s AND b.commit_id IS NOT NULL
ORDER BY c.filepath
