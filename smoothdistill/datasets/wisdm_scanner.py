"""Numba scanner of WISDM 2019's one row form; it reads a plain file exactly or says that it cannot.

NOTE [fast path]: a row is `subject,LETTER,nanoseconds,x,y,z;` and a line feed. The scanner accepts
that and nothing else: a blank line, a space, CRLF, NaN, a number of more than 15 digits or an
exponent beyond 10^22 make it give up, and the strict reader (`delimited.py`) reads the file again
or names the faulty line. A number of at most 15 digits divided by a power of ten up to 10^22 is
the correctly rounded float64 (both are exact), so both readers agree bit for bit; a test holds it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, no_type_check

import numpy as np
from numba import config, njit, types
from numba.extending import intrinsic

import smoothdistill.numba_cache  # noqa: F401

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TAIL_BYTES", "PlainRows", "scan_rows"]

TAIL_BYTES = 32  # zero bytes that must follow the text: eight bytes are read at a time
_SHORTEST_ROW_BYTES = 12  # `,A,0,0,0,0;\n`, less the subject
_LONGEST_PREFIX_BYTES = 5
_LINE_FEED = 10
_PROBED_BYTES = 1 << 14
_FULL = -2

_POWERS_OF_TEN = np.array([10.0**exponent for exponent in range(23)])
_WHOLE_POWERS_OF_TEN = np.array([10**exponent for exponent in range(9)], dtype=np.uint64)
_ZERO, _ONE, _TWO, _SIX, _EIGHT = (np.uint64(number) for number in (0, 1, 2, 6, 8))
_TEN = np.uint64(10)
_DIGIT_ZEROS = np.uint64(0x3030303030303030)
_ABOVE_NINE = np.uint64(0x4646464646464646)
_HIGH_BITS = np.uint64(0x8080808080808080)
_EVEN_PAIRS = np.uint64(0x000000FF000000FF)
_EVEN_SCALE = np.uint64(0x000F424000000064)
_ODD_SCALE = np.uint64(0x0000271000000001)
_BYTE, _TWO_BYTES, _EITHER_CASE = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xDF)
_COMMA, _MINUS, _DOT, _CAPITAL_E = (np.uint64(ord(character)) for character in ",-.E")
_NOUGHT, _NINE = np.uint64(ord("0")), np.uint64(9)
_ROW_END = np.uint64(int.from_bytes(b";\n", "little"))
_SIGNS = np.array([1.0, -1.0])
_MOST_DIGITS, _LARGEST_POWER = np.uint64(15), np.uint64(22)


class PlainRows(NamedTuple):
    """One file's columns."""

    activities: NDArray[np.int64]
    seconds: NDArray[np.float64]
    signal: NDArray[np.float32]


@intrinsic
@no_type_check
def _trailing_zeros(typing_context, word):  # 64 for zero
    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return word(word), generate


@intrinsic
@no_type_check
def _eight_bytes(typing_context, address):  # the first character in the lowest byte
    def generate(context, builder, signature, arguments):
        word = context.get_value_type(types.uint64)
        pointer = builder.inttoptr(arguments[0], word.as_pointer())
        loaded = builder.load(pointer, align=1)
        if sys.byteorder == "big":
            return builder.bswap(loaded)
        return loaded

    return types.uint64(types.uint64), generate


@njit(error_model="numpy", nogil=True, cache=True)
@no_type_check
def _leading_digits(word):  # how many of the eight characters, from the first, are digits
    others = ((word + _ABOVE_NINE) | (word - _DIGIT_ZEROS) | word) & _HIGH_BITS
    return _trailing_zeros(others) >> np.uint64(3)


@njit(error_model="numpy", nogil=True, cache=True)
@no_type_check
def _value_of_digits(word, num_digits):  # 1 <= num_digits <= 8
    digits = (word - _DIGIT_ZEROS) << (_EIGHT * (_EIGHT - num_digits))
    digits = digits * _TEN + (digits >> _EIGHT)
    return (
        (digits & _EVEN_PAIRS) * _EVEN_SCALE
        + ((digits >> np.uint64(16)) & _EVEN_PAIRS) * _ODD_SCALE
    ) >> np.uint64(32)


