"""The rules: one module per rule, each of which declares `RULE`. They are found by strategies/rule_discovery.py."""
