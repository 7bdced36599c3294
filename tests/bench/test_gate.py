"""The gate's benchmark runs; its figures carry no weight here."""

from __future__ import annotations

from tests.bench.gate import main


def test_short_form_takes_every_permit(capsys) -> None:
    """Every permit that is issued is taken; it ends by itself with the ratios."""
    assert main(["--rounds", "20"]) == 0
    assert "issued to taken, p50" in capsys.readouterr().out
