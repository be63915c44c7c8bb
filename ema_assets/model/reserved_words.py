"""Words that cannot be the name of a column or table in the project's SQL, which uses no quotes. No I/O."""

# The words that `pg_get_keywords()` of PostgreSQL 18 lists as reserved (R) or reserved except for functions and types
# (T), and the system columns of every table. A test compares the words with the server's.
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
