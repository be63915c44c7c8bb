"""The numbers of PostgreSQL's advisory locks. Each stands here once: whoever holds one must not stop another's work."""

from enum import IntEnum, unique


@unique
class AdvisoryLock(IntEnum):
    """What one session does at a time. Any numbers will do that no other program in the database takes."""

    MIGRATION = 930_000_001
    TABLES = 930_000_002
    ALERT_DELIVERY = 930_000_003
