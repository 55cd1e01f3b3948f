"""Step 4: hand the result to another toolchain, and take choices and ranges from one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybridq import config
from hybridq.errors import ConfigError, Problem, StorageError
from hybridq.exchange.formats import FORMATS, named, recognised
from hybridq.exchange.records import Export, Options
from hybridq.exchange.taking import take
from hybridq.exchange.view import make_view
from hybridq.files.commit import commit
from hybridq.files.reading import exists, read_bytes
from hybridq.plan.plan import make_plan
from hybridq.steps.common import read_config, read_state
from hybridq.steps.editing import Edited, edit
from hybridq.storage.state import State

EXPORT = "export"  # the folder inside DIR where a format goes unless another place is given
MAX_FOREIGN = 200_000_000  # bytes


@dataclass(frozen=True)
class Step4Result:
    """What step4 wrote: the file, or the folder of several; what the format could not say, line by line."""

    path: Path
    files: tuple[Path, ...]
    losses: list[Problem]
    problems: list[Problem]


def step4(
    directory: Path | str,
    to: str,
    out: Path | str | None = None,
    *,
    only_io: bool = False,
    force: bool = False,
) -> Step4Result:
    """Export parameters and choices of ``directory`` in the format ``to`` (``hybridq.exchange.FORMATS``).

    ``out`` is a file, or a folder for formats of several files; without it they go to ``directory/export``. ``force``
    replaces what stands at ``out``. Raises ConfigError with every problem of the cfg, StorageError where ``out``
    exists; nothing is written then.
    """
    folder, form = Path(directory), named(to)
    state = read_state(folder, verify=True)
    found, problems = read_config(folder, state)
    plan = make_plan(state.model, state.calibrated, found, state.weights)
    export = form.write(make_view(state, plan, found), _options(state, only_io))
    target = Path(out) if out is not None else _default(folder, to, export)
    if out is not None and not force:
        _refuse_existing(target)
    return Step4Result(target, _write(target, export), export.losses, problems)


def _options(state: State, only_io: bool) -> Options:
    return Options(name=state.model.name, only_io=only_io)


def _default(folder: Path, to: str, export: Export) -> Path:
    names = list(export.files)
    return folder / EXPORT / to if len(names) > 1 else folder / EXPORT / to / names[0]


def _refuse_existing(target: Path) -> None:
    """Keep ``-o`` from replacing anything: a file, or a folder that holds something."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if exists(target):
        raise StorageError("exists already", path=str(target), hint="Give another -o, or --force to replace it.")


def _write(target: Path, export: Export) -> tuple[Path, ...]:
    """All files together; one alone is ``target`` itself unless that is a folder."""
    alone = len(export.files) == 1 and not target.is_dir()
    where = target.parent if alone else target
    paths = []
    with commit(where) as new:
        for name, content in export.files.items():
            path = target if alone else target / name
            made = new / path.relative_to(where)
            made.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                made.write_bytes(content)
            else:
                content(made)
            paths.append(path)
    return tuple(paths)


def import_file(
    directory: Path | str, file: Path | str, source_format: str | None = None, *, strict: bool = False
) -> tuple[Edited, list[Problem]]:
    """Take layer choices, ranges and parameters from another toolchain's file for the same model.

    ``source_format`` names the file's format; without it the text tells. Returns the edits and what could not be taken
    over, each with its line. Raises ConfigError, also where nothing can be mapped or, with ``strict``, anything was
    left; nothing is changed then.
    """
    source, left = Path(file), list[Problem]()
    theirs = _read(source)
    name = source_format or recognised(theirs, str(source))
    reader = named(name).read
    if reader is None:
        readable = ", ".join(n for n, f in FORMATS.items() if f.read is not None)
        raise ConfigError(f"'{name}' is written only", hint=f"What can be imported: {readable}.")

    def change(state: State, text: str, path: str) -> config.Change:
        wanted = reader(theirs, str(source), state.model, state.calibrated)
        found = take(wanted, state, text, path, str(source))
        left[:] = wanted.problems
        if strict and any(p.severity != "note" for p in left):
            raise ConfigError([*left, Problem("not all of it can be taken over, and --strict was given", str(source))])
        return found

    return edit(Path(directory), change), left


def _read(source: Path) -> str:
    if source.is_dir():
        raise ConfigError("this is a folder; give the file inside", path=str(source))
    return config.decode(read_bytes(source, ConfigError, limit=MAX_FOREIGN), str(source))
