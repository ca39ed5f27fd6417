ALTER TABLE rollout_progress DROP COLUMN withdrawn_up_to;
