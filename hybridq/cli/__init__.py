"""The command line: arguments, printing, exit codes; nothing else.

Exit code 0: done. 1: the input is wrong (a list of problems, no traceback), or a budget that was given cannot be held.
2: the command is wrong.
"""

from hybridq.cli.main import main

__all__ = ["main"]
