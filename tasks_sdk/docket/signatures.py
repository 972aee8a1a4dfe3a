"""Signatures over stored bytes: whoever can write to Redis, and has no key, can write nothing that is loaded.

What is signed names what it is for (the call of which task under which key, the result of which call), so that it
cannot be moved to where it means something else.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Sequence

from docket.errors import Untrusted

SIGNED = b"s"
"""Then follow the nonce, the signature, and what is signed; `lua/_lines.lua` knows where the nonce is."""

_NONCE = 16
_SIGNATURE = 32
_BEGINS = 1 + _NONCE + _SIGNATURE


_FOUR_LENGTHS = struct.Struct(">4Q")
Signer = hmac.HMAC
"""Knows a key. Never updated itself, only its copies: that takes half as long as beginning with the key each time."""


def signer(key: bytes) -> Signer:
    return hmac.new(key, digestmod="sha256")


def fresh_nonce() -> bytes:
    return os.urandom(_NONCE)


def sign(by: Signer, nonce: bytes, what_for: Sequence[bytes], stored: bytes) -> bytes:
    return b"".join((SIGNED, nonce, _signature(by, nonce, what_for, stored), stored))


def verified(
    signers: Sequence[Signer], nonce: bytes | None, what_for: Sequence[bytes], sealed: bytes
) -> bytes:
    """What was signed for this. Untrusted otherwise. `nonce`: the one it must have been signed with."""
    if sealed[:1] != SIGNED:
        raise Untrusted("cannot be trusted: not signed, and this docket has signing keys")
    found, signature, stored = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE : _BEGINS], sealed[_BEGINS:]
    for each in signers:
        if hmac.compare_digest(signature, _signature(each, found, what_for, stored)):
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


def _signature(by: Signer, nonce: bytes, what_for: Sequence[bytes], stored: bytes) -> bytes:
    # Each part with its length: otherwise the end of one could be read as the beginning of the next.
    lengths = map(len, what_for)
    packed = (
        _FOUR_LENGTHS.pack(*lengths) if len(what_for) == 4 else struct.pack(f">{len(what_for)}Q", *lengths)
    )
    copy = by.copy()
    copy.update(b"".join((nonce, packed, *what_for, stored)))
    return copy.digest()
