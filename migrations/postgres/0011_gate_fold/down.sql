DROP INDEX assignments_ended_badly;
DROP TABLE rollout_reasons;
DROP TABLE gate_losses;
DROP TABLE gate_sites;
DROP TABLE gate_failed;
DROP TABLE gate_folds;
