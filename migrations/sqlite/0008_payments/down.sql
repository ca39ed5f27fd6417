DROP TABLE evidence_packs;
DROP TABLE lookups;
DROP TABLE imported_failures;
DROP TABLE payments;
