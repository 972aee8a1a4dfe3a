"""`docket strike`, `docket restore` and `docket strikes`: which calls must not run, for the moment."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from docket import clock
from docket.cli import options, printing, values
from docket.cli.completion import of_tasks
from docket.cli.session import EXIT_CODES, USAGE, leave, opened, remark_if_unused
from docket.cli.values import parse_pair, parse_value
from docket.strikelist import Operator, Strike, StrikeInstruction

EPILOG = f"""\b
{values.EPILOG}

\b
{EXIT_CODES}"""

_COLUMNS = ("Function", "Parameter", "Operator", "Value", "Effect", "Since")

Function = Annotated[
    str,
    typer.Argument(help="Name of the task; * for all.", metavar="[FUNCTION]", autocompletion=of_tasks),
]
Parameter = Annotated[
    str, typer.Argument(help="Which argument is compared; * for the whole task.", metavar="[PARAMETER]")
]
Comparison = Annotated[str, typer.Argument(help=f"One of {' '.join(Operator)}.", metavar="[OPERATOR]")]
Value = Annotated[str | None, typer.Argument(help="What it is compared with.", metavar="[VALUE]")]
Hold = Annotated[bool, typer.Option("--hold", help="Let them wait until restored instead of skipping them.")]


def strike(
    function: Function = "*",
    parameter: Parameter = "*",
    operator: Comparison = "==",
    value: Value = None,
    hold: Hold = False,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Let calls no longer run: all of a task, or those with such an argument.

    They are skipped: refused when added, cancelled when their turn comes.
    """
    rule = _rule(function, parameter, operator, value)
    with opened(docket, url) as it:
        it.strike(rule.function, rule.parameter, rule.operator, rule.value, hold=hold)
    printing.report(
        f"{'Holding' if hold else 'Striking'} {printing.printable(str(rule))}",
        {**_words(rule), "hold": hold},
        as_json,
    )


def restore(
    function: Function = "*",
    parameter: Parameter = "*",
    operator: Comparison = "==",
    value: Value = None,
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """Let calls run again that were struck in the same words. What was held goes on."""
    rule = _rule(function, parameter, operator, value)
    with opened(docket, url) as it:
        found = it.restore(rule.function, rule.parameter, rule.operator, rule.value)
    words = printing.printable(str(rule))
    printing.report(
        f"Restoring {words}" if found else f"Nothing to restore: no strike says {words}",
        {**_words(rule), "restored": found},
        as_json,
    )


def strikes(
    docket: options.Docket = options.NAME,
    url: options.URL = options.WHERE,
    as_json: options.AsJSON = False,
) -> None:
    """List what is struck or held."""
    with opened(docket, url) as it:
        it.wait_for_strikes_loaded()
        rules = list(it.strike_list)
        if not rules:
            remark_if_unused(it)
    now = clock.now()
    printing.listing(
        f"Strikes of docket '{docket}'",
        rules,
        as_json,
        columns=_COLUMNS,
        row=lambda rule: (
            rule.function or "*",
            rule.parameter or "*",
            str(rule.operator) if rule.parameter else "",
            rule.shown_value if rule.parameter else "",
            "held" if rule.hold else "skipped",
            printing.clock_time(rule.since, now),
        ),
        data=_as_data,
    )


def _rule(function: str, parameter: str, operator: str, value: str | None) -> StrikeInstruction:
    try:
        return StrikeInstruction(
            None if function in ("", "*") else function,
            None if parameter in ("", "*") else parameter,
            operator,
            parse_pair(value) if operator == Operator.BETWEEN else parse_value(value),
        )
    except ValueError as error:
        leave(error, USAGE)


def _words(rule: StrikeInstruction) -> dict[str, Any]:
    plain = rule.value is None or isinstance(rule.value, bool | int | float | str)
    return {
        "function": rule.function,
        "parameter": rule.parameter,
        "operator": str(rule.operator) if rule.parameter else None,
        "value": rule.value if plain else rule.shown_value,
        "type": type(rule.value).__qualname__ if rule.parameter else None,
    }


def _as_data(rule: Strike) -> dict[str, Any]:
    return {**_words(rule), "hold": rule.hold, "since": printing.iso(rule.since)}
