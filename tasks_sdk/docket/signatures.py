"""Signatures over stored bytes: whoever can write to Redis, and has no key, can write nothing that is loaded.

What is signed names what it is for (the call of which task under which key, the result of which call), so that it
cannot be moved to where it means something else.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

from docket.errors import Untrusted

SIGNED = b"s"
"""Then follow the nonce, the signature, and what is signed; `lua/_lines.lua` knows where the nonce is."""

_NONCE = 16
_SIGNATURE = 32
_BEGINS = 1 + _NONCE + _SIGNATURE


def fresh_nonce() -> bytes:
    return os.urandom(_NONCE)


def sign(key: bytes, nonce: bytes, what_for: Sequence[bytes], stored: bytes) -> bytes:
    return b"".join((SIGNED, nonce, _signature(key, nonce, what_for, stored), stored))


def verified(keys: Sequence[bytes], nonce: bytes | None, what_for: Sequence[bytes], sealed: bytes) -> bytes:
    """What was signed for this. Untrusted otherwise. `nonce`: the one it must have been signed with."""
    if sealed[:1] != SIGNED:
        raise Untrusted("cannot be trusted: not signed, and this docket has signing keys")
    found, signature, stored = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE : _BEGINS], sealed[_BEGINS:]
    for key in keys:
        if hmac.compare_digest(signature, _signature(key, found, what_for, stored)):
            if nonce != found:
                raise Untrusted("cannot be trusted: signed for another call of this key")
            return stored
    raise Untrusted(
        "cannot be trusted: none of the signing keys here has signed this (altered, moved, or signed by somebody else)"
    )


def without(sealed: bytes) -> bytes:
    """What was signed, unverified."""
    return sealed[_BEGINS:] if sealed[:1] == SIGNED else sealed


def nonce_of(sealed: bytes) -> bytes | None:
    return sealed[1 : 1 + _NONCE] if sealed[:1] == SIGNED else None


def _signature(key: bytes, nonce: bytes, what_for: Sequence[bytes], stored: bytes) -> bytes:
    # Each part with its length: otherwise the end of one could be read as the beginning of the next.
    lengths = b"".join(len(part).to_bytes(8, "big") for part in what_for)
    return hmac.digest(key, b"".join((nonce, lengths, *what_for, stored)), "sha256")
