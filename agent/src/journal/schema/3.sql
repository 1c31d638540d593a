-- What waits for its acknowledgement is looked for with each one: not among all reports that were kept.
CREATE INDEX reports_unacked ON reports (report_seq) WHERE acked = 0;
