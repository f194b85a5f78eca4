"""How long to train and how fast, by hand."""

import pytest

from drtools.cli.flags.training import TrainingFlags
from drtools.errors import InputError
from drtools.training.plan import plan


def made(queries=320, **flags):
    return plan(TrainingFlags(batch_queries=32, learning_rate=1.0, **flags), queries, default_epochs=2, paper_warmup=5)


def test_the_first_limit_ends_it():
    assert made().steps == 20 and made(epochs=0.55).steps == 6 and made(steps=7, epochs=3).steps == 7
    assert made(minutes=1).is_over(3, 60.0) and not made(minutes=1).is_over(10**6, 59.0)
    assert made(steps=7, minutes=1).is_over(7, 0.0)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing_by_steps():
    rates = [made(steps=100).rate(step, 0.0) for step in range(100)]
    # transformers' linear schedule: from the peak at the end of the warm-up
    assert (
        rates[0] == pytest.approx(1 / 5)
        and rates[4] == rates[5] == max(rates) == pytest.approx(1)
        and rates[52] == pytest.approx(48 / 95)
        and rates[99] == pytest.approx(1 / 95)
    )
    assert made(steps=20).warmup_steps == 2, "10% is less than the paper's 5"


def test_training_may_end_before_its_schedule():
    early = made(steps=50, schedule_steps=200)
    assert early.is_over(50, 0.0) and early.rate(40, 0.0) == pytest.approx(160 / 195)
    with pytest.raises(InputError, match="the learning rate already falls to 0 with the minutes"):
        made(minutes=3, schedule_steps=200)


def test_the_rate_rises_and_falls_by_time_however_few_the_steps():
    by_time = made(minutes=1)
    assert [by_time.rate(0, seconds) for seconds in (0, 3, 6, 33, 60)] == pytest.approx([0.2, 0.5, 1, 0.5, 0])


def test_under_minutes_the_warmup_is_the_papers_where_that_is_shorter():
    by_steps = made(minutes=1)
    assert [by_steps.rate(step, 0.6) for step in (0, 1, 4, 400)] == pytest.approx([0.2, 0.4, 1, 1]), (
        "the paper's 5 steps come before the 6 seconds"
    )
    none = plan(TrainingFlags(minutes=1, learning_rate=1.0), 320, default_epochs=2, paper_warmup=0)
    assert [none.rate(0, seconds) for seconds in (0, 3, 30, 60)] == pytest.approx([1, 0.95, 0.5, 0]), (
        "a paper without one has none"
    )
    constant = plan(
        TrainingFlags(minutes=1, learning_rate=1.0, schedule="constant"), 320, default_epochs=2, paper_warmup=0
    )
    assert [constant.rate(0, seconds) for seconds in (0, 3, 59)] == [1, 1, 1]


def test_a_constant_rate_stays_after_its_warmup():
    constant = made(steps=100, schedule="constant")
    assert [constant.rate(step, 0.0) for step in (0, 4, 5, 60, 99)] == pytest.approx([0.2, 1, 1, 1, 1])
    by_time = made(minutes=1, schedule="constant")
    assert [by_time.rate(0, seconds) for seconds in (0, 3, 6, 59)] == pytest.approx([0.2, 0.5, 1, 1])


def test_an_opening_goes_before_and_does_not_count():
    opened = made(steps=20)
    opened.opening_steps, opened.opening_rate = 7, 0.3
    assert (
        [opened.rate(step, 0.0) for step in (0, 6)] == [0.3, 0.3]
        and opened.rate(7, 0.0) == made(steps=20).rate(0, 0.0)
        and opened.rate(20, 0.0) == made(steps=20).rate(13, 0.0)
    )
    assert not opened.is_over(26, 0.0) and opened.is_over(27, 0.0)


@pytest.mark.parametrize("flags", [{"schedule": "constant", "schedule_steps": 9}, {"epochs": 0}, {"minutes": -1}])
def test_what_cannot_be_meant_is_refused(flags):
    with pytest.raises(InputError):
        made(**flags)
