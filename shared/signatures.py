"""What a file is by how it begins: its name and its header are only claims."""

from __future__ import annotations

from collections.abc import Collection

HEAD = 16  # bytes that tell


def _is_mpeg_audio(head: bytes) -> bool:
    """An ID3 tag, or a frame of layer I, II or III: eleven bits of ones, then a version and a layer that exist."""
    if head.startswith(b"ID3"):
        return True
    return len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0 and head[1] & 0x18 != 0x08 and head[1] & 0x06 != 0


def _is_safetensors(head: bytes) -> bool:
    """The length of a JSON header, and that header's beginning."""
    return len(head) > 8 and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000 and head[8:9] == b"{"


SIGNATURES = {
    "image/png": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda head: head.startswith(b"\xff\xd8\xff"),
    "image/webp": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    "audio/wav": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE",
    "audio/flac": lambda head: head.startswith(b"fLaC"),
    "audio/ogg": lambda head: head.startswith(b"OggS"),
    "audio/mpeg": _is_mpeg_audio,
    "audio/mp4": lambda head: head[4:8] == b"ftyp",
    "audio/webm": lambda head: head.startswith(b"\x1a\x45\xdf\xa3"),
    "application/vnd.safetensors": _is_safetensors,
}
AUDIO_TYPES = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg")  # what libsndfile reads
RECORDED_TYPES = ("audio/mp4", "audio/webm")  # what telephones and browsers record
RECORDING_TYPES = (*AUDIO_TYPES, *RECORDED_TYPES)  # what `workers.runtime.audio` reads


def media_type_of(head: bytes, allowed: Collection[str]) -> str | None:
    """The one of the allowed media types whose files begin so, or None."""
    return next((name for name in allowed if SIGNATURES[name](head)), None)
