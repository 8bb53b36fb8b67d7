-- name: get
SELECT repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, heads_checked_at,
       created_at, updated_at
FROM repositories WHERE repo_id = %(repo_id)s

-- name: find
SELECT repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, heads_checked_at,
       created_at, updated_at
FROM repositories WHERE repo_id = %(alias)s OR name = %(alias)s
ORDER BY repo_id = %(alias)s DESC LIMIT 1

-- name: list
SELECT repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, heads_checked_at,
       created_at, updated_at
FROM repositories ORDER BY name

-- name: names
SELECT r.repo_id, r.name,
       array(SELECT b.branch FROM branches AS b WHERE b.repo_id = r.repo_id AND b.commit_id IS NOT NULL
             ORDER BY length(b.branch) DESC, b.branch)
FROM repositories AS r ORDER BY r.name

-- name: lock
SELECT repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, heads_checked_at,
       created_at, updated_at
FROM repositories WHERE repo_id = %(repo_id)s FOR UPDATE

-- name: add
INSERT INTO repositories (repo_id, name, project, source, root, pattern, branches, validation, suspended)
VALUES (%(repo_id)s, %(name)s, %(project)s, %(source)s, %(root)s, %(pattern)s, %(branches)s, %(validation)s,
        %(suspended)s)
RETURNING repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, heads_checked_at,
          created_at, updated_at

-- name: change
UPDATE repositories SET
    project = %(project)s, source = %(source)s, root = %(root)s, pattern = %(pattern)s, branches = %(branches)s,
    validation = %(validation)s, suspended = %(suspended)s,
    revision = revision + 1, updated_at = clock_timestamp()
WHERE repo_id = %(repo_id)s
RETURNING repo_id, name, project, source, root, pattern, branches, validation, suspended, revision, heads_checked_at,
          created_at, updated_at

-- name: lock_branches
SELECT branch FROM branches WHERE repo_id = %(repo_id)s ORDER BY branch FOR UPDATE

-- name: ask_named
INSERT INTO branches (repo_id, branch, requested)
SELECT %(repo_id)s, wanted.branch, 1 FROM unnest(%(branches)s::text[]) AS wanted (branch)
ORDER BY wanted.branch COLLATE "C"
ON CONFLICT (repo_id, branch) DO UPDATE SET
    requested = branches.requested + 1, next_attempt_at = NULL, attempts = 0,
    lease_id = NULL, lease_until = NULL, judged_ruleset = NULL, judged_tree = NULL
RETURNING branch

-- name: drop_unnamed
WITH unnamed AS (
    SELECT branch FROM branches WHERE repo_id = %(repo_id)s AND NOT branch = ANY (%(branches)s)
), removed AS (
    DELETE FROM runtime_configs AS c USING unnamed
    WHERE c.repo_id = %(repo_id)s AND c.branch = unnamed.branch
)
UPDATE branches AS b SET
    generation = greatest(b.generation + 1, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
    commit_id = NULL, synced_at = NULL, judged_commit = NULL, judged_tree = NULL, judged_ruleset = NULL,
    report = '{"findings": [], "omitted": 0}', finished = b.requested, deep_requested = false,
    lease_id = NULL, lease_until = NULL, attempts = 0, next_attempt_at = NULL,
    condition = 'Ready', reason = 'NotNamed', message = 'The registration does not name this branch any more.',
    since = CASE WHEN b.reason = 'NotNamed' THEN b.since ELSE clock_timestamp() END
FROM unnamed WHERE b.repo_id = %(repo_id)s AND b.branch = unnamed.branch
RETURNING b.branch

-- name: remove
DELETE FROM repositories WHERE repo_id = %(repo_id)s RETURNING repo_id
