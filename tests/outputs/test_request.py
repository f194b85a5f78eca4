"""Whether two requests are the same, and how not: flags, flags that one version lacks, changes of what is computed."""

from drtools.outputs.request import add_change, differences, same


def request(**arguments):
    return {"tool": "distill-adam", "arguments": arguments}


def test_a_flag_that_was_not_given_is_one_that_does_not_exist():
    assert same(request(steps=3, corpus_size=None), request(steps=3)) and same(request(), request(text=False))
    for one, other in (
        (request(seed=0), request()),
        (request(seed=0), request(seed=1)),
        (request(), request(text=True)),
        (request(prompt=""), request()),
    ):
        assert not same(one, other) and differences(one, other)


def test_a_change_of_what_is_computed_is_named():
    then, now = request(steps=3), request(steps=3)
    add_change(now, "the sum form sums both terms")
    assert not same(then, now)
    assert differences(then, now) == "since then the sum form sums both terms"
    again = request(steps=3)
    add_change(again, "the sum form sums both terms")
    assert same(now, again) and differences(now, again) == ""
