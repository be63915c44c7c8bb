"""Words that cannot be the name of a column or a table in SQL as it is written here, without quotes. No I/O."""

# Those that `pg_get_keywords()` of PostgreSQL 18 calls reserved (R) or reserved but for functions and types (T), and
# the columns that each table has already. A test compares the words with those of the server.
RESERVED_WORDS = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
    unique user using variadic verbose when where window with
    cmax cmin ctid tableoid xmax xmin
    """.split()  # noqa: SIM905 - a hundred words in quotes are twice as long, and harder to compare
)
