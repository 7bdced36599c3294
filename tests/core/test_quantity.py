"""Exact quantities: canonical text, strict parsing, flooring to the exchange's grid."""

from __future__ import annotations

import decimal
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_sidecar.core import quantity
from p33_sidecar.core.quantity import floor_to_grid, number, parse, product, seconds, side_of, text, total

CANONICAL = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?\Z")
AMOUNTS = st.decimals(min_value=-10**9, max_value=10**9, places=8)
STEPS = st.builds(lambda n, e: Decimal(n).scaleb(e), st.integers(1, 50), st.integers(-8, 2))


@pytest.mark.parametrize(("value", "expected"), [
    ("0", "0"), ("-0.000", "0"), ("0E+9", "0"), ("1E-8", "0.00000001"), ("1E+9", "1000000000"), ("-0.0280", "-0.028"),
    ("100", "100"), ("100.0", "100"), ("0.028000000000000001", "0.028000000000000001"), ("10.10", "10.1"),
])
def test_canonical_text(value, expected):
    """No exponent, no trailing zeros, no plus, zero is 0, and not a digit lost."""
    assert text(Decimal(value)) == expected
    assert bytes(number(Decimal(value))) == expected.encode()


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-10**20, max_value=10**20, places=20) | AMOUNTS)
def test_canonical_text_round_trips(value):
    """Text of any quantity is canonical, reads back to the same value, and is its own text."""
    written = text(value)
    assert CANONICAL.match(written) and written != "-0"
    assert parse(written) == value and text(parse(written)) == written


@given(st.text("0123456789.eE+-", max_size=64))
def test_whatever_is_read_can_be_written_and_read_again(written):
    """parse accepts only what its own canonical text, too, gets through; else ValueError and nothing else."""
    try:
        value = parse(written)
    except ValueError:
        return
    assert parse(text(value)) == value and len(text(value)) <= quantity.MAX_DIGITS


@pytest.mark.parametrize("written", [
    "", " 1", "1 ", "1\n", "nan", "NaN", "sNaN", "inf", "-Infinity", "1_0", "0x10", "1e", ".", "-", "1,5", "1e+99",
    "1E-99", "١", "1" * 61, "1e999999999", "--1", "1.2.3",
])
def test_what_is_no_quantity_is_refused(written):
    """Only plain ASCII decimals of bounded size are numbers."""
    with pytest.raises(ValueError, match="not a decimal number|too many digits"):
        parse(written)


@given(qty=st.decimals(min_value=0, max_value=10**9, places=8), step=STEPS, anchor=STEPS | st.just(Decimal(0)))
def test_floor_to_grid_is_the_largest_point_not_above(qty, step, anchor):
    """On the exchange's grid, never above the quantity, and less than one step below it unless there is no point."""
    floored = floor_to_grid(qty, step=step, anchor=anchor)
    assert 0 <= floored <= qty
    if floored:
        assert (floored - anchor) % step == 0
    assert floored + step > qty or floored == 0 and qty < anchor % step


@pytest.mark.parametrize("step", ["0", "-0.001"])
def test_a_step_must_be_positive(step):
    """A grid without a step is no grid."""
    with pytest.raises(ValueError, match="step must be positive"):
        floor_to_grid(Decimal(1), step=Decimal(step))


@pytest.mark.parametrize("qty", ["NaN", "Infinity"])
def test_no_number_raises_instead_of_passing_through(qty):
    """What is no number of lots raises before anybody can compare it with a minimum."""
    with pytest.raises(ValueError, match="not a quantity"):
        floor_to_grid(Decimal(qty), step=Decimal("0.001"))


def test_arithmetic_drops_no_digit():
    """Sums and products of the longest accepted numbers are exact; what could not be is an error."""
    long, tiny = parse("1" * 60), parse("0." + "0" * 57 + "1")
    assert quantity.difference(total(long, tiny), long) == tiny
    assert text(product(long, tiny)) == "11." + "1" * 58
    with pytest.raises(decimal.Inexact):
        total(Decimal("1E+400"), Decimal("1E-400"))


def test_arithmetic_does_not_depend_on_the_ambient_context():
    """A caller's decimal context changes nothing."""
    with decimal.localcontext(decimal.Context(prec=3)):
        assert quantity.difference(Decimal("1.23456"), Decimal("1")) == Decimal("0.23456")
        assert quantity.scaled(Decimal("123456"), -2).as_tuple().digits == (1, 2, 3, 4, 5, 6)
        assert floor_to_grid(Decimal("0.123456"), step=Decimal("0.00001")) == Decimal("0.12345")


def test_seconds_and_sides():
    """Milliseconds are exact seconds; the side is the sign's name."""
    assert text(seconds(3_200)) == "3.2" and text(seconds(10_000)) == "10"
    assert [side_of(Decimal(n)) for n in ("0.1", "-0.1", "0")] == ["LONG", "SHORT", "NONE"]
