"""Where ingested data lies: raw bytes, Delta tables, the ledger and the quarantine."""
