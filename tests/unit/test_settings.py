"""Settings come from `MABEAM_…` alone; a wrong one is refused with its name, what is allowed, and what was found."""

from dataclasses import fields

import pytest

from mabeam.settings import BadSetting, Settings, from_environment

WRONG = {
    "MABEAM_LOG_LEVEL": ("loud", "debug or info or warning or error"),
    "MABEAM_LOG_FORMAT": ("xml", "plain or json"),
    "MABEAM_RUNNER_IMAGE_PULL_POLICY": ("Sometimes", "Always or IfNotPresent or Never"),
    "MABEAM_HTTP_PORT": ("65536", "a whole number from 0 to 65535"),
    "MABEAM_LEADER_ELECTION": ("perhaps", "true or false"),
    "MABEAM_LEASE_SECONDS": ("2", "a whole number from 3 to 600"),
    "MABEAM_RESYNC_SECONDS": ("4", "a whole number from 5 to 3600"),
    "MABEAM_MAX_IN_FLIGHT": ("0", "a whole number from 1 to 1024"),
    "MABEAM_WORKERS": ("-1", "a whole number from 1 to 256"),
    "MABEAM_SCRAPE": ("guess", "auto or direct or proxy"),
    "MABEAM_PROMETHEUS_URL": ("prometheus:9090", "an http or https URL without a user, a query or a fragment"),
    "MABEAM_PROMETHEUS_QUERIES": ("all", "default or any"),
    "MABEAM_OTEL": ("maybe", "true or false"),
    "MABEAM_SERVICE_ENDPOINT": ("mabeam.team.svc:8080", "an http or https URL, or none"),
}
RIGHT: dict[str, tuple[str, object]] = {
    "MABEAM_LOG_LEVEL": ("debug", "debug"),
    "MABEAM_LOG_FORMAT": ("json", "json"),
    "MABEAM_WATCH_NAMESPACES": (" red, blue ,", ("red", "blue")),
    "MABEAM_RUNNER_IMAGE": ("runner:2", "runner:2"),
    "MABEAM_RUNNER_IMAGE_PULL_POLICY": ("Never", "Never"),
    "MABEAM_HTTP_PORT": ("0", 0),
    "MABEAM_LEADER_ELECTION": ("False", False),
    "MABEAM_LEASE_NAMESPACE": ("mabeam-system", "mabeam-system"),
    "MABEAM_LEASE_NAME": ("other", "other"),
    "MABEAM_LEASE_SECONDS": ("600", 600),
    "MABEAM_IDENTITY": ("me", "me"),
    "MABEAM_RESYNC_SECONDS": ("5", 5),
    "MABEAM_MAX_IN_FLIGHT": ("1", 1),
    "MABEAM_WORKERS": ("256", 256),
    "MABEAM_SCRAPE": ("proxy", "proxy"),
    "MABEAM_CONTEXT": ("staging", "staging"),
    "MABEAM_PROMETHEUS_URL": (
        "https://prometheus.monitoring:9090/prefix/",
        "https://prometheus.monitoring:9090/prefix",
    ),
    "MABEAM_PROMETHEUS_TOKEN_FILE": ("/var/run/token", "/var/run/token"),
    "MABEAM_PROMETHEUS_QUERIES": ("any", "any"),
    "MABEAM_OTEL": ("yes", True),
    "MABEAM_SERVICE_ENDPOINT": ("https://mabeam.example.org/o", "https://mabeam.example.org/o"),
}


@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_setting_is_named_with_what_is_allowed_and_what_was_found(variable: str) -> None:
    text, allowed = WRONG[variable]
    with pytest.raises(BadSetting) as refused:
        from_environment({variable: text})
    assert str(refused.value) == f"{variable} must be {allowed}, not {text!r}"


@pytest.mark.parametrize("text", ["1.5", "ten", "1e3", "٣٠", "²", " 30 ", "+30"])
def test_a_number_is_written_in_plain_digits(text: str) -> None:
    with pytest.raises(BadSetting, match="MABEAM_RESYNC_SECONDS must be a whole number from 5 to 3600"):
        from_environment({"MABEAM_RESYNC_SECONDS": text})


@pytest.mark.parametrize(
    "text",
    [
        "ftp://p",
        "http://",
        "http://p:x",
        "http://p:0",
        "http://[",
        "http://user:word@p",
        "http://p?x=1",
        "http://p#x",
        "http://p/a b",
        "http://p\nq",
        "file:///etc/passwd",
    ],
)
def test_a_url_leads_to_a_server_and_carries_no_password(text: str) -> None:
    with pytest.raises(BadSetting, match="MABEAM_PROMETHEUS_URL must be an http or https URL"):
        from_environment({"MABEAM_PROMETHEUS_URL": text})


def test_every_setting_can_be_set() -> None:
    assert set(RIGHT) == {f"MABEAM_{field.name.upper()}" for field in fields(Settings)}
    settings = from_environment({variable: text for variable, (text, _) in RIGHT.items()})
    for variable, (_, meaning) in RIGHT.items():
        assert getattr(settings, variable.removeprefix("MABEAM_").lower()) == meaning


def test_nothing_set_and_everything_set_to_nothing_are_the_defaults() -> None:
    assert from_environment({}) == Settings()
    assert from_environment(dict.fromkeys(RIGHT, "")) == Settings()
    assert from_environment({"PATH": "/bin", "LOG_LEVEL": "loud"}) == Settings()


def test_the_holder_of_the_lease_has_a_name_even_when_none_is_given() -> None:
    assert from_environment({"MABEAM_IDENTITY": "me"}).holder == "me"
    assert Settings().holder.rpartition("-")[2].isdigit()


def test_the_endpoint_is_the_charts_service_unless_it_is_said_to_be_another_or_none() -> None:
    assert Settings(lease_namespace="mabeam-system").endpoint == "http://mabeam.mabeam-system.svc:8080"
    assert from_environment({"MABEAM_SERVICE_ENDPOINT": "http://other:1"}).endpoint == "http://other:1"
    assert from_environment({"MABEAM_SERVICE_ENDPOINT": "none"}).endpoint == ""
