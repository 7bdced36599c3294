"""The commands of `p33`: what is typed, turned into one call. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(name="p33", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
                  help="P3.3, the Position State Brain: see, explain, halt and set right.")
books = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Books: look, adopt, adjust.")
app.add_typer(books, name="ledger")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables; what could not be done: "
                                                     "`error`, `exit_code`.")]
EnvFile = Annotated[list[Path] | None, typer.Option(
    "--env-file", help="Read settings from this EnvironmentFile, over the environment's. May be repeated.")]
Everything = Annotated[bool, typer.Option("--all", help="Flat symbols too.")]
Force = Annotated[bool, typer.Option("--force", help="Also while the symbol is open, taken or settling.")]
Last = Annotated[str, typer.Option("--last", help="Only the last 30m, 1h, 2d ...")]
Why = Annotated[str, typer.Option("--reason", help="Why; goes into the journal.")]
_env_files: list[Path] = []


@app.callback()
def settings_from(env_file: EnvFile = None) -> None:
    """P3.3, the Position State Brain: see, explain, halt and set right."""
    _env_files[:] = env_file or []


@app.command()
def status(as_json: AsJson = False, everything: Everything = False) -> None:
    """Can a verdict be ALLOW now, what stands where, what deserves a second look. Exit code 0: ready."""
    from . import board
    _with_session(board.show, as_json=as_json, everything=everything)


@app.command()
def watch(everything: Everything = False,
          every: Annotated[str, typer.Option(help="Time between two looks.")] = "1s",
          count: Annotated[int | None, typer.Option(min=1, help="Stop after so many looks.")] = None) -> None:
    """The same as a live table, until Ctrl-C. In a pipe: one look after the other."""
    from . import board
    every_s = _typed(_duration, every, "--every") / 1000
    _with_session(board.watch, every_s=every_s, count=count, everything=everything)


@app.command()
def decisions(symbol: Annotated[str, typer.Option(help="Only this symbol.")] = "",
              outcome: Annotated[str, typer.Option(help="ALLOW or DENY.")] = "",
              reason: Annotated[str, typer.Option(help="Only this reason.")] = "",
              last: Last = "", limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
              by_reason: Annotated[bool, typer.Option("--by-reason", help="Count by reason, with remedies.")] = False,
              as_json: AsJson = False) -> None:
    """The verdicts, newest first."""
    if outcome.upper() not in ("", "ALLOW", "DENY"):
        raise typer.BadParameter("ALLOW or DENY", param_hint="--outcome")
    from . import decisions as told

    def run(session: Any) -> int:
        wanted = told.meant_by(session, symbol=_symbol(symbol), outcome=outcome, reason=reason)
        from_ms = _since(session, last)
        if by_reason:
            return told.counted(session, wanted, from_ms=from_ms, as_json=as_json)
        return told.listed(session, wanted, from_ms=from_ms, limit=limit, as_json=as_json)

    _typed(_duration, last, "--last")
    _with_session(run)


@app.command()
def explain(plan_id: str, as_json: AsJson = False) -> None:
    """Every check of a plan's verdicts, what would have had to differ, and the permit's fate. 1: unknown plan."""
    from . import explain as told
    _with_session(told.explain, plan_id, as_json=as_json)


@app.command()
def replay(last: Last = "",
           begin: Annotated[str, typer.Option("--from", help="ISO 8601 (UTC) or Unix time.")] = "",
           end: Annotated[str, typer.Option("--to", help="ISO 8601 (UTC) or Unix time.")] = "",
           settings: Annotated[list[str] | None, typer.Option(
               "--set", metavar="NAME=VALUE", help="Another threshold; lists which verdicts flip. Repeatable.")] = None,
           as_json: AsJson = False) -> None:
    """Take the logged decisions again. Exit code 0: every one came out byte for byte."""
    from ..errors import ConfigurationInvalid
    from . import replay as again
    if last and (begin or end):
        raise typer.BadParameter("--last, or --from and --to", param_hint="--last")
    _typed(_duration, last, "--last")
    from_ms, to_ms = _typed(_moment, begin, "--from"), _typed(_moment, end, "--to")
    try:
        changed = again.thresholds_of(settings or [])
    except ConfigurationInvalid as invalid:
        raise typer.BadParameter("; ".join(invalid.problems), param_hint="--set") from invalid

    def run(session: Any) -> int:
        since_ms = _since(session, last) if last else from_ms or 0
        return again.replay(session, from_ms=since_ms, to_ms=to_ms, changed=changed, as_json=as_json)

    _with_session(run)


@books.command("show")
def ledger_show(symbol: Annotated[str, typer.Argument()] = "", as_json: AsJson = False) -> None:
    """A symbol's book beside the exchange, with its journal; or all books. Exit code 0: there is a book."""
    from . import ledger
    _with_session(ledger.show, _symbol(symbol), as_json=as_json)


