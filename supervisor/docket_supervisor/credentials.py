"""The URL of Redis and the signing keys from where systemd keeps secrets, if it keeps them for us."""

from __future__ import annotations

import os

from docket.settings import SIGNING_KEYS_VARIABLE, DocketSettings

URL_NAME = "docket-url"
SIGNING_KEYS_NAME = "docket-signing-keys"


def url() -> str:
    """The credential that the unit loads; without it the default. `--url` and DOCKET_URL win."""
    return _credential(URL_NAME) or DocketSettings.url


def signing_keys() -> str | None:
    """The credential that the unit loads; None: whatever DOCKET_SIGNING_KEYS says, which wins."""
    return None if SIGNING_KEYS_VARIABLE in os.environ else _credential(SIGNING_KEYS_NAME) or None


def _credential(name: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        with open(os.path.join(folder or os.devnull, name)) as credential:
            return credential.read().strip()
    except OSError:
        return ""
