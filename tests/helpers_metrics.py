"""The figures of one pair of arrays, by the sums over samples that the package keeps."""

from __future__ import annotations

from hybridq.quant.metrics import Array, Damage, Largest, Parts, Slice, SliceDamage


def measure(reference: Array, x: Array) -> Damage:
    """Every whole-tensor figure of one pair."""
    damage = Damage()
    damage.add(reference, x)
    return damage


def largest_error(reference: Array, x: Array) -> Largest:
    """The largest ``|reference - x|`` and its index (the first one among equals)."""
    found = measure(reference, x).largest
    return Largest(found.error, found.at[1:])


def sliced(reference: Array, x: Array, parts: Parts | None = None) -> SliceDamage:
    """One pair, cut into slices."""
    damage = SliceDamage(parts)
    damage.add(reference, x)
    return damage


def worst_slice(reference: Array, x: Array, parts: Parts | None = None) -> Slice:
    """The slice with the least SQNR."""
    return sliced(reference, x, parts).worst()
