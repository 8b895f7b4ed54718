"""Expressions over knobs: what they are worth, and what is refused before anything is evaluated."""

import pytest

from sweeps.spec.expressions import evaluate, knobs_in

VALUES = {
    "crf_low.alpha": 4,
    "crf_high.alpha": 24.0,
    "cam.source": "cgnet",
    "cam.scales": (1.0,),
    "cam.flip": True,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("crf_low.alpha * 6 == crf_high.alpha", True),
        ("=crf_low.alpha * 6 - 1", 23),
        ("-crf_low.alpha + 7 // 2 + 7 % 4 + 1 / 2", 2.5),
        ("2 < crf_low.alpha <= 4 < crf_high.alpha", True),
        ("2 < crf_low.alpha < 4", False),
        ("cam.source == 'oc' or not cam.flip", False),
        ("cam.source in ('oc', 'cgnet') and cam.flip", True),
        ("cam.source not in ['oc']", True),
        ("cam.scales == [1]", True),
    ],
)
def test_an_expression_has_the_value_that_python_gives_it(text: str, value: object) -> None:
    assert evaluate(text, VALUES.__getitem__) == value


def test_an_expression_tells_its_knobs() -> None:
    assert knobs_in("crf_low.alpha < crf_high.alpha and crf_low.alpha > 1") == (
        "crf_low.alpha",
        "crf_high.alpha",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crf.alpha <", "is not an expression; allowed are knobs, numbers"),
        ("(" * 400, "is not an expression"),
        ("1 + " * 200 + "1", "an expression of 801 characters; allowed are 500"),
        ("__import__('os').system('true')", "\"__import__('os').system('true')\" is not allowed"),
        ("crf.alpha.real > 1", "'crf.alpha.real' is not a knob"),
        ("crf.alphas > 1", "'crf.alphas' is not a knob; expected a name such as crf.alpha"),
        ("alpha > 1", "'alpha' is not allowed"),
        ("9 ** 9 ** 9", "'9 ** 9 ** 9' is not allowed"),
        ("[crf.alpha for _ in (1, 2)]", "is not allowed"),
        ("(lambda: 1)()", "is not allowed"),
        ("crf.alpha if 1 else 2", "is not allowed"),
        ("cam.scales[0]", "is not allowed"),
        ("f'{crf.alpha}'", "is not allowed"),
        ("...", "'...' is not allowed"),
        ("crf.alpha is None", "is not allowed"),
    ],
)
def test_what_is_no_expression_over_knobs_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        knobs_in(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "crf_low.alpha / (crf_low.alpha - 4)",
            "has no value where crf_low.alpha is 4: division by zero",
        ),
        ("cam.source < 3", "has no value where cam.source is 'cgnet': '<' not supported"),
        ("cam.source * 1000000000", "'cgnet' is not a number"),
        ("cam.flip + 1", "True is not a number"),
    ],
)
def test_an_expression_without_a_value_names_the_values_of_its_knobs(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        evaluate(text, VALUES.__getitem__)
    assert said in str(caught.value)
