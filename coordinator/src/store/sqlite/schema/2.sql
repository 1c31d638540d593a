-- Finished events leave the table of those under way; what people do is kept, with why; a restored database knows that
-- it is one.

ALTER TABLE fleet ADD COLUMN destroy_limit INTEGER;  -- a minute, as set by a person; null: the configuration's
ALTER TABLE fleet ADD COLUMN restored TEXT;          -- of which backup this is a copy, until every host was heard

ALTER TABLE hosts ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;  -- not heard since this database was restored

ALTER TABLE events ADD COLUMN stage_at INTEGER;  -- since when it stands where it stands, by the coordinator's clock
ALTER TABLE events ADD COLUMN forced TEXT;       -- the person who answered for its host
CREATE INDEX events_ended ON events (n) WHERE ended = 1;
CREATE INDEX events_retries ON events (retry_of) WHERE retry_of IS NOT NULL;

-- As events, which have ended: moved here some seconds after their end, never back. Rows stay for good, bodies do not.
CREATE TABLE finished (
    n            INTEGER PRIMARY KEY,
    event_id     BLOB NOT NULL UNIQUE,
    vm_id        BLOB NOT NULL,
    vm_name      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    stage        TEXT NOT NULL,
    ended        INTEGER NOT NULL,
    host_id      BLOB,
    seq          INTEGER,
    generation   INTEGER NOT NULL,
    body         BLOB,
    digest       BLOB NOT NULL,
    request      BLOB NOT NULL,
    image        BLOB,
    outcome      TEXT,
    unknown      TEXT,
    contradicted TEXT,
    pending      TEXT,
    only_host    BLOB,
    explanation  TEXT,
    accepted_at  INTEGER NOT NULL,
    not_after    INTEGER,
    begun_at     INTEGER,
    finished_at  INTEGER,
    retry_of     BLOB,
    stage_at     INTEGER,
    forced       TEXT,
    moved_at     INTEGER NOT NULL                -- by the coordinator's clock: bodies are kept from then on
) STRICT;
CREATE INDEX finished_vm ON finished (vm_id);
CREATE INDEX finished_host ON finished (host_id);
CREATE INDEX finished_queue ON finished (host_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX finished_retries ON finished (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX finished_bodies ON finished (moved_at) WHERE body IS NOT NULL;

-- VMs that are gone stay in their table, too; these pass them over.
CREATE INDEX vms_claims ON vms (host_id) WHERE host_id IS NOT NULL;
CREATE INDEX vms_here ON vms (name, vm_id) WHERE gone = 0;

-- When destroys were admitted, as far as the limit looks back.
CREATE TABLE destroys (
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX destroys_at ON destroys (at);

CREATE TABLE audit (
    n        INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    who      TEXT NOT NULL,                      -- as the caller said
    act      TEXT NOT NULL,
    host_id  BLOB,
    event_id BLOB,
    vm_id    BLOB,
    detail   TEXT NOT NULL,                      -- what was set, or what it came to
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX audit_host ON audit (host_id) WHERE host_id IS NOT NULL;
CREATE INDEX audit_event ON audit (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX audit_vm ON audit (vm_id) WHERE vm_id IS NOT NULL;
