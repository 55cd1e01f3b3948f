"""What step1 says of layers that 8 bits will harm: one paragraph a kind, each with the line that mends all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.text import Text

from hybridq.cli.flags import Talk
from hybridq.cli.grouped import groups
from hybridq.linting import Finding

SHOWN = 12  # kinds before the rest is counted
NAMED = 4  # layers of a kind by name
UNLIKE = ("concat", "mixed output", "state")  # warnings that each have facts of their own


def tell_findings(voice: Talk, findings: tuple[Finding, ...], directory: Path, *, searched: bool = False) -> None:
    """What will happen in 8 bits, and what mends it.

    ``searched``: a search has weighed what a precision mends, so that is counted; ``--verbose`` tells each by itself.
    """
    told = [f for f in findings if not f.precision or not searched or voice.verbose]
    kinds = [[f] for f in told] if voice.verbose else groups(told, _kind)
    shown = kinds if voice.verbose else kinds[:SHOWN]
    for alike in shown:
        _tell(voice, alike, directory)
    if len(kinds) > len(shown):
        voice.say(f"  and {sum(map(len, kinds[SHOWN:]))} more (--verbose has them)")
    if weighed := len(findings) - len(told):
        voice.say(f"{weighed} more on single layers went into the search (--verbose has them)")


def _kind(finding: Finding) -> object:
    """What findings share that one line mends; one without a precision stands alone, and so does one of UNLIKE."""
    alone = not finding.precision or (finding.severity == "warning" and finding.code in UNLIKE)
    return finding if alone else (finding.code, finding.severity, finding.precision)


def _tell(voice: Talk, alike: list[Finding], directory: Path) -> None:
    first, *others = alike
    style = "yellow" if first.severity == "warning" else ""
    voice.say(Text.assemble((f"{first.severity}: ", style), first.message))
    if others:
        named = ", ".join(f"'{f.layer}'" for f in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        voice.say(Text(f"  the same of {named}{more} (--verbose tells each)"))
    layers = tuple(dict.fromkeys(name for f in alike for name in f.layers))
    command = replace(first, layers=layers).command(str(directory))
    if not command or len(alike) == 1:
        voice.say(Text(f"  remedy: {first.remedy}"))
    if command:
        voice.say(f"  {command}")  # in one line, to be copied
