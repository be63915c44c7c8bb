"""Trading strategies: one module per rule, variants of the rules, and one simulator. No I/O, no clock."""
