-- Each taking of a partition has a number of its own: a node that finds the number it knows has
-- published alone since. One that was stopped for longer than its lease, while another published and
-- ended, holds the partition again under another number, and drops the rows it had read before.

CREATE SEQUENCE relay_terms;
ALTER TABLE relay_leases ADD COLUMN term bigint NOT NULL DEFAULT nextval('relay_terms');