@books.command("adopt")
def ledger_adopt(symbol: str, reason: Why = "", force: Force = False, as_json: AsJson = False) -> None:
    """Take the exchange's newest amount as the book. Settles a changed hash, unsettled orders and a gap."""
    from . import ledger
    _with_session(ledger.settle, _symbol(symbol), None, reason=_reason(reason), force=force, as_json=as_json)


@books.command("adjust", context_settings={"ignore_unknown_options": True})
def ledger_adjust(symbol: str, amount: Annotated[str, typer.Argument(help="Signed: -0.5 is short.")],
                  reason: Why = "", force: Force = False, as_json: AsJson = False) -> None:
    """Set the book to an amount of your own. Settles a changed hash, unsettled orders and a gap."""
    from ..core.quantity import parse
    from . import ledger
    amt = _typed(parse, amount, "AMOUNT")
    _with_session(ledger.settle, _symbol(symbol), amt, reason=_reason(reason), force=force, as_json=as_json)


@app.command()
def halt(symbol: Annotated[str, typer.Argument(help="Leave out for everything.")] = "",
         reason: Annotated[str, typer.Option(help="Why; shown with every denial's status.")] = "",
         for_: Annotated[str, typer.Option("--for", help="Lift it by itself after 30m, 2h ...")] = "",
         as_json: AsJson = False) -> None:
    """Deny every close, or a symbol's, and withdraw the permits that are open."""
    from . import switching
    for_ms = _typed(_duration, for_, "--for") or 0
    _with_session(switching.halt, _symbol(symbol), reason=reason, for_ms=for_ms, as_json=as_json)


@app.command()
def resume(symbol: Annotated[str | None, typer.Argument(help="Leave out for the global switch.")] = None,
           as_json: AsJson = False) -> None:
    """Lift a halt."""
    from . import switching
    if symbol == "":  # a script's variable that is not set: `p33 resume "$SYMBOL"` is not meant to lift everything
        raise typer.BadParameter("is empty; leave it out for the global switch", param_hint="SYMBOL")
    _with_session(switching.resume, _symbol(symbol or ""), as_json=as_json)


@app.command("audit-permits")
def audit_permits(as_json: AsJson = False) -> None:
    """List permits that this gate did not write. Exit code 0: there is none."""
    from . import audit
    _with_session(audit.audit, as_json=as_json)


