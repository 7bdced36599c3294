"""`p33 check-config`: every problem at once, what deserves a second look, and never a secret's value (I24, I51)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Tool

SOUND = {"BINANCE_API_KEY": "key", "BINANCE_API_SECRET": "secret", "P33_PERMIT_KEY": "k" * 32}
plain = Tool()


def test_sound_settings_can_be_used() -> None:
    """Exit code 0, no word of warning, and each setting with where it comes from."""
    said = plain("check-config", "--json", **SOUND)
    assert (said.code, said.json["ok"], said.json["problems"], said.json["warnings"]) == (0, True, [], [])
    people = plain("check-config", **SOUND)
    assert "These settings can be used." in people.out
    assert "kkkk" not in people.out + said.out


def test_all_problems_are_named_at_once() -> None:
    """One line each: the variable, the value (a secret's never), what is allowed."""
    said = plain("check-config", "--json", P33_POLL_SEC="fast", P33_COOLDOWN_SEC="-1", P33_PERMIT_KEY="short",
                 APPLY_MODE="live")
    assert said.code == 1
    assert [line.split("=")[0] for line in said.json["problems"]] == [
        "P33_POLL_SEC", "P33_COOLDOWN_SEC", "P33_PERMIT_KEY", "APPLY_MODE"]
    assert all("allowed is" in line for line in said.json["problems"])
    assert "short" not in said.out


@pytest.mark.parametrize(("env", "word"), [
    ({"P33_STALE_THRESHOLD_SEC": "300"}, "loosened"),
    ({"P33_STALE_THRESHOLD_SEC": "4"}, "shorter than a poll"),
    ({"P33_PERMIT_KEY": ""}, "unsigned"),
    ({"BINANCE_API_SECRET": ""}, "exchange_unconfigured"),
    ({"BINANCE_TESTNET": "false"}, "real money"),
    ({"APPLY_GATE": "governor"}, "without this gate"),
    ({"P33_COOLDOWN_SEC": "0"}, "nothing waits"),
    ({"P33_ALLOWLIST": ","}, "P33_ALLOWLIST"),
    ({"P33_POLL_SECS": "1"}, "did you mean P33_POLL_SEC?"),
    ({"APPLY_MODUS": "x"}, "APPLY_MODUS is not a setting"),
])
def test_what_should_not_be_got_used_to_is_warned_of(env: dict[str, str], word: str) -> None:
    """It can be used all the same, or is refused by name; I24 is the first row."""
    said = plain("check-config", "--json", **SOUND | env)
    assert any(word in line for line in said.json["warnings"] + said.json["problems"])


def test_an_environment_file_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    """Comments, quotes, continued lines; a later file wins; with a file the shell's environment does not count."""
    first, second = tmp_path / "a.env", tmp_path / "b.env"
    first.write_text("# comment\n; another\nP33_POLL_SEC=7\nP33_ALLOWLIST=\"BTCUSDT,\\\nETHUSDT\"\nnonsense\n")
    second.write_text("P33_POLL_SEC='8'\n")
    said = plain("check-config", "--json", "--env-file", str(first), "--env-file", str(second), P33_COOLDOWN_SEC="bad")
    assert said.code == 0
    assert said.json["settings"]["P33_POLL_SEC"] == "8"
    assert said.json["settings"]["P33_ALLOWLIST"] == "BTCUSDT,ETHUSDT"


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """Unless it is marked as optional, as in a unit file."""
    missing = tmp_path / "none.env"
    assert plain("check-config", "--env-file", str(missing)).code == 1
    assert plain("check-config", "--env-file", f"-{missing}").code == 0


def test_a_secret_that_everybody_may_read_is_warned_of(tmp_path: Path) -> None:
    """The file is named, not its content."""
    file = tmp_path / "key"
    file.write_text("s" * 40)
    file.chmod(0o644)
    said = plain("check-config", "--json", **SOUND | {"P33_PERMIT_KEY": "", "P33_PERMIT_KEY_FILE": str(file)})
    assert any("can be read by everybody" in line for line in said.json["warnings"])
    file.chmod(0o600)
    said = plain("check-config", "--json", **SOUND | {"P33_PERMIT_KEY": "", "P33_PERMIT_KEY_FILE": str(file)})
    assert said.json["warnings"] == []
