"""Contract files → schemas, rules, verdicts, breaking-change check."""
