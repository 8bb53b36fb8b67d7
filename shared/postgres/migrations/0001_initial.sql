-- Keys are COLLATE "C": compared by bytes, the same on every server, and the order of pages.

CREATE TABLE repositories (
    repo_id           text COLLATE "C" PRIMARY KEY,
    name              text COLLATE "C" NOT NULL CONSTRAINT repositories_name UNIQUE,
    project           text,
    source            text COLLATE "C" NOT NULL,
    root              text NOT NULL,
    pattern           text NOT NULL,
    branches          text[] NOT NULL,
    validation        text NOT NULL CHECK (validation IN ('enforce', 'report')),
    suspended         text,
    revision          bigint NOT NULL DEFAULT 1,
    heads_checked_at  timestamptz,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A row outlives its branch in Git, and goes only with its repository.
CREATE TABLE branches (
    repo_id          text COLLATE "C" NOT NULL REFERENCES repositories ON DELETE CASCADE,
    branch           text COLLATE "C" NOT NULL,
    -- What is served. The generation of a new row is above that of every row before it, also after a restore.
    generation       bigint NOT NULL DEFAULT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    commit_id        text,
    synced_at        timestamptz,
    -- What was judged last; forty zeros when the branch was absent.
    judged_commit    text,
    judged_tree      text,
    judged_ruleset   text,
    report           jsonb NOT NULL DEFAULT '{"findings": [], "omitted": 0}',
    -- What was asked for.
    requested        bigint NOT NULL DEFAULT 0,
    finished         bigint NOT NULL DEFAULT 0,
    deep_requested   boolean NOT NULL DEFAULT false,
    -- The claim.
    lease_id         uuid,
    lease_until      timestamptz,
    -- The next attempt.
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz,
    -- What people are told.
    condition        text NOT NULL DEFAULT 'Syncing',
    reason           text NOT NULL DEFAULT 'Requested',
    message          text NOT NULL DEFAULT 'A first sync was requested and has not ended yet.',
    since            timestamptz NOT NULL DEFAULT clock_timestamp(),
    deep_synced_at   timestamptz,
    PRIMARY KEY (repo_id, branch)
) WITH (fillfactor = 60);

CREATE INDEX branches_due ON branches (next_attempt_at NULLS FIRST) WHERE requested > finished OR deep_requested;

-- References branches, not repositories: one order of locks for a sync, a request and a removal.
CREATE TABLE runtime_configs (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    repo_id     text COLLATE "C" NOT NULL,
    branch      text COLLATE "C" NOT NULL,
    filepath    text COLLATE "C" NOT NULL,
    config      jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    blob_id     text NOT NULL,
    ruleset     text NOT NULL,
    generation  bigint NOT NULL,
    digest      bytea NOT NULL,
    findings    jsonb,
    CONSTRAINT runtime_configs_path UNIQUE (repo_id, branch, filepath),
    FOREIGN KEY (repo_id, branch) REFERENCES branches ON DELETE CASCADE
);

-- What the digest of a row covers. Computed by the server from what it stored, so that a hand edit breaks it.
CREATE FUNCTION config_digest(filepath text, blob_id text, config jsonb) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT sha256(convert_to(filepath || E'\n' || blob_id || E'\n' || config::text, 'UTF8')) $$;

-- Append-only; sync_id is the lease that the sync held.
CREATE TABLE syncs (
    sync_id       uuid PRIMARY KEY,
    repo_id       text COLLATE "C" NOT NULL,
    branch        text COLLATE "C" NOT NULL,
    trigger       text NOT NULL,
    outcome       text NOT NULL,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_request  bigint NOT NULL,
    to_request    bigint NOT NULL,
    commit_id     text,
    generation    bigint NOT NULL,
    written       integer NOT NULL DEFAULT 0,
    removed       integer NOT NULL DEFAULT 0,
    reason        text NOT NULL DEFAULT '',
    message       text NOT NULL DEFAULT '',
    report        jsonb,
    posted_at     timestamptz
);
CREATE INDEX syncs_of_branch ON syncs (repo_id, branch, ended_at);
CREATE INDEX syncs_ended_at ON syncs USING brin (ended_at);

CREATE TABLE deliveries (
    delivery_id  uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    decision     text NOT NULL,
    repo_id      text COLLATE "C",
    event        jsonb NOT NULL,
    requests     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX deliveries_of_repository ON deliveries (repo_id, received_at);
CREATE INDEX deliveries_received_at ON deliveries USING brin (received_at);

-- Heads that a sweep found moved before any delivery told of them.
CREATE TABLE unannounced (
    repo_id       text COLLATE "C" NOT NULL REFERENCES repositories ON DELETE CASCADE,
    branch        text COLLATE "C" NOT NULL,
    commit_id     text NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_at  timestamptz,
    PRIMARY KEY (repo_id, branch, commit_id)
);

-- A source in trouble; no row means none.
CREATE TABLE sources (
    source        text COLLATE "C" PRIMARY KEY,
    paused_until  timestamptz NOT NULL,
    reason        text NOT NULL,
    failures      integer NOT NULL DEFAULT 1,
    since         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: the claim of the running sweep, and how the last one ended.
CREATE TABLE sweeps (
    is_only      boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    sweep_id     uuid,
    lease_until  timestamptz,
    started_at   timestamptz,
    started_by   text,
    ended_at     timestamptz,
    summary      jsonb
);
INSERT INTO sweeps DEFAULT VALUES;
