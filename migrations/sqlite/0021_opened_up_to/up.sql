-- Up to which rank the planner opened a rollout's assignments: none of a smaller rank waits for its stage.
ALTER TABLE rollout_progress ADD COLUMN opened_up_to BIGINT NOT NULL DEFAULT 0;