@njit(error_model="numpy", nogil=True, cache=True)
@no_type_check
def _scan(address, end, prefix, prefix_mask, prefix_bytes, classes, activities, seconds, signal):
    """Fill the columns; return the number of rows, -1 where the text is not plain, -2 when full.

    The helpers take numbers, never arrays, whose references Numba would count at every call.
    Measured: 63 ns a row (54 bytes), bound by the number of instructions: looking the line feeds up
    first, so that rows overlap in the processor, does not pay.
    """
    powers = _POWERS_OF_TEN
    whole_powers = _WHOLE_POWERS_OF_TEN
    position = address
    first_time = np.int64(0)
    row = 0
    while position < end:
        if row == seconds.size:
            return -2
        if (_eight_bytes(position) & prefix_mask) != prefix:
            return -1
        position += prefix_bytes
        activity = classes[_eight_bytes(position - _TWO) & _BYTE]
        if activity < 0:
            return -1
        activities[row] = activity

        word = _eight_bytes(position)
        num_digits = _leading_digits(word)
        if num_digits == _ZERO:
            return -1
        whole = _value_of_digits(word, num_digits)
        position += num_digits
        word = _eight_bytes(position)
        if num_digits == _EIGHT:
            num_digits = _leading_digits(word)
            if num_digits > _ZERO:
                whole = whole * whole_powers[num_digits] + _value_of_digits(word, num_digits)
                position += num_digits
            word = _eight_bytes(position)
            if num_digits == _EIGHT:  # nanoseconds of more than 16 digits: two more may follow
                while (word & _BYTE) - _NOUGHT <= _NINE:
                    whole = whole * _TEN + (word & _BYTE) - _NOUGHT
                    num_digits += _ONE
                    if num_digits > _TEN:
                        return -1
                    position += _ONE
                    word = word >> _EIGHT
        if word & _BYTE != _COMMA:
            return -1
        time = np.int64(whole)
        if row == 0:
            first_time = time
        seconds[row] = (time - first_time) / 1e9

        for axis in range(3):
            word = word >> _EIGHT  # past the comma
            is_negative = np.uint64((word & _BYTE) == _MINUS)
            position += _ONE + is_negative
            word = _eight_bytes(position)
            num_whole = _leading_digits(word)
            if num_whole - _ONE > _SIX:  # none, or eight and more
                return -1
            mantissa = _value_of_digits(word, num_whole)
            position += num_whole
            num_decimals = _ZERO
            if (word >> (num_whole * _EIGHT)) & _BYTE == _DOT:
                position += _ONE
                word = _eight_bytes(position)
                num_decimals = _leading_digits(word)
                if num_decimals == _ZERO:
                    return -1
                mantissa = mantissa * whole_powers[num_decimals]
                mantissa += _value_of_digits(word, num_decimals)
                position += num_decimals
                if num_decimals == _EIGHT:
                    word = _eight_bytes(position)
                    while (word & _BYTE) - _NOUGHT <= _NINE:
                        mantissa = mantissa * _TEN + (word & _BYTE) - _NOUGHT
                        position += _ONE
                        num_decimals += _ONE
                        if num_whole + num_decimals > _MOST_DIGITS:
                            return -1
                        word = word >> _EIGHT
            value = np.float64(np.int64(mantissa))
            word = _eight_bytes(position)
            if word & _EITHER_CASE == _CAPITAL_E:
                word = word >> _EIGHT
                is_negative_power = word & _BYTE == _MINUS
                position += _ONE + np.uint64(is_negative_power)
                word = _eight_bytes(position)
                num_digits = _leading_digits(word)
                if num_digits - _ONE > _ONE:  # none, or three and more
                    return -1
                power = _value_of_digits(word, num_digits)
                position += num_digits
                word = _eight_bytes(position)
                if is_negative_power:
                    num_decimals += power
                elif power <= num_decimals:
                    num_decimals -= power
                else:
                    return -1
                if num_decimals > _LARGEST_POWER:
                    return -1
            value /= powers[num_decimals]
            signal[row, axis] = value * _SIGNS[is_negative]
            if axis < 2 and word & _BYTE != _COMMA:
                return -1
        if word & _TWO_BYTES != _ROW_END:
            return -1
        position += _TWO
        row += 1
    return row if position == end else -1


def scan_rows(
    text: NDArray[np.uint8], num_bytes: int, subject: bytes, classes: NDArray[np.int64]
) -> PlainRows | None:
    """Read a plain file at once, or give up.

    Args:
        text: The file's bytes, followed by at least `TAIL_BYTES` zeros.
        num_bytes: How many bytes of `text` are the file.
        subject: The number that every row must begin with, 1 to 5 characters.
        classes: Class index of each of the 256 characters, -1 where it is no activity.

    Returns:
        Activities, times in seconds from the first row and acceleration in m/s² [rows, 3], or None
        where the text is not plain (see NOTE [fast path]).
    """
    if getattr(config, "DISABLE_JIT", False) or not 1 <= len(subject) <= _LONGEST_PREFIX_BYTES:
        return None
    # the row's head, `1600,?,`: its bytes and a mask that leaves the letter out
    prefix = int.from_bytes(subject + b",\0,", "little")
    prefix_mask = int.from_bytes(b"\xff" * (len(subject) + 1) + b"\0\xff", "little")
    # Arrays fit the rows with little to spare: first by the mean of the first rows, then for sure.
    num_probed = min(num_bytes, _PROBED_BYTES)
    num_breaks = int(np.count_nonzero(text[:num_probed] == _LINE_FEED))
    likely_rows = int(num_bytes / max(num_probed, 1) * (num_breaks + 1) * 1.1) + 1
    most_rows = num_bytes // (_SHORTEST_ROW_BYTES + len(subject)) + 1
    kernel: Any = _scan
    for capacity in (min(likely_rows, most_rows), most_rows):
        activities = np.empty(capacity, dtype=np.int64)
        seconds = np.empty(capacity, dtype=np.float64)
        signal = np.empty((capacity, 3), dtype=np.float32)
        num_rows = int(
            kernel(
                np.uint64(text.ctypes.data),
                np.uint64(text.ctypes.data + num_bytes),
                np.uint64(prefix),
                np.uint64(prefix_mask),
                np.uint64(len(subject) + 3),
                classes,
                activities,
                seconds,
                signal,
            )
        )
        if num_rows != _FULL:
            break
    if num_rows < 1:
        return None
    return PlainRows(activities[:num_rows], seconds[:num_rows], signal[:num_rows])
