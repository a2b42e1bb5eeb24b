"""Label Studio's brush RLE: a mask as a list of bytes, and back, without a loop over pixels.

The stream, most significant bit first: 32 bits count of values (4 a pixel, RGBA interleaved), 5 bits word size - 1,
four times 4 bits run-length size - 1. Then tokens: 1 bit kind, 2 bits that pick the size, length - 1 in that size;
kind 1 is followed by one value, repeated; kind 0 by that many literal values. Zero bits fill the last byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

THRESHOLD = 128
"""Alpha from which a pixel belongs to a mask: more than half covered by an antialiased stroke. See ``decode_mask``."""

_SIZES = (3, 4, 8, 16)
_HEADER_BITS = 32 + 5 + 4 * 4
_LONGEST = 1 << 16
_BYTES_A_PIXEL = 14
"""No stream needs more: four values of a pixel, each as a token of its own with 16 bits for its length."""
MOST_RUNS = 2_000_000
"""So many runs take seconds to walk; a mask that is painted has thousands."""
MEMORY = 30
"""Bytes that decoding takes for each byte of a stream: each of its bits is looked at in bytes, three times."""


class RleError(ValueError):
    """A stream is not brush RLE, or not of the expected size."""


def encode(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[int]:
    """Encodes a mask.

    Args:
        mask: (H, W), bool, or uint8 alpha. All four values of a pixel become its alpha.

    Returns:
        The stream as byte values, 0-255.
    """
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8) or not mask.size:
        raise RleError(f"the mask is {mask.dtype} of shape {mask.shape}; expected bool or uint8 (H, W)")
    flat = np.ascontiguousarray(mask).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = 4 * np.diff(starts, append=flat.size)
    values = flat[starts] * np.uint8(255) if mask.dtype == np.bool_ else flat[starts]
    if lengths.max() > _LONGEST:  # a token holds at most 65,536 values
        pieces = -(-lengths // _LONGEST)
        values = np.repeat(values, pieces)
        last = np.cumsum(pieces) - 1
        rests = lengths - (pieces - 1) * _LONGEST
        lengths = np.full(values.size, _LONGEST)
        lengths[last] = rests
    pick = sum((lengths > 1 << size).astype(np.int64) for size in _SIZES[:3])
    size = np.array(_SIZES)[pick]
    tokens = ((4 | pick) << (size + 8)) | ((lengths - 1) << 8) | values
    sizes = int("".join(f"{size - 1:04b}" for size in _SIZES), 2)
    header, header_sizes = (4 * flat.size, 7 << 16 | sizes), (32, _HEADER_BITS - 32)
    encoded: list[int] = _packed(
        np.concatenate((header, tokens)), np.concatenate((header_sizes, 3 + size + 8))
    ).tolist()
    return encoded


def decode(rle: Sequence[int] | bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Decodes the alpha channel of a stream.

    Args:
        rle: The stream as byte values.
        height: Height of the image in pixels.
        width: Its width.

    Returns:
        (H, W) uint8 alpha: 0 where the interface paints nothing.

    Raises:
        RleError: If the stream is malformed or cut short, or is for another number of pixels.
    """
    data = as_bytes(rle)
    if len(data) * 8 < _HEADER_BITS:
        raise RleError(f"the RLE has {len(data)} bytes; expected a header of 7 at least")
    most = longest_of(height * width)
    if len(data) > most:
        raise RleError(f"the RLE has {len(data)} bytes; an image of {width}x{height} needs {most} at most")
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    count = int.from_bytes(data[:4], "big")
    if count != 4 * height * width:
        raise RleError(f"the RLE holds {count} values; an image of {width}x{height} has {4 * height * width}")
    word = _number(bits, 32, 5) + 1
    if word != 8:
        raise RleError(f"the RLE has words of {word} bits; expected 8")
    sizes = [_number(bits, 37 + 4 * i, 4) + 1 for i in range(4)]
    starts = _token_starts(bits, sizes)
    picks = 2 * bits[starts + 1] + bits[starts + 2]
    size_of = np.array(sizes)[picks]
    lengths: NDArray[np.int64] = np.zeros(starts.size, np.int64)
    for size in set(sizes):
        those = size_of == size
        lengths[those] = _numbers(bits, starts[those] + 3, size) + 1
    ends: NDArray[np.int64] = np.cumsum(lengths)
    stop = int(np.searchsorted(ends, count)) + 1  # what follows is filling
    if stop > ends.size or ends[stop - 1] != count:
        there = int(ends[min(stop, ends.size) - 1]) if ends.size else 0
        raise RleError(f"the RLE is malformed: its runs make {there} values, its header says {count}")
    starts, size_of, lengths, ends = (a[:stop] for a in (starts, size_of, lengths, ends))
    # Of the values before place x, x // 4 are alpha.
    first, alphas = (ends - lengths) // 4, ends // 4 - (ends - lengths) // 4
    places = starts + 3 + size_of
    literal = bits[starts] == 0
    values = _numbers(bits, places, 8).astype(np.uint8)
    out = np.repeat(values, alphas)
    if literal.any():
        many = alphas[literal]
        within = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
        begin = (ends - lengths)[literal]
        skipped = 4 * first[literal] + 3 - begin  # values before the token's first alpha
        at = np.repeat(places[literal] + 8 * skipped, many) + 32 * within
        out[np.repeat(first[literal], many) + within] = _numbers(bits, at, 8)
    return out.reshape(height, width)


