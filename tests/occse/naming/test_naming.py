"""Names for people: maths, the label map, and short names of variants."""

import pickle

import pytest

from occse.naming.labels import Labels, unknown_keys, value_text
from occse.naming.markup import Name, checked, join
from occse.naming.variants import marked_baseline, split_variants, variant_names

VARIANTS = (
    "source=oc",
    "source=cgnet, erasing=class_agnostic, lambda_start=1",
    "source=cgnet, erasing=class_agnostic, lambda_start=10",
    "source=cgnet, erasing=cse, lambda_start=1",
    "source=cgnet, erasing=cse, lambda_start=10",
)
HEADS = {"source": "cam.source", "erasing": "cgnet.erasing", "lambda_start": "cgnet.lambda_start"}


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("plain_text", "plain_text"),
        (r"$\lambda$", "λ"),
        (r"weight $\lambda_{oc}$ of OC", "weight λ_oc of OC"),
        (r"$x_1^2$", "x₁²"),
        (r"$10^{-3}$", "10⁻³"),
        (r"$\mathcal{L}_{cse}$", "L_cse"),
        (r"$\alpha \to \beta$", "α→β"),
        (r"cost \$5", "cost $5"),
    ],
)
def test_name_shows_maths_as_unicode_and_keeps_its_latex(markup: str, text: str) -> None:
    name = Name(markup)
    assert name.replace(" →", "→").replace("→ ", "→") == text
    assert name.markup == markup
    assert pickle.loads(pickle.dumps(name)).markup == markup  # noqa: S301 - made here


@pytest.mark.parametrize(
    ("markup", "message"),
    [
        ("a $ b", r"one \$"),
        (r"$\lamda$", r"\\lambda"),
        (r"$\input{/etc/passwd}$", r"got \\input"),
        ("$a{b$", "braces in pairs"),
        ("$a}b{$", "braces in pairs"),
    ],
)
def test_name_that_latex_could_not_set_or_should_not_run_is_refused(
    markup: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Name(markup)


def test_joined_names_keep_their_maths_and_quote_dollars_of_plain_text() -> None:
    name = join(", ", [Name(r"$\lambda$"), "5 $ each", "a_b"])
    assert name == "λ, 5 $ each, a_b"
    assert list(name.parts) == [(True, r"\lambda"), (False, ", 5 $ each, a_b")]


def test_label_of_the_user_comes_before_the_default() -> None:
    labels = Labels(
        {"cgnet.lambda_start=10.0": "strong", "cgnet.mask": "mask kind", "pseudo": "Pseudo mask"},
        {"pseudo": "pseudo labels", "cam": "CAM"},
    )
    assert labels.part("cgnet.lambda_start", "1") == "λ=1"
    assert labels.part("cgnet.lambda_start", 10) == "strong"
    assert labels.part("cgnet.erasing", "cse") == "CSE"
    assert labels.part("cgnet.mask", "hard") == "mask kind=hard"
    assert labels.part("cgnet.draw", "balanced") == "balanced"
    assert labels.part("cam.flip", "true", short="flip") == "flip=true"
    assert labels.score("pseudo") == "Pseudo mask mIoU"
    assert labels.metric("cam/miou@held-out-50") == "CAM mIoU @ held-out-50"
    assert labels.metric("cam/iou/cat") == "CAM IoU cat"
    assert labels.metric("gpu_hours") == "gpu_hours"


def test_values_of_one_label_are_told_apart() -> None:
    labels = Labels({"a.b=1": "same", "a.b=2": "same", "a.b=3": "other"})
    assert labels.value_names("a.b", ["1", 2.0, "3", 4]) == {
        "1": "same (1)",
        "2": "same (2)",
        "3": "other",
        "4": "4",
    }


def test_score_on_images_with_several_classes_is_named_after_the_score() -> None:
    labels = Labels({"pseudo/miou": "Mask score"}, {"pseudo": "pseudo labels"})
    assert labels.metric("pseudo/miou_multi") == "Mask score (several classes)"
    assert labels.metric("cam/miou_multi") == "CAM mIoU (several classes)"


def test_unknown_keys_of_a_label_map_are_found() -> None:
    keys = ["cgnet.mask", "cgnet.maks=hard", "cam/miou", "camm/miou", "cam", "cgnet"]
    found = unknown_keys(keys, knobs=["cgnet.mask"], stages=["cam", "cgnet"])
    assert found == ["cgnet.maks=hard", "camm/miou"]


@pytest.mark.parametrize("separator", [", ", " "])
def test_variant_names_leave_out_what_all_share_or_what_follows(separator: str) -> None:
    knobs = {part: HEADS[part[0]] for part in split_variants(VARIANTS).owners}
    names = variant_names(VARIANTS, Labels(), knobs=knobs, separator=separator)
    parts = ["OC", "class-agnostic, λ=1", "class-agnostic, λ=10", "CSE, λ=1", "CSE, λ=10"]
    assert list(names.values()) == [part.replace(", ", separator) for part in parts]


def test_variant_names_tell_variants_apart_whatever_the_labels_say() -> None:
    same = Labels({"cgnet.erasing=cse": "ours", "cgnet.erasing=class_agnostic": "ours"})
    knobs = {part: HEADS[part[0]] for part in split_variants(VARIANTS).owners}
    names = variant_names(VARIANTS, same, knobs=knobs)
    assert list(names.values()) == list(VARIANTS)


def test_variant_names_keep_a_name_that_a_person_gave() -> None:
    variants = ("ours, alpha=4", "ours, alpha=6", "base, alpha=4", "base, alpha=6")
    knobs = {part: "crf.alpha" for part in split_variants(variants).owners if part[0]}
    names = variant_names(variants, Labels(), knobs=knobs)
    assert list(names.values()) == ["ours, α=4", "ours, α=6", "base, α=4", "base, α=6"]


def test_baseline_is_marked_once() -> None:
    assert marked_baseline("OC") == "OC (baseline)"
    assert marked_baseline("baselines of others") == "baselines of others (baseline)"
    assert marked_baseline("baseline") == "baseline"
    assert marked_baseline("baseline, λ=1") == "baseline, λ=1"
    assert marked_baseline("a_b", shown=r"a\_b") == r"a\_b (baseline)"


def test_variant_names_split_no_value_that_has_a_comma() -> None:
    variants = [
        f"source=cgnet, erasing={erasing}, scales=[1, 2], low={low}, high={4 * low}"
        for erasing in ("class_agnostic", "cse")
        for low in (1, 2)
    ]
    variants.append("source=oc, scales=[1, 2], low=1, high=4")
    names = variant_names(variants, Labels(), knobs={})
    expected = ["class_agnostic, low=1", "class_agnostic, low=2", "cse, low=1", "cse, low=2", "oc"]
    assert list(names.values()) == expected


@pytest.mark.parametrize(
    "markup",
    [
        "$^^5cinput{/etc/hostname}$",
        "$x^^5copenout$",
        "$x_$",
        "${x^}$",
        "$a & b$",
        "$a % b$",
        "$λ$",
        "$a~b$",
        r"$\input{x}$",
    ],
)
def test_maths_that_tex_would_read_as_something_else_is_refused(markup: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        checked(markup)


def test_large_numbers_keep_their_digits() -> None:
    assert [value_text(1_234_567), value_text(1_234_568), value_text("123e4")] == [
        "1234567",
        "1234568",
        "1230000",
    ]
    assert [value_text(10.0), value_text(1e-5), value_text(0.1 + 0.2)] == ["10", "1e-05", "0.3"]
