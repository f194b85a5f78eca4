import pytest

from drtools.errors import InputError
from drtools.evaluation.curves import Curve, chosen, read_curves, smoothed


def test_read_curves(tmp_path):
    path = tmp_path / "training.jsonl"
    path.write_text(
        '{"step":10,"seconds":1.5,"loss":2,"note":"x","flag":true}\n{"step":10,"dev '
        'RR@10":0.5}\n{"step":20,"seconds":3,"loss":1.5,"none":null}\n'
    )
    curves = read_curves(path)
    assert curves == {
        "seconds": Curve([10, 20], [1.5, 3.0]),
        "loss": Curve([10, 20], [2.0, 1.5]),
        "dev RR@10": Curve([10], [0.5]),
    }
    logs = {"a": curves, "b": {"overlap": Curve([1], [0.1])}}
    assert list(chosen(logs, None)) == ["loss", "dev RR@10", "overlap"]
    assert chosen(logs, ["overlap", "seconds"]) == {
        "overlap": {"b": Curve([1], [0.1])},
        "seconds": {"a": curves["seconds"]},
    }
    with pytest.raises(InputError, match="no log has this value; the logs have seconds, loss"):
        chosen(logs, ["los"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"loss": 1}\n', ":1: step is None"),
        ('{"step": 1}\n{"step": "2"}\n', ":2: step is '2'"),
        ('{"step": 1, "a": "b"}\n', "no values over steps"),
        ("", "no values over steps"),
        ("step 1\n", ":1: not JSON"),
    ],
)
def test_what_is_no_training_log(tmp_path, content, words):
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(InputError, match=words):
        read_curves(tmp_path / "x.jsonl")


def test_smoothed_is_the_mean_of_the_neighbours():
    assert smoothed([1.0] * 99) is None
    values = [float((7 * n) % 31) for n in range(200)]  # 5% are 10 points: 5 on each side
    for at, value in enumerate(smoothed(values)):
        around = values[max(0, at - 5) : at + 6]
        assert value == pytest.approx(sum(around) / len(around))
