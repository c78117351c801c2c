"""LZF decompression, as PCD files of kind binary_compressed need it."""

from __future__ import annotations

from sas_ros.errors import SasError


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Decompress an LZF stream of known result size (bytes).

    The stream is a sequence of runs. A first byte below 32 announces that many plus one literal
    bytes. Any other is a copy from what has been written: its upper three bits plus 2 are the
    length (7 there: one more byte is added), its lower five bits and the last byte are the distance
    minus one.

    Raises:
        SasError: the stream is damaged or gives another size.
    """
    result = bytearray()
    place, end = 0, len(data)
    try:
        while place < end:
            control = data[place]
            place += 1
            if control < 32:
                result += data[place : place + control + 1]
                place += control + 1
                continue
            length = (control >> 5) + 2
            if length == 9:
                length += data[place]
                place += 1
            distance = ((control & 31) << 8) + data[place] + 1
            place += 1
            start = len(result) - distance
            if start < 0:
                raise SasError("its compressed data is damaged: a copy starts before the data.")
            if length <= distance:
                result += result[start : start + length]
            else:  # the copy runs into what it writes: the piece repeats
                piece = result[start:]
                result += (piece * (length // distance + 1))[:length]
            if len(result) > size:
                break
    except IndexError:
        raise SasError("its compressed data ends too early.") from None
    if len(result) != size:
        raise SasError(f"its compressed data gives not the {size} bytes that it announces.")
    return bytes(result)
