"""Prints the systemd unit that matches the options given, each line with its reason."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta

from docket.durations import describe
from docket_supervisor.codes import ExitCode
from docket_supervisor.settings import SupervisorSettings

_SAFE = re.compile(r"[\w@%+=:,./-]+")
_MARGIN = timedelta(seconds=5)
"""Beyond what a stop may take by our own reckoning: the scheduler's and the disk's share."""
_WATCHDOG = timedelta(seconds=30)


def unit(settings: SupervisorSettings, options: Sequence[str]) -> str:
    """`options` are words of the command line. The URL is never among them, for everybody can read units."""
    name = re.sub(r"[^\w.-]", "-", settings.docket.name)
    stop = settings.stop_timeout or _whole(settings.longest_stop + _MARGIN)
    control = f"%t/docket-{name}/control.sock"
    program = _program()
    patience, grace = describe(settings.drain_timeout), describe(settings.grace)
    usage, imports = ExitCode.USAGE.value, ExitCode.IMPORT.value
    start = _command([*program, *_escaped(options), "--control-socket", control])
    return f"""\
# docket-{name}.service: put it into /etc/systemd/system, and the URL of Redis (one line, mode 0600) into
# /etc/docket/{name}.url

[Unit]
Description=docket {_escape(settings.docket.name)}: background tasks
# Redis may be on another machine. If it is away the service waits for it; it need not be ordered after it.
Wants=network-online.target
After=network-online.target
# More than 5 failures in 5 minutes are no accident any more.
StartLimitIntervalSec=5min
StartLimitBurst=5

[Service]
# Started when the workers are ready, not when the program runs. Only the supervisor speaks to systemd: the variable
# that it needs for that is not passed on to tasks.
Type=notify
NotifyAccess=main
# A user that may read the application and nothing else: useradd --system docket
User=docket
WorkingDirectory={_escape(os.path.abspath(settings.app_dir))}
ExecStart={start}
# A rolling restart; systemctl reload returns when it is over, and fails when it was undone.
ExecReload={_command([*program, "reload", "--wait", "--control-socket", control])}
# For the control socket: docket-supervise status --control-socket /run/docket-{name}/control.sock
RuntimeDirectory=docket-{name}
# A password in a URL is not for everybody who can read units, environments or command lines.
LoadCredential=docket-url:/etc/docket/{name}.url
# TERM goes to the supervisor alone, which drains the workers; what is left at the end is killed.
KillMode=mixed
# A worker's patience ({patience}) < the supervisor's ({grace}) < systemd's: it does not start if that is not so.
TimeoutStopSec={_seconds(stop)}
Environment=DOCKET_STOP_TIMEOUT={_seconds(stop)}s
# --boot-timeout ends a start that hangs; while workers are booting the supervisor asks for more time.
TimeoutStartSec={_seconds(settings.boot_timeout + _MARGIN)}
# Fed by the supervisor's own loop, and only while no worker is past a limit without anything being done about it.
WatchdogSec={_seconds(_WATCHDOG)}
# Not after {usage} (configuration) and {imports} (the task modules cannot be imported): they fail the same way again.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus={usage} {imports}
# Work that was handed back at the deadline is not lost: a stop that ends so has not failed.
SuccessExitStatus={ExitCode.HANDED_BACK.value}
# A task that needs too much memory costs its own worker; the supervisor tells why it died and forks another.
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
"""


def _program() -> list[str]:
    """How we were started, for somebody who stands in another folder."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "docket-supervise":
        return [script]
    return [sys.executable, "-m", "docket_supervisor"]


def _command(words: Iterable[str]) -> str:
    """One option a line."""
    lines: list[str] = []
    for word in words:
        if word.startswith("--") or not lines:
            lines.append(_quoted(word))
        else:
            lines[-1] += " " + _quoted(word)
    return " \\\n    ".join(lines)


def _escaped(words: Iterable[str]) -> list[str]:
    return [_escape(word) for word in words]


def _escape(text: str) -> str:
    """systemd replaces %x and $x."""
    return text.replace("%", "%%").replace("$", "$$")


def _quoted(word: str) -> str:
    if _SAFE.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=math.ceil(duration.total_seconds()))


def _seconds(duration: timedelta) -> int:
    return math.ceil(duration.total_seconds())
