-- UUIDs and digests are blobs; times are milliseconds since the Unix epoch; causes, outcomes and specs are JSON.

CREATE TABLE fleet (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    held       TEXT,              -- why nothing is delivered to any host
    recovering TEXT               -- a cause: why nothing is placed
) STRICT;
INSERT INTO fleet (id) VALUES (1);

CREATE TABLE hosts (
    host_id        BLOB PRIMARY KEY,
    hostname       TEXT NOT NULL,
    journal_id     BLOB NOT NULL,
    start_count    INTEGER NOT NULL,
    agent_version  TEXT NOT NULL,
    term           INTEGER NOT NULL,
    last_seq       INTEGER NOT NULL DEFAULT 0,
    accepted_seq   INTEGER NOT NULL DEFAULT 0,
    last_report    INTEGER NOT NULL DEFAULT 0,
    report_open    INTEGER NOT NULL DEFAULT 1,   -- no report stored yet: the first may have any number
    cordoned       TEXT,
    held           TEXT,
    diverged       TEXT,
    base_seq       INTEGER NOT NULL DEFAULT 0,   -- the queue begins after it: what came before is not in this database
    base_event     BLOB,                         -- the event at base_seq
    recovering     INTEGER NOT NULL DEFAULT 0,   -- its journal is ahead of last_seq until it was taken over
    degraded       TEXT NOT NULL DEFAULT '[]',
    capacity       TEXT,
    -- The sums over the rows of vms with this host, kept in the same transactions.
    claimed_vcpus  INTEGER NOT NULL DEFAULT 0,
    claimed_memory INTEGER NOT NULL DEFAULT 0,
    claimed_disk   INTEGER NOT NULL DEFAULT 0,
    claimed_vms    INTEGER NOT NULL DEFAULT 0,
    last_heartbeat INTEGER
) STRICT;
CREATE INDEX hosts_name ON hosts (hostname, host_id);

CREATE TABLE vms (
    vm_id       BLOB PRIMARY KEY,
    name        TEXT NOT NULL,
    host_id     BLOB,             -- the claim: set from assigned until proof that the VM is gone
    last_host   BLOB,
    vcpus       INTEGER NOT NULL,
    memory      INTEGER NOT NULL,
    disk        INTEGER NOT NULL,
    shape       TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    wanted_on   INTEGER NOT NULL,
    observed    TEXT,
    as_of       INTEGER NOT NULL DEFAULT 0,
    observed_at INTEGER,
    image       BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    gone        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX vms_name ON vms (name, vm_id);
CREATE INDEX vms_last_host ON vms (last_host);

CREATE TABLE events (
    n            INTEGER PRIMARY KEY,
    event_id     BLOB NOT NULL UNIQUE,
    vm_id        BLOB NOT NULL,
    vm_name      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    stage        TEXT NOT NULL,
    ended        INTEGER NOT NULL,
    host_id      BLOB,
    seq          INTEGER,
    generation   INTEGER NOT NULL DEFAULT 0,
    body         BLOB,
    digest       BLOB NOT NULL,
    request      BLOB NOT NULL,
    image        BLOB,            -- that it needs while unfinished
    outcome      TEXT,
    unknown      TEXT,
    contradicted TEXT,
    pending      TEXT,
    only_host    BLOB,            -- while pending: no other host will do
    explanation  TEXT,
    accepted_at  INTEGER NOT NULL,
    not_after    INTEGER,
    begun_at     INTEGER,
    finished_at  INTEGER,
    retry_of     BLOB
) STRICT;
CREATE INDEX events_vm ON events (vm_id);
CREATE UNIQUE INDEX events_queue ON events (host_id, seq);
CREATE INDEX events_unfinished ON events (ended) WHERE ended = 0;
CREATE INDEX events_pending ON events (n) WHERE stage = 'pending';

CREATE TABLE images (
    digest       BLOB PRIMARY KEY,
    size         INTEGER NOT NULL,
    virtual_size INTEGER NOT NULL,
    format       TEXT NOT NULL,
    added_at     INTEGER NOT NULL,
    made_by      BLOB,
    made_from    BLOB
) STRICT;
CREATE TABLE image_names (
    name   TEXT PRIMARY KEY,
    digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX image_names_digest ON image_names (digest);

CREATE TABLE networks (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE nics (
    network TEXT NOT NULL,
    mac     BLOB NOT NULL,
    vm_id   BLOB NOT NULL,
    PRIMARY KEY (network, mac)
) STRICT, WITHOUT ROWID;
CREATE INDEX nics_vm ON nics (vm_id);
CREATE TABLE addresses (
    network TEXT NOT NULL,
    address TEXT NOT NULL,
    mac     BLOB NOT NULL,
    vm_id   BLOB NOT NULL,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_vm ON addresses (vm_id);
