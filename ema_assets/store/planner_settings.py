"""How PostgreSQL plans statements, on the embedded server and in sessions on any other one."""

from collections.abc import Mapping

# PostgreSQL's own defaults are meant for disks that turn: it reads a whole table for one row of each series. And the
# statements are short: compiling them costs more than it saves.
PLANNED_BY: Mapping[str, str] = {"random_page_cost": "1.1", "jit": "off"}

# Trades are added up once, and not anew for each series, as the planner does where it expects one series in all: of 528
# that took minutes and not 0.2 s. What has to be looked up for each series still is.
ADDS_UP_ONCE = "SET LOCAL enable_nestloop = off"
PLANS_AS_USUAL = "SET LOCAL enable_nestloop TO DEFAULT"
