ALTER TABLE rollout_progress DROP COLUMN opened_up_to;
