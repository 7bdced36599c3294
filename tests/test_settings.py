"""Settings: the contract's defaults, refusals that help, and secrets that never show."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.errors import ConfigurationInvalid
from p33_sidecar.settings import SETTINGS, Secret, bare, load

KEY = "k" * 32
DEFAULTS = {  # contract, chapter 6
    "REDIS_HOST": "localhost", "REDIS_PORT": 6379, "REDIS_DB": 0, "BINANCE_TESTNET": True, "P33_EXCHANGE_URL": "",
    "P33_ALLOWLIST": frozenset({"BTCUSDT"}), "P33_POLL_SEC": 5_000, "P33_STALE_THRESHOLD_SEC": 10_000,
    "P33_COOLDOWN_SEC": 15_000, "P33_QTY_TOLERANCE_PCT": Decimal("1.0"), "P33_PERMIT_TTL": 60_000,
    "P33_PLAN_MAX_AGE_SEC": 60_000, "P33_REFRESH_BUDGET_MS": 800, "P33_LEDGER_BOOTSTRAP": "adopt",
    "P33_PLAN_STREAM": "quantum:apply.plan", "P33_RESULT_STREAM": "quantum:apply.result",
    "P33_HISTORY_URL": "./history", "P33_WEBHOOK_URL": "", "P33_REGISTRY_URL": "", "P33_DAGSTER_URL": "",
    "APPLY_MODE": "dry_run", "APPLY_GATE": "both",
    "APPLY_PERMIT_WAIT_MS": 1200, "APPLY_METRICS_PORT": 8043, "APPLY_ALLOW_MAINNET": False,
    "P33_METRICS_HOST": "127.0.0.1", "P33_METRICS_PORT": 8045, "P33_INSTANCE": "", "P33_LOG_LEVEL": "INFO",
    "P33_LOG_FORMAT": "text", "REDIS_URL": "", "REDIS_USERNAME": "", "REDIS_PASSWORD": Secret(""),
    "BINANCE_API_KEY": Secret(""), "BINANCE_API_SECRET": Secret(""), "BINANCE_TESTNET_API_KEY": Secret(""),
    "BINANCE_TESTNET_API_SECRET": Secret(""), "P33_PERMIT_KEY": Secret(""), "P33_PERMIT_KEY_PREVIOUS": Secret(""),
}


def refused(env: dict[str, str]) -> list[str]:
    """The lines with which the settings are refused."""
    with pytest.raises(ConfigurationInvalid) as caught:
        load(env)
    return caught.value.problems


def test_every_default_is_the_contracts():
    """No setting without its default in the contract's table, none of the table missing, and nothing set is needed."""
    settings = load({})
    assert {s.name: settings[s.name] for s in SETTINGS} == DEFAULTS
    assert settings.redis_url == "redis://localhost:6379/0"
    assert settings.exchange_url == "https://demo-fapi.binance.com"
    assert load({"BINANCE_TESTNET": "false"}).exchange_url == "https://fapi.binance.com"
    assert settings.instance


def test_defaults_show_as_they_are_written():
    """`public` speaks the operator's language: seconds as seconds, a list as a list; and reads back to the same."""
    settings = load({"P33_POLL_SEC": "2.5", "P33_ALLOWLIST": "ethusdt, BTCUSDT"})
    public = settings.public()
    assert (public["P33_POLL_SEC"], public["P33_ALLOWLIST"]) == ("2.5", "BTCUSDT,ETHUSDT")
    assert load(public).public() == public


