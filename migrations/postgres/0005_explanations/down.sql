DROP TABLE explanations;
DROP TABLE pass_times;
DELETE FROM id_counters WHERE name = 'explanations';
