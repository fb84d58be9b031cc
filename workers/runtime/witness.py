"""What this process can tell of the attempt, or of the batch, that it runs."""

from __future__ import annotations

from shared.jobs.records import Seen
from workers.runtime import memory_peak
from workers.runtime.devices import forget_peak, peak_bytes
from workers.runtime.last_words import LastWords


class Witness:
    """One a process; without `words` it remembers no line of the log."""

    def __init__(self, device: str, words: LastWords | None) -> None:
        self._device, self._words = device, words

    def begin(self) -> None:
        """What is told from now on is of the attempt that begins."""
        memory_peak.forget()
        forget_peak(self._device)
        if self._words is not None:  # last, because the parent takes it for the sign that the peak is a new one
            self._words.begin(self._device)

    def seen(self, job: str | None = None) -> Seen:
        """Until now; with the lines that were said of `job`, which an attempt that went well does not need."""
        lines = self._words.of(job) if self._words is not None and job is not None else ()
        return Seen(self._device, memory_peak.peak(), peak_bytes(self._device), lines=lines)