def longest_of(pixels: int) -> int:
    """Returns how many bytes a stream of so many pixels may have; a longer one is refused."""
    return 4096 + _BYTES_A_PIXEL * pixels


def decode_mask(rle: Sequence[int] | bytes, height: int, width: int) -> NDArray[np.bool_]:
    """Decodes a stream as a mask (H, W), see ``from_alpha``.

    Raises:
        RleError: As ``decode`` does.
    """
    return from_alpha(decode(rle, height, width))


def from_alpha(alpha: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Makes a mask (H, W) of alpha (H, W): what the annotator sees, without the rims of antialiased strokes.

    The interface paints all that is not 0. A pixel belongs to the mask from half of the mask's greatest alpha on, and
    of ``THRESHOLD`` at most: a mask that was imported with an alpha of 100 all over is no rim. Nor is a faint place of
    one alpha, beside stronger ones: rims are ramps.
    """
    least = min(THRESHOLD, (int(alpha.max()) + 1) // 2)
    mask: NDArray[np.bool_] = alpha >= max(least, 1)
    if cv2.countNonZero(alpha) > cv2.countNonZero(mask.view(np.uint8)):
        faint = cv2.threshold(alpha, least - 1, 0, cv2.THRESH_TOZERO_INV)[1]
        square = np.ones((3, 3), np.uint8)
        lowest = cv2.erode(faint, square)
        if cv2.countNonZero(lowest):  # rims are thinner
            flat = lowest * (lowest == cv2.dilate(faint, square))
            mask |= (cv2.dilate(flat, square) == faint) & (faint > 0)
    return mask


def as_bytes(rle: object) -> bytes:
    """Returns a stream as bytes.

    Raises:
        RleError: If it is no list of byte values.
    """
    if not isinstance(rle, bytes | bytearray | list | tuple):
        raise RleError(f"the RLE is {type(rle).__name__}; expected a list of byte values")
    try:
        return bytes(rle)
    except (ValueError, TypeError) as error:
        raise RleError(f"the RLE is not a list of byte values, 0 to 255 ({error})") from error


def _token_starts(bits: NDArray[np.uint8], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Walks from token to token: the one loop, for a token's place depends on those before it.

    A run's size follows from its first three bits, which is tabulated for every place; literals are measured.
    """
    kinds = bits[:-2] * 4
    kinds += bits[1:-1] * 2
    kinds += bits[2:]
    steps = np.array([0, 0, 0, 0, *(3 + size + 8 for size in sizes)], np.uint8)[kinds].tobytes()
    end = bits.size
    last = end - 3
    starts = []
    at = _HEADER_BITS
    for _ in range(MOST_RUNS + 1):
        if at > last:
            break
        step = steps[at]
        if not step:
            size = sizes[int(kinds[at])]
            if at + 3 + size > end:
                break
            step = 3 + size + 8 * (_number(bits, at + 3, size) + 1)
        if at + step > end:
            break
        starts.append(at)
        at += step
    else:
        raise RleError(f"the RLE has more than {MOST_RUNS} runs; a painted mask has thousands")
    return np.array(starts, np.int64)


def _packed(numbers: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Writes numbers of up to 32 bits one after the other; zero bits fill the last byte.

    A number lies in at most two words of 32 bits. As no two of them share a bit, a word is the sum of its numbers'
    parts; below 2**53 floating point adds them exactly.
    """
    ends = np.cumsum(sizes)
    starts = ends - sizes
    shifted = numbers.astype(np.uint64) << (64 - (starts & 31) - sizes).astype(np.uint64)
    first, count = starts >> 5, int(ends[-1] >> 5) + 2
    words = np.bincount(first, shifted >> np.uint64(32), count)
    words += np.bincount(first + 1, shifted & np.uint64(0xFFFFFFFF), count)
    return words.astype(">u4").view(np.uint8)[: -(-int(ends[-1]) // 8)]


def _number(bits: NDArray[np.uint8], place: int, size: int) -> int:
    return int(bits[place : place + size].dot(1 << np.arange(size - 1, -1, -1)))


def _numbers(bits: NDArray[np.uint8], places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    numbers = np.zeros(places.size, np.int64)
    for i in range(size):
        numbers <<= 1
        numbers |= bits[places + i]
    return numbers
