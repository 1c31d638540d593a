-- Hosts that diverge, move to other machines, retire.

ALTER TABLE hosts ADD COLUMN product_uuid TEXT;   -- of the machine that it was matched on
ALTER TABLE hosts ADD COLUMN told TEXT;           -- its newest hello, as JSON
ALTER TABLE hosts ADD COLUMN reconciling TEXT;    -- how it goes on as soon as its agent has done so, as JSON
ALTER TABLE hosts ADD COLUMN retired TEXT;        -- why it will not come back
ALTER TABLE hosts ADD COLUMN becomes BLOB;        -- the host whose place it takes
