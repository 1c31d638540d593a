-- What happened to VMs without an event, and what was done about it: JSON, with its version. One row for each VM that
-- anything happened to.
CREATE TABLE keeping (
    vm_id   TEXT    PRIMARY KEY REFERENCES vms (vm_id),
    version INTEGER NOT NULL,
    json    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
