"""Standby processes: they have imported everything and wait for a run id. The launcher that uses them is next to this.

`pool` decides which process takes a run, `process` is one of them as its owner sees it, `worker` is what runs in it.
"""
