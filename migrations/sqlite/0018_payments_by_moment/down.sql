DROP INDEX payments_by_moment;
