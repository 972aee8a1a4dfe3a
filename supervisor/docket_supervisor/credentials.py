"""The URL of Redis from where systemd keeps secrets, if it keeps one for us."""

from __future__ import annotations

import os

from docket.settings import DocketSettings

NAME = "docket-url"


def url() -> str:
    """The credential that the unit loads; without it the default. `--url` and DOCKET_URL win."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        with open(os.path.join(folder or os.devnull, NAME)) as credential:
            return credential.read().strip() or DocketSettings.url
    except OSError:
        return DocketSettings.url
