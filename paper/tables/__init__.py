"""Tables from the records: one model of a table, three renderings, one file per table."""
