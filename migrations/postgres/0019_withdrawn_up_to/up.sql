-- Where taking a rollout back went on last: the number of an assignment.
ALTER TABLE rollout_progress ADD COLUMN withdrawn_up_to BIGINT NOT NULL DEFAULT 0;
