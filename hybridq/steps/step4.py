"""Step 4: hand the result to another toolchain, and take choices and ranges from one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hybridq import config
from hybridq.dataset import Preprocessing, input_specs
from hybridq.dataset.spec import InputSpec
from hybridq.errors import ConfigError, Problem, StorageError
from hybridq.exchange.formats import FORMATS, Format, named, recognised
from hybridq.exchange.records import Export, ExportOptions, put
from hybridq.exchange.taking import take
from hybridq.exchange.view import make_view
from hybridq.files import limits
from hybridq.files.commit import commit
from hybridq.files.place import need_folder
from hybridq.files.reading import exists, read_bytes, said
from hybridq.plan.plan import make_plan
from hybridq.steps.common import calibration_samples, read_config, read_state
from hybridq.steps.editing import Edited, edit
from hybridq.storage.state import State

EXPORT = "export"  # the folder inside DIR where a format goes unless another place is given
SAMPLES = 20  # that go along, for a toolchain that calibrates anew


@dataclass(frozen=True)
class Step4Result:
    """What step4 wrote: the file, or the folder of several; what the format could not say, line by line.

    ``next`` are the commands that use it.
    """

    path: Path
    files: tuple[Path, ...]
    losses: list[Problem]
    problems: list[Problem]
    next: tuple[str, ...] = ()


def step4(
    directory: Path | str,
    to: str,
    out: Path | str | None = None,
    *,
    only_io: bool = False,
    force: bool = False,
    strict: bool = False,
) -> Step4Result:
    """Export parameters and choices of ``directory`` in the format ``to`` (``hybridq.exchange.FORMATS``).

    ``out`` is a file, or a folder for formats of several files; without it they go to ``directory/export``. ``force``
    replaces what stands at ``out``. Raises ConfigError with every problem of the cfg or, with ``strict``, with all that
    the format cannot say, StorageError where ``out`` exists; nothing is written then.
    """
    folder, form = Path(directory), named(to)
    need_folder(Path(out).parent if out is not None else folder)
    if out is not None and not force:
        _refuse_existing(Path(out))
    state = read_state(folder, verify=True)
    found, problems = read_config(folder, state)
    plan = make_plan(state.model, state.calibrated, found, state.weights)
    export = form.write(make_view(state, plan, found), _options(folder, state, form, only_io))
    if strict and any(p.severity != "note" for p in export.losses):
        said_so = Problem(f"not all of it can be expressed in {to}, and that was to be an error", path=str(folder))
        raise ConfigError([*export.losses, said_so])
    path, files = _write_inside(folder, to, export) if out is None else (Path(out), _write_apart(Path(out), export))
    return Step4Result(path, files, export.losses, problems, _next(form, folder, path))


def _next(form: Format, folder: Path, path: Path) -> tuple[str, ...]:
    """The commands that use what was written, with its place in them."""
    words = {"folder": shlex.quote(str(folder)), "path": shlex.quote(str(path)), "text": repr(str(path))}
    return tuple(line.format(**words) for line in form.next)


def _options(folder: Path, state: State, form: Format, only_io: bool) -> ExportOptions:
    plain = ExportOptions(name=state.model.name, only_io=only_io)
    if not form.samples:
        return plain
    specs = input_specs(state.model)
    given = Preprocessing.from_json(state.preprocessing)
    scaled = any(not given.keeps_values(s.name) for s in specs)
    means = tuple(_channels(given.mean_of(s.name), s) for s in specs) if scaled else ()
    stds = tuple(_channels(given.std_of(s.name), s) for s in specs) if scaled else ()
    return replace(
        plain,
        samples=calibration_samples(folder, state, replace(given, mean={}, std={}), SAMPLES),
        mean=means,
        std=stds,
    )


def _channels(values: Sequence[float], spec: InputSpec) -> tuple[float, ...]:
    """One number a channel."""
    axis = spec.channel_axis
    count = spec.shape[axis] if axis is not None and spec.shape is not None else 1
    return tuple(values) if len(values) > 1 else (float(values[0]),) * (count if isinstance(count, int) else 1)


def _refuse_existing(target: Path) -> None:
    """Keep ``-o`` from replacing anything: a file, or a folder that holds something."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if exists(target):
        raise StorageError("exists already", path=str(target), hint="Give another -o, or --force to replace it.")


def _write_inside(folder: Path, to: str, export: Export) -> tuple[Path, tuple[Path, ...]]:
    """All files together to ``export/FORMAT`` of a folder; the file, or the folder of several."""
    place = Path(EXPORT, to)
    with commit(folder) as new:
        for name, content in export.files.items():
            put(new / place / name, content)
    paths = tuple(folder / place / name for name in export.files)
    return (paths[0] if len(paths) == 1 else folder / place), paths


def _write_apart(target: Path, export: Export) -> tuple[Path, ...]:
    """All files where a person wants them, each whole; one alone is ``target`` itself unless that is a folder."""
    alone = len(export.files) == 1 and not target.is_dir()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=".hybridq-") as held:
            pairs = {Path(held, name): target if alone else target / name for name in export.files}
            for made, content in zip(pairs, export.files.values(), strict=True):
                put(made, content)
            for made, path in pairs.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                made.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write here: {said(error)}", path=str(error.filename or target)) from error
    return tuple(pairs.values())


def import_file(
    directory: Path | str, file: Path | str, source: str | None = None, *, strict: bool = False
) -> tuple[Edited, list[Problem]]:
    """Take layer choices, ranges and parameters from another toolchain's file for the same model.

    ``source`` names the file's format; without it the text tells. Returns the edits and what could not be taken
    over, each with its line. Raises ConfigError, also where nothing can be mapped or, with ``strict``, anything was
    left; nothing is changed then.
    """
    path_of, left = Path(file), list[Problem]()
    theirs = _read(path_of)
    name = source or recognised(theirs, str(path_of))
    reader = named(name).read
    if reader is None:
        readable = ", ".join(n for n, f in FORMATS.items() if f.read is not None)
        raise ConfigError(f"'{name}' is written only", hint=f"What can be imported: {readable}.")

    def change(state: State, text: str, path: str) -> config.Change:
        wanted = reader(theirs, str(path_of), state.model, state.calibrated)
        found = take(wanted, state, text, path, str(path_of))
        left[:] = wanted.problems
        if strict and any(p.severity != "note" for p in left):
            raise ConfigError([*left, Problem("not all of it can be taken over, and --strict was given", str(path_of))])
        return found

    return edit(Path(directory), change), left


def _read(source: Path) -> str:
    if source.is_dir():
        raise ConfigError("this is a folder; give the file inside", path=str(source))
    return config.decode(read_bytes(source, ConfigError, limit=limits.FOREIGN), str(source), limits.FOREIGN)
