"""``upgrade``: a folder of an earlier format becomes one of today's; nothing is measured anew."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hybridq.files.commit import commit
from hybridq.files.reading import exists
from hybridq.steps.common import RESULTS, SCHEMAS, read_config, read_state
from hybridq.steps.step1 import CFG_SCHEMA
from hybridq.storage import state as storage


@dataclass(frozen=True)
class Upgraded:
    """What became of a folder: nothing where it was of today's format already.

    ``void`` are the results that were removed, to be made again by step2 and step3; ``edits`` the edits that its cfg
    still holds.
    """

    directory: Path
    changed: bool
    void: tuple[str, ...]
    edits: int


def upgrade(directory: Path | str) -> Upgraded:
    """Write ``model.json`` anew in today's format; measurements, choices and the cfg stay as they are.

    Raises StorageError where the folder is damaged or of no format that hybridq ever wrote, ConfigError where its cfg
    would not be valid today; nothing is changed then.
    """
    folder = Path(directory)
    earlier = storage.read_earlier(folder)
    if earlier is None:
        state = read_state(folder)
        return Upgraded(folder, False, (), len(read_config(folder, state)[0].edits))
    edits = len(read_config(folder, earlier)[0].edits)
    void = tuple(name for name in RESULTS if exists(folder / name))
    with commit(folder, remove=RESULTS) as new:
        storage.write_state(new, earlier)
        shutil.copyfile(SCHEMAS / CFG_SCHEMA, new / CFG_SCHEMA)
    return Upgraded(folder, True, void, edits)
