"""`python -m workers.runtime.decode_audio PATH SECONDS`: a stranger's sound → plain samples on stdout, in a process of
its own that may use little memory and time, so that a hostile file harms nothing but itself.

Stdout gets the rate in Hz as a 32-bit integer and then mono samples as 32-bit floats. The exit status is REFUSED with
one line on stderr that the client may see, or TOO_LONG with a second line that has the seconds which the header tells
(nothing if it does not), or anything else if the file cannot be read.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

MEMORY, CPU_SECONDS = 1 << 30, 30  # bytes, of processor time
MAX_SAMPLES = 64_000_000  # of all channels together: five minutes at 192 kHz mono or 96 kHz stereo
MAX_CHANNELS = 8
RATES = range(4_000, 192_001)  # Hz
BLOCK = 65_536  # frames decoded at a time
PCM = {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
KINDS = {  # libsndfile knows two dozen more, most of them for the machines of 1990
    "WAV": PCM,
    "WAVEX": PCM,
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
    "OGG": {"VORBIS", "OPUS"},
    "MP3": {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"},
}
UNKNOWN_FRAMES = (1 << 63) - 1  # what libsndfile says if the header does not tell
UNKNOWN_SIZES = {0, 0xFFFFFFFF}  # what programs that cannot go back write into a WAV's header
REFUSED, TOO_LONG = 3, 4


class Refused(Exception):
    """The file is read, and is not taken; the text is for the client."""

    status = REFUSED


class TooLong(Refused):
    """It lasts longer than is taken; `known` is how long, in seconds, by its header."""

    status = TOO_LONG

    def __init__(self, seconds: float, known: float | None = None) -> None:
        super().__init__(f"it is longer than {seconds:g} seconds.\n{'' if known is None else known}")


def main(path: str, seconds: float, decode: Callable[[str, float], None]) -> int:
    """0, or the status of a refusal; raises what the decoder raises."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    told = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the decoders warn there, in words that the file chooses
    try:
        decode(path, seconds)
    except Refused as reason:
        os.write(told, f"{reason}\n".encode())
        return reason.status
    return 0


def write(blocks: Iterator[Any], rate: int, channels: int, seconds: float) -> int:
    """Write blocks of samples [n, channels] as the parent expects them; the frames written. Raises Refused."""
    import numpy as np

    sys.stdout.buffer.write(struct.pack("<I", rate))
    most, seen = min(int(seconds * rate), MAX_SAMPLES // channels), 0
    for block in blocks:
        seen += len(block)
        if seen > most:
            raise TooLong(seconds)
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise Refused("it has samples that are no numbers.")
        sys.stdout.buffer.write(mono.tobytes())
    if not seen:
        raise Refused("it holds no sound.")
    return seen


def check_shape(rate: int, channels: int) -> None:
    """Raise Refused for a rate or channels that nobody has."""
    if channels > MAX_CHANNELS:
        raise Refused(f"it has more than {MAX_CHANNELS} channels.")
    if rate not in RATES:
        raise Refused(f"its rate is not between {RATES[0]} and {RATES[-1]} Hz.")


def _decode(path: str, seconds: float) -> None:
    import soundfile

    class Forward(soundfile.SoundFile):
        """Read once from the beginning to the end: seeking after each block is slow, and fails at a broken end."""

        def seekable(self) -> bool:
            return False

    with Forward(path) as sound:  # reads the header only
        _check_header(sound, path, seconds)
        seen = write(_blocks(sound), sound.samplerate, sound.channels, seconds)
        if sound.format == "FLAC" and sound.frames not in (seen, UNKNOWN_FRAMES):
            raise Refused("it is cut short.")


def _blocks(sound: Any) -> Iterator[Any]:
    while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
        yield block


def _check_header(sound: Any, path: str, seconds: float) -> None:
    if sound.subtype not in KINDS.get(sound.format, ()):
        raise Refused("it is none of WAV (PCM), FLAC, Ogg (Vorbis, Opus) and MP3.")
    check_shape(sound.samplerate, sound.channels)
    if sound.frames != UNKNOWN_FRAMES:
        if sound.frames > seconds * sound.samplerate:
            raise TooLong(seconds, sound.frames / sound.samplerate)
        if sound.frames * sound.channels > MAX_SAMPLES:
            raise Refused(f"it has more than {MAX_SAMPLES} samples.")
    if sound.format in ("WAV", "WAVEX") and _is_cut(path):
        raise Refused("it is cut short.")


def _is_cut(path: str) -> bool:
    """Whether a WAV's samples should go on beyond its end: libsndfile takes what there is and says nothing."""
    with open(path, "rb") as file:  # noqa: PTH123  (pathlib would be one more import under the limits)
        size = file.seek(0, os.SEEK_END)
        place = 12  # behind "RIFF", its size, "WAVE"
        while place + 8 <= size:
            file.seek(place)
            name, length = struct.unpack("<4sI", file.read(8))
            if name == b"data":
                return length not in UNKNOWN_SIZES and place + 8 + length > size
            place += 8 + length + length % 2
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), _decode))
