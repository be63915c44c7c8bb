"""The simulator: bars of all series to trades, by any rule. It knows no rule by name. No I/O, no clock."""
