"""`python -m workers.runtime.decode_recording PATH SECONDS`: `decode_audio` for what telephones and browsers record,
AAC in MP4 (.m4a) and Opus in WebM.

FFmpeg reads hundreds of formats, playlists and addresses among them. Here it is given an open file and the names of
one container and two decoders, and may open nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from workers.runtime.decode_audio import Refused, TooLong, check_shape, main, write

CODECS = {"aac", "opus", "libopus"}
CLOSED = {"protocol_whitelist": "none", "codec_whitelist": ",".join(sorted(CODECS))}
SLACK = 0.5  # seconds that a file may be shorter than its header says


def _decode(path: str, seconds: float) -> None:
    import av

    with open(path, "rb") as file:  # noqa: PTH123  (as in decode_audio)
        kind = "mov" if file.read(8)[4:] == b"ftyp" else "matroska"
        file.seek(0)
        with av.open(file, format=kind, options=CLOSED, metadata_errors="ignore") as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None or stream.codec_context.name not in CODECS:
                raise Refused("it is none of MP4 (AAC) and WebM (Opus).")
            rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
            check_shape(rate, channels)
            told = container.duration / av.time_base if container.duration else None
            if told is not None and told > seconds:
                raise TooLong(seconds, told)
            seen = write(_blocks(container.decode(stream), rate, channels), rate, channels, seconds)
            if told is not None and seen / rate < told - SLACK:
                raise Refused("it is cut short.")


def _blocks(frames: Iterator[Any], rate: int, channels: int) -> Iterator[Any]:
    """The samples [n, channels] of each frame, as floats."""
    for frame in frames:
        samples = frame.to_ndarray()
        if frame.format.name == "flt":  # packed: all channels in one row
            samples = samples.reshape(-1, channels).T
        if frame.format.name not in ("flt", "fltp") or frame.sample_rate != rate or len(samples) != channels:
            raise Refused("its rate or its channels change on the way.")
        yield samples.T


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), _decode))
