"""The forecast of some work from its first seconds, beside the time that the work takes by a clock of the test."""

import re

import pytest

from drtools import costs, reporting


@pytest.fixture
def clock(monkeypatch):
    """Return a clock: a list of its time, which the test moves, and the share of it that the processor works."""
    now = [100.0, 1.0]
    monkeypatch.setattr(costs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(costs.time, "process_time", lambda: now[0] * now[1])
    return now


@pytest.fixture
def said(monkeypatch):
    """Return what is reported."""
    lines = []
    monkeypatch.setattr(reporting, "say", lines.append)
    return lines


def seconds_in(lines):
    (found,) = [re.match(r"about (?:(\d+) min )?(\d+) s", line) for line in lines if "of memory" not in line]
    return 60 * int(found[1] or 0) + int(found[2])


@pytest.mark.parametrize(
    ("first", "pause", "batch", "total"),
    [
        (0.5, 0.5, 10, 1000),  # steady: 50 s
        (9.0, 0.5, 10, 1000),  # the first batch also loads something
        (4.0, 4.0, 200, 2000),  # one piece of news every 4 s
    ],
)
def test_a_forecast_is_the_time_that_the_work_takes(clock, said, first, pause, batch, total):
    forecast, done = costs.Forecast(total, 5000.0, "on cpu"), 0
    begun = clock[0]
    while done < total:
        clock[0] += pause if done else first
        done += batch
        forecast.note(done)
        if clock[0] - begun < 6:
            assert not said, "too early to tell"
    assert len(said) == 2 and said[0].endswith("of memory; 5.0 kB on the disk") and said[1].endswith(": on cpu")
    assert seconds_in(said) == pytest.approx(clock[0] - begun, abs=1)


def test_news_in_bursts_are_measured_between_waits(clock, said):
    forecast = costs.Forecast(1000)
    begun, done = clock[0], 0
    for _ in range(10):  # blocks of 100 queries, each searched in 6 s and then written one by one
        clock[0] += 6
        for _ in range(100):
            done += 1
            clock[0] += 0.001
            forecast.note(done, written=7 * done)
    assert seconds_in(said) == pytest.approx(clock[0] - begun, rel=0.12), "within a block"
    assert said[0].endswith("; 7.0 kB on the disk")


@pytest.mark.parametrize(("share", "after"), [(4.0, 6), (0.5, 12), (0.01, 30)])
def test_a_busy_machine_is_given_time_to_warm_up(clock, said, share, after):
    clock[1] = share
    begun, forecast = clock[0], costs.Forecast(10_000)
    for done in range(1, 200):
        clock[0] += 0.5
        forecast.note(done)
        assert bool(said) == (clock[0] - begun >= after), clock[0] - begun


def test_short_work_and_a_single_burst_are_not_forecast(clock, said):
    forecast = costs.Forecast(30)
    for done in range(1, 31):
        clock[0] += 0.3
        forecast.note(done)
    forecast = costs.Forecast(500)
    clock[0] += 600
    for done in range(1, 501):
        forecast.note(done)
    assert said == []