@pytest.mark.parametrize(("name", "value"), [
    ("P33_POLL_SEC", "0.49"), ("P33_POLL_SEC", "NaN"), ("P33_POLL_SEC", "1e3"), ("P33_POLL_SEC", "0x10"),
    ("P33_POLL_SEC", "5s"), ("P33_POLL_SEC", "-5"), ("P33_POLL_SEC", "+5"), ("P33_POLL_SEC", "1_0"),
    ("P33_POLL_SEC", "inf"), ("P33_COOLDOWN_SEC", "3600.001"), ("P33_PERMIT_TTL", "0"),
    ("P33_STALE_THRESHOLD_SEC", "0"), ("P33_PLAN_MAX_AGE_SEC", "86401"), ("P33_QTY_TOLERANCE_PCT", "100.1"),
    ("P33_QTY_TOLERANCE_PCT", "1%"), ("P33_REFRESH_BUDGET_MS", "800.5"), ("REDIS_PORT", "0"), ("REDIS_PORT", "65536"),
    ("REDIS_HOST", "a@b"), ("REDIS_DB", "-1"), ("REDIS_DB", "9" * 30), ("BINANCE_TESTNET", "maybe"),
    ("P33_EXCHANGE_URL", "demo-fapi.binance.com"), ("P33_EXCHANGE_URL", "ftp://a"), ("P33_EXCHANGE_URL", "https://"),
    ("P33_EXCHANGE_URL", "https://a:99999"), ("P33_EXCHANGE_URL", "https://a b"), ("P33_ALLOWLIST", "BTC USDT"),
    ("P33_ALLOWLIST", "BTCUSDT,*"), ("P33_ALLOWLIST", "A:B"), ("P33_LEDGER_BOOTSTRAP", "heal"),
    ("P33_PLAN_STREAM", "a b"), ("P33_HISTORY_URL", "http://a/b"), ("APPLY_MODE", "mainnet"), ("APPLY_GATE", "none"),
    ("APPLY_ALLOW_MAINNET", "perhaps"), ("P33_METRICS_PORT", "http"), ("P33_INSTANCE", "a b"),
    ("P33_LOG_LEVEL", "LOUD"), ("P33_LOG_FORMAT", "xml"), ("P33_METRICS_HOST", "a b"),
])
def test_an_unusable_value_is_refused_in_one_helpful_line(name, value):
    """The line names the variable, the value and what is allowed."""
    allowed = next(s.allowed for s in SETTINGS if s.name == name)
    assert refused({name: value}) == [f"{name}={value}: allowed is {allowed}"]


@pytest.mark.parametrize("url", [
    "https://user:hunter2@fapi.binance.com", "https://a/?token=hunter2", "https://a/#hunter2", "https://hunter2@a",
])
def test_an_exchange_url_is_a_bare_base(url):
    """Login, query and fragment are refused, and what they hold is not repeated."""
    (line,) = refused({"P33_EXCHANGE_URL": url})
    assert line.startswith("P33_EXCHANGE_URL=https://") and "without login" in line and "hunter2" not in line
    assert load({"P33_EXCHANGE_URL": "http://127.0.0.1:8080/"}).exchange_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("url", [
    "redis://h", "redis://h/", "redis://:p@h:6379/15", "rediss://u:p@h/1?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
    "unix:///run/redis.sock?db=3", "redis://[::1]:6379/0", "unix:///run/redis.sock?username=u&password=p%20q",
])
def test_a_redis_url_that_names_its_database_is_taken_as_it_is(url):
    """The other side of the refusals below."""
    assert load({"REDIS_URL": url}).redis_url == url


def test_plans_and_results_are_two_streams():
    """On one, every result that says EXECUTE would be evaluated as a plan."""
    (line,) = refused({"P33_PLAN_STREAM": "quantum:apply.result"})
    assert line == "P33_RESULT_STREAM=quantum:apply.result: allowed is another key than P33_PLAN_STREAM"


def test_all_problems_are_told_at_once():
    """Nobody has to start a service three times to learn of three mistakes."""
    lines = refused({"P33_POLL_SEC": "x", "REDIS_PORT": "y", "P33_PERMIT_KEY": "short"})
    assert [line.split("=")[0] for line in lines] == ["REDIS_PORT", "P33_POLL_SEC", "P33_PERMIT_KEY"]


def test_a_refusal_stays_on_one_line_and_short():
    """A value with line breaks or of great length cannot forge or flood a log."""
    (line,) = refused({"P33_LOG_LEVEL": "INFO\nroot logged in" + "x" * 500})
    assert "\n" not in line and len(line) < 250


SECRETS = {
    "REDIS_URL": "redis://u:hunter2@localhost:6379/0", "REDIS_PASSWORD": "hunter2", "BINANCE_API_KEY": "hunter2",
    "BINANCE_API_SECRET": "hunter2", "BINANCE_TESTNET_API_KEY": "hunter2", "BINANCE_TESTNET_API_SECRET": "hunter2",
    "P33_PERMIT_KEY": "hunter2" * 5, "P33_WEBHOOK_URL": "https://hooks.example/hunter2",
    "P33_HISTORY_URL": "s3://id:hunter2@bucket/p33",
}


def test_secrets_never_show():
    """Not in the repr, the public table, the warnings, or a value's own repr and str."""
    settings = load(SECRETS)
    said = [repr(settings), str(settings), repr(settings.public()), repr(settings.warnings()),
            repr(settings.credentials[1]), f"{settings['P33_PERMIT_KEY']}"]
    assert "hunter2" not in "".join(said)
    assert settings.public()["P33_PERMIT_KEY"] == "set" and settings.public()["REDIS_URL"] == "set"


