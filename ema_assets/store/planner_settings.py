"""How PostgreSQL plans statements, on the embedded server and in sessions on any other one. No SQL."""

from collections.abc import Mapping

# PostgreSQL's own defaults are meant for disks that turn: it reads a whole table for one row of each series. And the
# statements are short: compiling them costs more than it saves.
PLANNED_BY: Mapping[str, str] = {"random_page_cost": "1.1", "jit": "off"}
