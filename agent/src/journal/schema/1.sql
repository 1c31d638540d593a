-- The journal of one host's agent. Ids are text, so that a person can read them; times are milliseconds since 1970.
-- Checks name their values one by one: for a list of three and more, SQLite builds a table in memory with each row.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What stands at each position of the coordinator's queue. Stays for good.
CREATE TABLE queue (
    seq      INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    digest   BLOB NOT NULL
) STRICT;

CREATE TABLE events (
    n                   INTEGER PRIMARY KEY,
    event_id            TEXT    NOT NULL UNIQUE,
    origin              TEXT    NOT NULL CHECK (origin IN ('delivered', 'local')),
    seq                 INTEGER,
    term                INTEGER,
    generation          INTEGER NOT NULL,
    vm_id               TEXT    NOT NULL,
    kind                TEXT    NOT NULL,
    kind_version        INTEGER NOT NULL,
    digest              BLOB    NOT NULL,
    -- Dropped some days after the end: it holds user-data.
    body                BLOB,
    stage               TEXT    NOT NULL CHECK (stage = 'accepted' OR stage = 'running' OR stage = 'undoing'
                                                OR stage = 'finished' OR stage = 'reported'),
    supersedes          TEXT,
    -- JSON: not_after, and the clock that it is meant by.
    deadline            TEXT,
    accepted_at         INTEGER NOT NULL,
    accepted_since_boot INTEGER NOT NULL,
    accepted_boot       TEXT    NOT NULL,
    begun_at            INTEGER,
    finished_at         INTEGER,
    outcome             TEXT,
    CHECK ((origin = 'delivered') = (seq IS NOT NULL AND term IS NOT NULL)),
    CHECK ((finished_at IS NULL) = (outcome IS NULL)),
    CHECK ((finished_at IS NULL) = (stage = 'accepted' OR stage = 'running' OR stage = 'undoing'))
) STRICT;

CREATE INDEX events_unfinished ON events (vm_id) WHERE finished_at IS NULL;

CREATE TABLE entries (
    n          INTEGER PRIMARY KEY,
    event_id   TEXT    NOT NULL REFERENCES events (event_id),
    kind       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    json       TEXT    NOT NULL,
    wall       INTEGER NOT NULL,
    since_boot INTEGER NOT NULL,
    boot       TEXT    NOT NULL
) STRICT;

CREATE INDEX entries_of_event ON entries (event_id, n);

CREATE TABLE vms (
    vm_id      TEXT    PRIMARY KEY,
    name       TEXT,
    -- The highest ever accepted; a tombstone keeps it.
    generation INTEGER NOT NULL,
    presence   TEXT    NOT NULL CHECK (presence = 'building' OR presence = 'there' OR presence = 'gone'),
    wanted     TEXT    NOT NULL CHECK (wanted IN ('on', 'off')),
    disk       TEXT,
    seed       TEXT,
    run        TEXT,
    placement  TEXT,
    -- An encoded dewpoint.event.v1.VmSpec.
    spec       BLOB
) STRICT;

-- AUTOINCREMENT: no number is ever used twice, whatever is deleted.
CREATE TABLE reports (
    report_seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id    TEXT    NOT NULL,
    seq         INTEGER,
    generation  INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    vm          TEXT,
    begun_at    INTEGER,
    finished_at INTEGER NOT NULL,
    acked       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX reports_of_event ON reports (event_id);
