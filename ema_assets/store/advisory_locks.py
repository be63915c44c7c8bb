"""The numbers of PostgreSQL's advisory locks, in one place so that no two kinds of work share a lock."""

from enum import IntEnum, unique


@unique
class AdvisoryLock(IntEnum):
    """Work that only one session does at a time. The numbers are arbitrary, but unused by other programs."""

    MIGRATION = 930_000_001
    TABLES = 930_000_002
    ALERT_DELIVERY = 930_000_003
    SYNC = 930_000_004
