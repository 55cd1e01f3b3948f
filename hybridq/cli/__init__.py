"""The command line: arguments, printing, exit codes; nothing else.

Exit code 0: done. 1: the input is wrong (a list of problems, no traceback), or a budget that was given cannot be held.
2: the command is wrong.
"""

import sys

try:
    from hybridq.cli.main import main
except KeyboardInterrupt:  # while it loads, which takes a moment: there is nothing to tidy up
    print("interrupted; nothing was written", file=sys.stderr)  # noqa: T201
    sys.exit(130)

__all__ = ["main"]
