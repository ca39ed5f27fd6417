-- Room on the pages of terminals is a matter of PostgreSQL: SQLite changes rows in place.
SELECT 1;
