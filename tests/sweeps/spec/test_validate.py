"""Errors of sweep files: the line, the key, and what would be accepted."""

from pathlib import Path

import pytest

from sweeps.spec.trials import Spec, load_spec, trials

HEAD = "name: s\nquestion: why?\n"


def refusal(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        load_spec(path)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_values_that_are_good_only_together_are_accepted(tmp_path: Path) -> None:
    sizes = "{data.kind: shapes, data.num_train: 20, data.num_scored: 5}"
    (tmp_path / "spec.yaml").write_text(f"{HEAD}base: {sizes}\nvariants: {{a: {sizes}}}\n")
    assert len(trials(load_spec(tmp_path / "spec.yaml"))) == 1
    (tmp_path / "spec.yaml").write_text(
        f"{HEAD}base: {{data.kind: shapes}}\ngrid: {{data.num_train: [20], data.num_scored: [5]}}\n"
    )
    assert len(trials(load_spec(tmp_path / "spec.yaml"))) == 1


BAD = {
    "unknown key": (
        "grids: {}\nbaseline: {}\n",
        3,
        "grids: unknown key; did you mean 'grid'? allowed are name, question",
    ),
    "no trials": (
        "seeds: 2\n",
        1,
        "grid: expected at least one trial, got none; give `grid`, `variants`, `search` or",
    ),
    "axis without values": (
        "grid:\n  oc.lr: [1]\n  cgnet.lr: []\n",
        5,
        "grid.cgnet.lr: expected a list of at least one value, or a range",
    ),
    "axis that is not a list": (
        "grid:\n  cgnet.lr: 0.1\n",
        4,
        "grid.cgnet.lr: expected a list of at least one value",
    ),
    "axis value out of range": (
        "grid:\n  cgnet.lr:\n    - 0.1\n    - -1\n",
        6,
        "cgnet.lr: Input should be greater than 0, got -1",
    ),
    "axis value unknown": (
        "grid:\n  cgnet.erasing: [cse,\n    cze]\n",
        5,
        "cgnet.erasing: Input should be 'cse' or 'class_agnostic', got 'cze'",
    ),
    "axis value not finite": ("grid:\n  cgnet.lr: [.nan]\n", 4, "cgnet.lr: Input should be"),
    "axis without a knob": (
        "grid:\n  cgnet.lrr: [1, 2]\n",
        4,
        "cgnet.lrr: matches no knob; the nearest are cgnet.lr",
    ),
    "base value": (
        "baseline: {}\nbase:\n  '*.lr': 1\n  oc.epochs: x\n",
        6,
        "oc.epochs: Input should be a valid integer",
    ),
    "base pattern": (
        "baseline: {}\nbase:\n  '*.lr': -1\n",
        5,
        "*.lr: Input should be greater than 0, got -1 (for pretrain.lr)",
    ),
    "variant value": (
        "variants:\n  a: {}\n  b:\n    cam.source: cg\n",
        6,
        "cam.source: Input should be 'cgnet', 'oc' or 'cams', got 'cg'",
    ),
    "variant data": (
        "variants: {a: {data.kind: shapes, data.digest: x}}\n",
        3,
        "data.digest: matches no knob",
    ),
    "baseline value": (
        "baseline:\n  crf.alpha: 0\n",
        4,
        "crf.alpha: Input should be greater than 0, got 0",
    ),
    "variant called baseline": (
        "variants:\n  baseline: {}\n",
        4,
        "variants.baseline: expected the baseline under the key",
    ),
    "two knobs at odds": (
        "grid:\n  data.num_train: [50, 20]\n  data.num_scored: [5, 30]\n"
        "base: {data.kind: shapes}\n",
        3,
        "num_train=20, num_scored=30: data: ",
    ),
    "base at odds": (
        "baseline: {}\nbase:\n  data.kind: shapes\n  data.num_train: 10\n",
        6,
        "data: ",
    ),
    "range without an end": (
        "grid:\n  cgnet.lr: {from: 1, to: 2}\n",
        4,
        "cgnet.lr: expected `step` or `num` in the range",
    ),
    "range of a point": ("grid:\n  oc.lr: {from: 1, to: 1, num: 3}\n", 4, "must be below `to`"),
    "range backwards": (
        "grid:\n  oc.lr:\n    {from: 2, to: 1, num: 3}\n",
        4,
        "grid.oc.lr: `from` must be below `to`",
    ),
    "range from a text": (
        "grid:\n  oc.lr:\n    from: a\n    to: 2\n",
        5,
        "grid.oc.lr.from: expected a number",
    ),
    "key of a range": (
        "grid:\n  oc.lr: {frm: 1, to: 2}\n",
        4,
        "frm: unknown key; did you mean 'from'?",
    ),
    "range of values out of range": (
        "grid:\n  pseudo.beta: {from: 0, to: 2, step: 1}\n",
        4,
        "pseudo.beta: Input should be greater than 0, got 0",
    ),
    "knobs together, one value": (
        "grid:\n  crf.alpha, pseudo.beta:\n  - [4, 8]\n  - 4\n",
        4,
        "expected a list of 2 values for the 2 knobs that move together, got 4",
    ),
    "knobs together, unknown": (
        "grid:\n  crf.alpha, pseudo.bta: [[4, 8]]\n",
        4,
        "pseudo.bta: matches no knob; the nearest are",
    ),
    "condition": (
        "grid:\n  crf.alpha:\n    values: [4]\n    when: cam.sorce == 1\n",
        6,
        "grid.crf.alpha.when: 'cam.sorce' is not a knob",
    ),
    "constraint": (
        "baseline: {}\nconstraints:\n- crf.alpha < 50\n- crf.alpha <\n",
        6,
        "constraints.1: 'crf.alpha <' is not an expression; allowed are knobs",
    ),
    "constraint without a value": (
        "grid: {crf.alpha: [4]}\nconstraints:\n- crf.alpha < cam.source\n",
        5,
        "has no value where crf.alpha is 4, cam.source is 'cgnet'",
    ),
    "constraints that nothing satisfies": (
        "grid: {crf.alpha: [4]}\nconstraints: [crf.alpha > 4]\n",
        4,
        "constraints: no trial satisfies all of them",
    ),
    "variant against a constraint": (
        "variants:\n  a: {}\n  b:\n    crf.alpha: 1\nconstraints: [crf.alpha > 4]\n",
        5,
        "variants.b: breaks one of the constraints",
    ),
    "derived from itself": (
        "baseline: {}\nbase:\n  crf.alpha: =crf_low.alpha\n  crf_low.alpha: =crf.alpha + 1\n",
        3,
        "crf_low.alpha <- crf.alpha <- crf_low.alpha: these values are derived from each other",
    ),
    "derived out of range": (
        "baseline:\n  crf.alpha: =crf_low.alpha - 4\n",
        3,
        "alpha=0: crf.alpha: Input should be greater than 0, got 0",
    ),
    "derived for no knob": ("baseline:\n  crf.alpa: =1 + 1\n", 4, "crf.alpa"),
    "design of three values": (
        "design: leave_one_out\ngrid:\n  crf.alpha: [4, 6, 8]\n",
        5,
        "grid.crf.alpha: `leave_one_out` expects two values, without and with, got (4 6 8)",
    ),
    "seeds of a stage without": (
        "baseline: {}\nseeds:\n  crf: 2\n",
        5,
        "seeds: no stage 'crf' here; allowed are",
    ),
    "seeds twice": (
        "baseline: {}\nseeds: {oc: 2}\nseed_stages: [oc]\n",
        5,
        "seed_stages: expected a number of `seeds` beside it",
    ),
    "gate without a rule": (
        "baseline: {}\ngates:\n- after: cam\n",
        5,
        "gates.0: give one of `top_k`, `asha`",
    ),
    "gate after": (
        "baseline: {}\ngates:\n- {after: oc, asha: 2}\n",
        5,
        "gates.0.after: expected a scored stage, one of cam, crf",
    ),
    "gate behind the targets": (
        "baseline: {}\ntargets: [crf]\ngates:\n- {after: pseudo, asha: 2}\n",
        6,
        "gates.0.after: expected a stage that `targets` need, got 'pseudo'",
    ),
    "two gates at one place": (
        "baseline: {}\ngates:\n- {after: cam, asha: 2}\n- {after: cam, top_k: 2}\n",
        6,
        "gates.1.after: expected one gate after a stage, got a second one after 'cam'",
    ),
    "gate by": (
        "baseline: {}\ngates:\n- {after: cam, asha: 2, by: backbone}\n",
        5,
        "expected a knob such as cgnet.backbone, got 'backbone'",
    ),
    "margin to nothing": (
        "variants: {a: {}}\ngates:\n- {after: cam, margin: 0}\n",
        5,
        "give `baseline`",
    ),
    "limit": (
        "baseline: {}\nlimits: {gpu_hours: 0}\n",
        4,
        "limits.gpu_hours: Input should be greater than 0, got 0",
    ),
    "limit key": (
        "baseline: {}\nlimits: {gpuhours: 1}\n",
        4,
        "gpuhours: unknown key; did you mean 'gpu_hours'?",
    ),
    "search beside a grid": (
        "grid: {crf.alpha: [1]}\n"
        "search: {trials: 3, objectives: {pseudo/miou: max}, space: {oc.lr: [1]}}\n",
        3,
        "grid: expected at most `baseline` beside `search`",
    ),
    "search without a space": (
        "search:\n  trials: 3\n  objectives: {pseudo/miou: max}\n",
        3,
        "search.space: this key is missing; search has trials, space, objectives",
    ),
    "objective": (
        "search:\n  trials: 3\n  objectives:\n    pseudo/mio: max\n  space: {oc.lr: [1]}\n",
        6,
        "search.objectives: no trial has 'pseudo/mio'; did you mean 'pseudo/miou'?",
    ),
    "space value": (
        "search:\n  trials: 3\n  objectives: {crf/miou: max}\n"
        "  space:\n    crf.alpha: {from: 0, to: 4}\n",
        7,
        "crf.alpha: Input should be greater than 0, got 0",
    ),
    "values of a grid in a space": (
        "search:\n  trials: 3\n  objectives: {crf/miou: max}\n"
        "  space:\n    crf.alpha: {from: 1, to: 4, num: 3}\n",
        7,
        "crf.alpha: expected a range with or without `step`",
    ),
    "two axes for one knob": (
        "grid:\n  oc.lr: [1]\n  '*.lr': [1]\n",
        5,
        "*.lr: oc.lr is already set by the axis 'oc.lr'; set it in one place",
    ),
    "axis and variant": (
        "grid:\n  oc.lr: [1]\nvariants:\n  a:\n    oc.lr: 1\n",
        7,
        "oc.lr: oc.lr is already set by the axis 'oc.lr'",
    ),
    "seed beside seeds": (
        "grid:\n  oc.seed: [1]\n",
        4,
        "oc.seed: oc.seed is already set by `seeds`; leave its stage out of `seed_stages`",
    ),
    "base seed": (
        "baseline: {}\nbase:\n  '*.seed': 1\n",
        5,
        "*.seed: pretrain.seed is already set by `seeds`",
    ),
    "seeds": ("baseline: {}\nseeds: 0\n", 4, "seeds: expected a count of at least 1"),
    "seeds text": (
        "baseline: {}\nseeds: many\n",
        4,
        "seeds: expected a count of at least 1 (3 means the seeds 0, 1, 2) or a list",
    ),
    "seed list": (
        "baseline: {}\nseeds:\n- 1\n- -2\n",
        6,
        "seeds.1: Input should be greater than or equal to 0, got -2",
    ),
    "seed twice": ("baseline: {}\nseeds: [1, 1]\n", 4, "seeds: the same value stands here twice"),
    "seed stage": (
        "baseline: {}\nseed_stages: [oc, crf]\n",
        4,
        "seed_stages: no stage 'crf' here; allowed are pretrain, oc",
    ),
    "target": (
        "baseline: {}\ntargets: [segg]\n",
        4,
        "targets: no stage 'segg' here; did you mean 'seg'?",
    ),
    "profile": (
        "baseline: {}\nprofile: paperr\n",
        4,
        "profile: no profile 'paperr'; the profiles are",
    ),
    "resources stage": (
        "baseline: {}\nresources:\n  gcnet: {}\n",
        5,
        "resources: no stage 'gcnet' here; did you mean 'cgnet'?",
    ),
    "resources key": (
        "baseline: {}\nresources:\n  oc: {gpus: 1}\n",
        5,
        "gpus: unknown key; did you mean 'num_gpus'?",
    ),
    "resources value": (
        "baseline: {}\nresources:\n  oc:\n    num_cpus: -1\n",
        6,
        "resources.oc.num_cpus: Input should be greater",
    ),
    "part of two GPUs": (
        "baseline: {}\nresources:\n  oc: {num_gpus: 1.5}\n",
        5,
        "expected a whole number above 1, got 1.5",
    ),
    "data root": (
        "baseline: {}\ndata_root: nowhere\n",
        4,
        "data_root: expected the folder of the data set; nowhere is not a folder",
    ),
    "too many": ("grid:\n  oc.lr: &x []\n", 4, "the anchor or alias 'x'; write the values out"),
    "duplicate key": (
        "grid: {}\nseeds: 1\ngrid: {}\n",
        5,
        "grid: this key stands here twice, first on line 3",
    ),
    "duplicate axis": (
        "grid:\n  oc.lr: [1]\n  oc.lr: [2]\n",
        5,
        "oc.lr: this key stands here twice, first on line 4",
    ),
    "alias": ("base: {oc.lr: 1}\ngrid: *x\n", 4, "the anchor or alias 'x'"),
    "tag": (
        "grid: !!python/object:os.system {}\n",
        3,
        "the tag 'tag:yaml.org,2002:python/object:os.system'",
    ),
    "second document": ("baseline: {}\n---\nname: t\n", 4, "a second document"),
    "nesting": ("grid: " + "[" * 5000, 3, "nested deeper than 20 levels"),
    "key that is not a text": (
        "variants:\n  1: {}\n",
        4,
        "'1' is not a key; expected text (put quotes around it)",
    ),
    "key that is a list": ("variants:\n  ? [a]\n  : {}\n", 4, "a list is not a key"),
    "bad date": (
        "baseline: {}\nprofile: 2024-99-99\n",
        4,
        "'2024-99-99' is not a plain value: YAML 1.1 reads it as timestamp",
    ),
    "octal number": (
        "base:\n  oc.batch_size: 010\n",
        4,
        "'010' is not a plain value: YAML 1.1 reads it as int; expected a decimal number",
    ),
    "sexagesimal number": ("base: {oc.batch_size: 1:30}\n", 3, "'1:30' is not a plain value"),
    "number with underscores": ("base: {oc.batch_size: 1_0}\n", 3, "'1_0' is not a plain value"),
    "yes": ("base: {cam.flip: yes}\n", 3, "'yes' is not a plain value: YAML 1.1 reads it as bool"),
    "octal seed": ("baseline: {}\nseeds: [7,\n 010]\n", 5, "'010' is not a plain value"),
    "octal name of a variant": ("variants: {010: {}}\n", 3, "'010' is not a plain value"),
    "seed beyond 64 bits": (
        "baseline: {}\nseeds: [99999999999999999999]\n",
        4,
        "seeds.0: Input should be less than 18446744073709551616",
    ),
    "more seeds than trials": (
        "baseline: {}\nseeds: 100000000\n",
        4,
        "seeds: expected a count of at most 10,000 seeds",
    ),
    "escape sequence in a name": (
        'variants: {"a\\e[31m": {}}\n',
        3,
        "the control character U+001B in 'a\\x1b[31m'; remove it",
    ),
    "direction mark in a name": ('baseline: {"\\u202ecrf": 1}\n', 3, "character U+202E"),
    "gate behind everything": (
        "baseline: {}\ngates:\n- {after: seg, asha: 2}\n",
        5,
        "gates.0.after: expected a stage before the last one that `targets` need, got 'seg'",
    ),
    "gate after a stage that no trial has": (
        "baseline: {}\ntargets: [seg]\ngates:\n- {after: crf, asha: 2}\n",
        6,
        "gates.0.after: expected a stage that a trial of this sweep needs, got crf",
    ),
    "label of no knob": (
        "baseline: {}\nlabels:\n  cgnet.lr: learning rate\n  cgnet.erase=cse: CSE\n",
        6,
        "labels: 'cgnet.erase' is not a knob; expected a key such as cgnet.erasing=cse",
    ),
    "label of no stage": ("baseline: {}\nlabels: {pseud: x}\n", 4, "did you mean 'pseudo'?"),
    "label of no score": ("baseline: {}\nlabels: {oc/miou: x}\n", 4, "no scored stage 'oc'"),
    "huge value": (
        f"base: {{oc.lr: {'9' * 500_000}}}\n",
        3,
        "999... (500,002 characters)",
    ),
    "no YAML": ("grid: [1\nbase: {}\n", 4, "this is not YAML: expected ',' or ']'"),
    "control character": (
        "baseline: {}\nexpect: a\x07b\n",
        4,
        "the character U+0007 is not allowed in YAML",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_with_its_line_and_key(case: str, tmp_path: Path) -> None:
    text, line, message = BAD[case]
    said = refusal(tmp_path, HEAD + text)
    assert said.startswith(f"spec.yaml:{line}: ")
    assert message in said
    assert "\n" not in said


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    lines = refusal(
        tmp_path, HEAD + "grid:\n  oc.lr: [0]\n  cgnet.lr: [1, -1]\ntargets: [x]\n"
    ).split("\n")
    assert [line.split(": ")[0] for line in lines] == ["spec.yaml:6", "spec.yaml:4", "spec.yaml:5"]


def test_grid_beyond_reason_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    axes = "".join(
        f"  {knob}: {list(range(1, 41))}\n"
        for knob in ("crf.alpha", "pseudo.beta", "oc.lr", "cgnet.lr")
    )
    refused = refusal(tmp_path, HEAD + "grid:\n" + axes)
    assert "spec.yaml:3: grid: expected at most 100,000 combinations, got 2,560,000" in refused


def test_spec_made_in_code_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"sweep s: cgnet\.lr: Input should be greater than 0"):
        trials(Spec(name="s", question="why?", grid={"cgnet.lr": [-1]}))
