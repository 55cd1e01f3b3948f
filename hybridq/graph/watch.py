"""Runs that take long are told, and runs that never end are ended: a model may hold an endless loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnxruntime as ort

SLOW, LIMIT = 20.0, 900.0  # seconds of one run after which it is told, and ended
LOOK = 1.0  # seconds between two looks
WORDS = "one sample has been running for {:.0f} s (the model may hold an endless loop; it is ended after {:.0f} s)"


@dataclass(eq=False)
class Run:
    """One run of a session: when it began, and the options through which it can be ended."""

    began: float
    options: ort.RunOptions
    told: bool = False
    ended: bool = False


@dataclass
class Watch:
    """Looks at all runs of the process now and then; ``tell`` gets the words for a person."""

    tell: Callable[[str], object] | None = None
    runs: list[Run] = field(default_factory=list)
    thread: threading.Thread | None = None

    @contextmanager
    def over(self) -> Iterator[Run]:
        """A run to pass the ``options`` of to ONNX Runtime; afterwards ``ended`` says whether it was ended."""
        one = Run(time.monotonic(), ort.RunOptions())
        self.runs.append(one)
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._look, daemon=True)
            self.thread.start()
        try:
            yield one
        finally:
            self.runs.remove(one)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK)
            for one in list(self.runs):
                seconds = time.monotonic() - one.began
                if seconds >= SLOW and not one.told:
                    one.told = True
                    if self.tell is not None:
                        self.tell(WORDS.format(seconds, LIMIT))
                if seconds >= LIMIT and not one.ended:
                    one.ended = one.options.terminate = True


WATCH = Watch()