@app.command()
def proof(keep: Annotated[Path | None, typer.Option(help="Compare with the proof in this file, and replace it; .txt "
                                                          "beside it for people.")] = None,
          log: Annotated[list[Path] | None, typer.Option(help="A service's log file, where there is no journal of "
                                                              "systemd. Repeatable.")] = None,
          wait: Annotated[str, typer.Option(help="How long the canary plan is waited for.")] = "20s",
          canary: Annotated[bool, typer.Option("--canary", help="Only send a canary plan, for the alert.")] = False,
          scenarios: Annotated[bool, typer.Option("--scenarios", help="Only play the denial cases, on a simulated "
                                                                      "exchange of their own.")] = False,
          scenes: Annotated[str, typer.Option(metavar="A,B", help="With --scenarios: only these.")] = "",
          as_json: AsJson = False) -> None:
    """Eight points of a running installation, looked at. Exit code 0: all hold."""
    if canary and scenarios:
        raise typer.BadParameter("one of --canary and --scenarios", param_hint="--canary")
    if scenarios:
        from .proof.scenarios import play
        raise typer.Exit(play(scenes=scenes, as_json=as_json))
    wait_ms = _typed(_duration, wait, "--wait")
    if canary:
        from .proof.canary import command
        _with_session(command, wait_ms=wait_ms, as_json=as_json)
    from .proof.command import prove
    _with_session(prove, keep=keep, logs=log or [], wait_ms=wait_ms, as_json=as_json)


@app.command("rotate-key")
def rotate_key(credentials: Annotated[Path, typer.Option(help="The installation's credential folders.")] = Path(
                   "/etc/quantum/credentials"),
               begin: Annotated[bool, typer.Option("--begin", help="Only put the new key beside the old one.")] = False,
               finish: Annotated[bool, typer.Option("--finish", help="Only delete the old one, once nothing needs it.")
                                 ] = False,
               restart: Annotated[bool, typer.Option(help="Restart the units in the order that loses nothing.")] = True,
               as_json: AsJson = False) -> None:
    """A new signing key for permits, without a lost one: both are valid until nothing needs the old one."""
    if begin and finish:
        raise typer.BadParameter("one of --begin and --finish, or neither", param_hint="--begin")
    from .rotation import rotate
    stage = "begin" if begin else "finish" if finish else ""
    _with_session(rotate, credentials, stage=stage, restart=restart, as_json=as_json)


@app.command("check-config")
def check_config(env_file: EnvFile = None, as_json: AsJson = False) -> None:
    """Every problem of the settings at once. Exit code 0: they can be used. With a file, only it counts."""
    from . import config
    raise typer.Exit(config.check(os.environ, tuple(env_file or _env_files), as_json=as_json))


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def breaks(context: typer.Context) -> None:
    """Breaks that the audits found, and what people say of them: list, show, annotate. Needs the pipeline."""
    import importlib.util
    import subprocess
    import sys
    if importlib.util.find_spec("p33_pipeline.breaks_command") is None:
        typer.echo("p33 breaks needs the pipeline: install p33[pipeline]", err=True)
        raise typer.Exit(2)
    command = [sys.executable, "-m", "p33_pipeline.breaks_command", *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own module, as typed


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(context: typer.Context) -> None:
    """The whole gate on an embedded server and a simulated exchange."""
    from ..rehearsal import demo as played
    raise typer.Exit(played.main(list(context.args)) or 0)


# -- what is typed ----------------------------------------------------------------------------------------------


def _with_session(act: Callable[..., int], *args: Any, **options: Any) -> None:
    """Run a command on a session and end with its exit code."""
    from .session import opened
    with opened(tuple(_env_files)) as session:
        code = act(session, *args, **options)
    raise typer.Exit(code)


def _typed(read: Callable[[str], Any], text: str, name: str) -> Any:
    """The value of what was typed, or wrong usage (exit code 2); None for nothing."""
    if not text:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from error


def _duration(text: str) -> int:
    from .units import duration_ms
    return duration_ms(text)


def _moment(text: str) -> int:
    from .units import moment_ms
    return moment_ms(text)


def _since(session: Any, last: str) -> int:
    return max(session.reading.now_ms() - _duration(last), 0) if last else 0


def _symbol(text: str) -> str:
    from ..core.plan import MessageRefused, symbol_of
    try:
        return symbol_of(text) if text else ""
    except MessageRefused as refused:
        raise typer.BadParameter(refused.reason, param_hint="SYMBOL") from refused


def _reason(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("a book is only changed with --reason TEXT", param_hint="--reason")
    return text.strip()
