"""eSpeak NG through ctypes: text in, 16-bit mono samples out; the voice of the house and the teacher of its ear.

The library is one for the whole process and keeps its settings between calls, so one lock guards it and every call
sets all that it depends on.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

RATE = 22_050  # Hz, of every voice here
WORDS_PER_MINUTE = (80, 450)
PITCH = (0, 99)
VOLUME = (0, 200)  # per cent

_SYNCHRONOUS, _DONT_EXIT = 0x02, 0x8000
_UTF8, _END_PAUSE = 0x01, 0x1000
_IPA = 0x02
_OK = 0
_SPEED, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_VARIANT = b"variant"  # the language that all variants have
_GENDERS = {1: "male", 2: "female"}
_BUFFER = 200  # milliseconds a callback
_LOCK = threading.Lock()
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechError(Exception):
    """eSpeak could not do it."""


class UnknownVoice(SpeechError):
    """No such voice, or no such variant of it."""

    def __init__(self, voice: str):
        super().__init__(f"eSpeak has no voice {voice!r}")
        self.voice = voice


class SpeechStopped(SpeechError):
    """`stopped` said so."""


@dataclass(frozen=True, slots=True)
class Voice:
    """`name` is what `speak` takes; a variant's name (`+f3`) is put behind any voice's: `en-gb+f3`."""

    name: str
    title: str
    language: str
    gender: str | None  # "male" or "female" where the voice says


class _VoiceRecord(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),  # a priority byte, then the code
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def speak(
    text: str,
    voice: str = "en-us",
    *,
    words_per_minute: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
    volume: int = 100,
    stopped: Callable[[], bool] | None = None,
) -> tuple[NDArray[np.int16], int]:
    """What `voice` says: mono samples [N] and their rate in Hz. Said twice, it differs a little.

    `stopped` is asked about five times a second of speech. Raises UnknownVoice, SpeechStopped, SpeechError, and
    ValueError for a number out of its range.
    """
    _within("words_per_minute", words_per_minute, WORDS_PER_MINUTE)
    _within("pitch", pitch, PITCH)
    _within("pitch_range", pitch_range, PITCH)
    _within("volume", volume, VOLUME)
    parts: list[bytes] = []
    ended_early = False

    def receive(samples: ctypes._Pointer[ctypes.c_short], count: int, events: int) -> int:
        nonlocal ended_early
        if samples and count > 0:
            parts.append(ctypes.string_at(samples, count * 2))
        ended_early = stopped is not None and stopped()
        return int(ended_early)

    receiver = _CALLBACK(receive)
    with _LOCK:
        library = _library()
        _choose(library, voice)
        for parameter, value in ((_SPEED, words_per_minute), (_VOLUME, volume), (_PITCH, pitch), (_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_SetSynthCallback(receiver)
        said = text.replace("\0", " ").encode() + b"\0"
        status = library.espeak_Synth(said, len(said), 0, 1, 0, _UTF8 | _END_PAUSE, None, None)
        library.espeak_Synchronize()
    if ended_early:
        raise SpeechStopped("the speech was stopped")
    if status != _OK:
        raise SpeechError(f"eSpeak ended with status {status}")
    return np.frombuffer(b"".join(parts), np.int16), RATE


def begin_anew(seed: int) -> None:
    """Forget what earlier calls left behind, such as phases and the place in the noise: the same calls then make the
    same samples. Nothing of the library resets that, so it is unloaded and loaded again (a few milliseconds).
    """
    with _LOCK:
        old = _library()
        old.espeak_Terminate()
        _library.cache_clear()
        _ctypes.dlclose(old._handle)
        _library().espeak_ng_SetRandSeed(ctypes.c_long(seed))
        ctypes.CDLL(None).srand(ctypes.c_uint(seed % 2**32))


def phonemes(text: str, voice: str = "en-us") -> str:
    """How `voice` says it, in the International Phonetic Alphabet, clauses parted by spaces. Raises UnknownVoice."""
    clauses = []
    with _LOCK:
        library = _library()
        _choose(library, voice)
        said = ctypes.create_string_buffer(text.encode())
        rest = ctypes.cast(said, ctypes.c_void_p)  # moved on by a clause a call, then null
        while rest.value:
            clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode())
    return " ".join(clauses)


@cache
def voices() -> tuple[Voice, ...]:
    """Every voice, by language."""
    return tuple(sorted(_list(None), key=lambda voice: (voice.language, voice.name)))


@cache
def variants() -> tuple[Voice, ...]:
    """What may be put behind a voice's name: other throats for the same language."""
    return tuple(sorted(_list(_VARIANT), key=lambda voice: voice.name))


def _within(name: str, value: int, bounds: tuple[int, int]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise ValueError(f"{name} must be {bounds[0]} to {bounds[1]}")


def _choose(library: ctypes.CDLL, voice: str) -> None:
    """eSpeak itself takes an unknown variant in silence, and knows some voices by their file only."""
    base, plus, variant = voice.partition("+")
    files = _files()
    if not base or base not in files or plus + variant not in files:
        raise UnknownVoice(voice)
    status = library.espeak_SetVoiceByName((files[base] + plus + variant).encode())
    if status != _OK:
        raise SpeechError(f"eSpeak could not load {voice!r}: status {status}")


def _list(language: bytes | None) -> list[Voice]:
    with _LOCK:
        return [voice for voice, _ in _listed(_library(), language)]


@cache
def _files() -> dict[str, str]:
    """The file of each voice and variant, by name; no variant is one, too."""
    found = {v.name: file for language in (None, _VARIANT) for v, file in _listed(_library(), language)}
    return found | {"": ""}


def _listed(library: ctypes.CDLL, language: bytes | None) -> list[tuple[Voice, str]]:
    wanted = ctypes.byref(_VoiceRecord(languages=language)) if language else None
    found = library.espeak_ListVoices(wanted)
    listed: list[tuple[Voice, str]] = []
    while found[len(listed)]:
        record = found[len(listed)].contents
        code, file = record.languages[1:].decode(), record.identifier.decode()
        name = "+" + file.rpartition("/")[2] if language else code
        listed.append((Voice(name, record.name.decode(), code, _GENDERS.get(record.gender)), file))
    return listed


@cache
def _library() -> ctypes.CDLL:
    """Loaded and started once; it lives as long as the process."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRecord))
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    rate = library.espeak_Initialize(_SYNCHRONOUS, _BUFFER, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
    if rate != RATE:
        raise SpeechError(f"eSpeak could not start: {rate}")
    return library
