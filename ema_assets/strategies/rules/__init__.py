"""The rules: one module per rule, each of which declares `RULE`. strategies/rule_discovery.py finds them."""
