"""The catalog of an archive: tables that are asked by expressions or SQL, cohorts, duplicates, likeness."""
