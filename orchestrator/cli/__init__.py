"""The command line: `program` has the group of all commands and `main`, `options` what several commands share, and
each other module the commands of one section of `orch --help`.
"""

from orchestrator.cli.program import main, orch

__all__ = ["main", "orch"]
