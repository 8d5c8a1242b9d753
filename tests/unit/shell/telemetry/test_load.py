"""The load: by the best measure there is, always named, never an error."""

from pathlib import Path

import pytest

from mabeam.api.rest import Capacity
from mabeam.shell.telemetry.load import LoadFiles, LoadMeter, parse_average, parse_pressure, read_load

PSI = "some avg10=12.50 avg60=3.00 avg300=1.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (PSI, 0.125),
        ("some avg10=250.00\n", 1.0),
        ("full avg10=1.00\n", None),
        ("some avg60=1.00\n", None),
        ("some avg10=x\n", None),
        ("some avg10=-1\n", None),
        ("some avg10=nan\n", None),
        ("\n", None),
        ("", None),
    ],
)
def test_pressure_is_the_share_of_the_last_ten_seconds(text: str, value: float | None) -> None:
    assert parse_pressure(text) == value


@pytest.mark.parametrize(
    ("text", "cpus", "value"), [("1.50 0.9 0.5 1/200 9\n", 2, 0.75), ("8.0 0 0", 2, 1.0), ("", 2, None), ("x", 2, None)]
)
def test_the_load_average_is_by_cpus(text: str, cpus: int, value: float | None) -> None:
    assert parse_average(text, cpus) == value


def test_the_first_measure_that_is_told_is_taken_and_named(tmp_path: Path) -> None:
    files = LoadFiles(tmp_path / "node", tmp_path / "cgroup", tmp_path / "average")
    told = LoadMeter(lambda: None, files)
    assert told.load() is None
    files.average.write_text("1.0 1.0 1.0 1/1 1")
    assert read_load(None, files, cpus=4) is not None
    assert told.load() is not None
    found = told.load()
    assert found is not None
    assert found[1] == "load average of the operator's node"
    files.cgroup.write_text(PSI)
    assert told.load() == (0.125, "pressure of the operator's cgroup")
    files.node.write_text(PSI.replace("12.50", "50.00"))
    assert told.load() == (0.5, "pressure of the operator's node")
    files.node.write_bytes(b"\xff\xfe")
    assert told.load() == (0.125, "pressure of the operator's cgroup")
    assert LoadMeter(lambda: Capacity(nodes=3, cpu=0.2, memory=0.9), files).load() == (0.2, "metrics.k8s.io")