@pytest.mark.parametrize(("name", "value"), [
    ("REDIS_URL", "http://u:hunter2@h"), ("REDIS_URL", "redis://u:hunter2@h:hunter2"), ("P33_PERMIT_KEY", "hunter2"),
    ("P33_WEBHOOK_URL", "hunter2"), ("REDIS_URL", "redis://u:hunter2@h:6379/p33"),
    ("REDIS_URL", "redis://u:hunter2@h:6379/2x"), ("REDIS_URL", "redis://u:hunter2@h:6379/1/2"),
    ("REDIS_URL", "redis://u:hunter2@h?db=two"), ("REDIS_URL", "unix:///hunter2.sock?db="),
    ("REDIS_URL", "redis://u:hunter2@h/0?decode_responses=yes"), ("REDIS_URL", "redis://u:hunter2@h/0?sockettimeout=5"),
])
def test_a_refused_secret_is_named_not_quoted(name, value):
    """Neither the line nor the exception's chain holds any of it."""
    with pytest.raises(ConfigurationInvalid) as caught:
        load({name: value})
    error = caught.value
    assert error.problems[0].startswith(f"{name}=(secret): allowed is ")
    assert "hunter2" not in f"{error}{error.__cause__}{error.__context__}"


def test_secrets_are_read_from_files_less_the_final_newline(tmp_path):
    """One newline goes, everything else stays; the variable itself wins over its file."""
    path = tmp_path / "key"
    path.write_text(f"  {KEY} # part of it\n\n", encoding="utf-8")
    assert load({"P33_PERMIT_KEY_FILE": str(path)}).permit_key == f"  {KEY} # part of it\n".encode()
    assert load({"P33_PERMIT_KEY_FILE": str(path), "P33_PERMIT_KEY": KEY}).permit_key == KEY.encode()


@pytest.mark.parametrize(("content", "why"), [
    (None, "No such file"), (b"", "empty"), (b"\n", "empty"), (b"\xff" * 40, "UTF-8"),
])
def test_a_secret_file_that_cannot_be_used_is_named(tmp_path, content, why):
    """Unreadable, empty, not text: the line names variable and path, and an unsigned start does not follow."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    (line,) = refused({"P33_PERMIT_KEY_FILE": str(path)})
    assert line.startswith("P33_PERMIT_KEY_FILE=") and why in line


def test_a_secret_comes_from_systemds_credentials(tmp_path):
    """`LoadCredential=p33:DIRECTORY`: a file is called like its setting; the environment and `…_FILE` come first."""
    (tmp_path / "p33_P33_PERMIT_KEY").write_text(KEY + "\n")
    (tmp_path / "p33_P33_POLL_SEC").write_text("1\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(env).permit_key == KEY.encode()
    assert load({**env, "P33_PERMIT_KEY": "n" * 32}).permit_key == b"n" * 32
    assert load(env)["P33_POLL_SEC"] == 5_000, "only secrets are read from there"
    assert load(env).credentials is None, "a credential that is missing is a setting that is not set"
    (tmp_path / "p33_REDIS_PASSWORD").write_text("\n")
    (line,) = refused(env)
    assert line.startswith("credential p33_REDIS_PASSWORD=") and "it is empty" in line



@pytest.mark.parametrize(("written", "value"), [
    ("5 # a comment", "5"), ('"5"', "5"), ("'5' # x", "5"), (" 5 ", "5"), ("a#b", "a#b"), ('"a # b"', "a # b"),
    ("# only a comment", ""), ("  #x", ""), ("#x1", "#x1"), ("#", ""), ('""', ""), ('"a', '"a'), ('"a" b', '"a" b'),
    ("5\t# tab", "5"), ('"a"b"', 'a"b'),
])
def test_comments_and_quotes_are_tolerated(written, value):
    """White space and # begin a comment, one pair of quotes goes, and a # inside a value stays."""
    assert bare(written) == value


PAIRS = {"BINANCE_API_KEY": "mk", "BINANCE_API_SECRET": "ms",
         "BINANCE_TESTNET_API_KEY": "tk", "BINANCE_TESTNET_API_SECRET": "ts"}


