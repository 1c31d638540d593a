-- What may be lost. Ids are text, so that a person can read them; times are milliseconds since 1970.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each start of an agent.
CREATE TABLE starts (
    n       INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    version TEXT    NOT NULL
) STRICT;

-- Calls to libvirt. Looks at one VM that went well and follow one another are one row.
CREATE TABLE calls (
    n       INTEGER PRIMARY KEY,
    -- None: of all domains.
    vm_id   TEXT,
    call    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    -- When the last of `times` was made.
    until   INTEGER NOT NULL,
    times   INTEGER NOT NULL,
    -- The longest of them, in microseconds.
    took_us INTEGER NOT NULL,
    result  TEXT    NOT NULL CHECK (result = 'well' OR result = 'failed' OR result = 'overran'),
    reason  TEXT,
    error   TEXT
) STRICT;

CREATE INDEX calls_of_vm ON calls (vm_id, n);

-- States of VMs that were seen (`words` is null), and what libvirt told of them (`words`).
CREATE TABLE states (
    n      INTEGER PRIMARY KEY,
    vm_id  TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    was    TEXT,
    now    TEXT,
    detail TEXT,
    run    TEXT,
    words  TEXT,
    CHECK ((now IS NULL) = (words IS NOT NULL))
) STRICT;

CREATE INDEX states_of_vm ON states (vm_id, n);
