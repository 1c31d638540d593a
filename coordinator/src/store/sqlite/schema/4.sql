-- A VM's unfinished events are looked for with each admission: not among all of its events that were not moved yet.
DROP INDEX events_unfinished;
CREATE INDEX events_unfinished ON events (vm_id) WHERE ended = 0;