@pytest.mark.parametrize(("env", "pair"), [
    (PAIRS, ("tk", "ts")), (PAIRS | {"BINANCE_TESTNET": "false"}, ("mk", "ms")),
    ({"BINANCE_API_KEY": "mk", "BINANCE_API_SECRET": "ms"}, ("mk", "ms")),
    ({"BINANCE_TESTNET_API_KEY": "tk", "BINANCE_TESTNET_API_SECRET": "ts", "BINANCE_TESTNET": "false"}, None),
    ({"BINANCE_API_KEY": "mk"}, None), ({"BINANCE_API_SECRET": "ms"}, None), ({}, None),
    (PAIRS | {"BINANCE_TESTNET_API_SECRET": ""}, None),
])
def test_i25_credentials_come_in_pairs(env, pair):
    """The test pair wins on the test exchange; half a pair is none, and the service starts all the same."""
    settings = load(env)
    found = settings.credentials
    assert (found and (found[0], found[1].reveal())) == pair
    assert any("exchange_unconfigured" in line for line in settings.warnings()) == (pair is None)


def test_half_a_pair_is_warned_of_by_the_missing_half():
    """The line names what is missing, not what is there."""
    line = load({"BINANCE_TESTNET_API_KEY": "tk"}).warnings()[0]
    assert line.startswith("BINANCE_TESTNET_API_SECRET not set")


@pytest.mark.parametrize(("stale", "poll", "loosened"), [
    ("10", "1", False), ("10.001", "1", True), ("15", "5", False), ("15.001", "5", True), ("30", "10", False),
    ("30.001", "20", True),
])
def test_i24_a_loosened_stale_threshold_is_warned_of(stale, poll, loosened):
    """Above max(3 polls, 10 s), or above 30 s, the operator hears of it."""
    settings = load({"P33_STALE_THRESHOLD_SEC": stale, "P33_POLL_SEC": poll})
    assert settings.policy.loosened is loosened
    assert any(f"P33_STALE_THRESHOLD_SEC={stale} is loosened" in line for line in settings.warnings()) is loosened


def test_unsigned_permits_are_warned_of():
    """With credentials and a key there is nothing to say; without the key there is."""
    assert load(PAIRS | {"P33_PERMIT_KEY": KEY}).warnings() == ()
    assert [line.split()[0] for line in load(PAIRS).warnings()] == ["P33_PERMIT_KEY"]


@pytest.mark.parametrize(("url", "main"), [
    ("https://fapi.binance.com", True), ("https://FAPI.binance.com./", True), ("https://demo-fapi.binance.com", False),
    ("https://testnet.binancefuture.com", False), ("http://127.0.0.1:9", False), ("https://fapi2.binance.com", True),
])
def test_the_main_exchange_is_recognised(url, main):
    """Any Binance host that is not a known test host moves real money."""
    assert load({"P33_EXCHANGE_URL": url}).is_main_exchange is main


@pytest.mark.parametrize(("env", "url"), [
    ({"REDIS_USERNAME": "p33-sidecar", "REDIS_PASSWORD": "a/b@c"}, "redis://p33-sidecar:a%2Fb%40c@localhost:6379/0"),
    ({"REDIS_HOST": "::1", "REDIS_PORT": "7000", "REDIS_DB": "2"}, "redis://[::1]:7000/2"),
    ({"REDIS_URL": "unix:///run/redis.sock", "REDIS_HOST": "other"}, "unix:///run/redis.sock"),
])
def test_redis_url_is_built_from_its_parts(env, url):
    """REDIS_URL wins; odd characters and IPv6 addresses are written as URLs need them."""
    assert load(env).redis_url == url


def test_thresholds_become_the_policy():
    """The settings are the policy's numbers, in milliseconds."""
    policy = load({"P33_COOLDOWN_SEC": "0.25", "P33_QTY_TOLERANCE_PCT": "0.5"}).policy
    assert (policy.cooldown_ms, policy.qty_tolerance_pct, policy.poll_ms) == (250, Decimal("0.5"), 5_000)


def test_two_keys_are_known_while_one_replaces_the_other():
    """Permits are signed with the one and verified under both; the signing one comes first (`p33 rotate-key`)."""
    settings = load({"P33_PERMIT_KEY": KEY, "P33_PERMIT_KEY_PREVIOUS": "o" * 32})
    assert (settings.permit_key, settings.permit_keys) == (KEY.encode(), (KEY.encode(), b"o" * 32))
    assert load({"P33_PERMIT_KEY": KEY}).permit_keys == (KEY.encode(),)
    assert load({}).permit_keys == ()
