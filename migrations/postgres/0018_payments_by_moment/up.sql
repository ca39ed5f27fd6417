-- The look for payments that one side alone knows goes through them in the order in which they were made.
CREATE INDEX payments_by_moment ON payments (at_ms, terminal_id, event_id);
