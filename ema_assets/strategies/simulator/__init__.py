"""The simulator turns the bars of all series into trades, by any rule. It knows no rule by name. No I/O, no clock."""
