"""ResNet-38 and whole training steps on it, compared with the numbers of KAIST-vilab/OC-CSE.

Everything is computed in float64, so the differences do not depend on the processor. The recording
in float32 carries its own rounding; gradients and weights are compared with a second recording in
float64.
"""

import copy
import itertools
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest
import torch
from parity_inputs import hashed, parity
from torch import Tensor, nn

from occse.method.erasing import draw_class, erase, erasing_loss, erasing_targets
from occse.networks.affinity import AffinityNet
from occse.networks.backbones.resnet38 import ResNet38, from_official, to_official
from occse.networks.classifier import Classifier, logits
from occse.pipeline import Pipeline, override, profile
from occse.training.optimizer import Optimization, build_optimizer, set_lr

FORWARD = parity("resnet38d_forward")
STEP = parity("cse_step")
# The gradients of the same two updates, computed by the official code in float64.
EXACT = parity("cse_step_float64")
STEM = {"conv1a", "b2", "b2_1", "b2_2"}


def filled(prefix: str) -> Classifier:
    """Return a float64 classifier with the weights of `prefix`, given under the official names."""
    with torch.device("meta"):
        model = Classifier("resnet38", 20)
    model = model.double().to_empty(device="cpu").eval()
    shapes = {name: tuple(value.shape) for name, value in to_official(model.state_dict()).items()}
    # As in some of the official files there is no num_batches_tracked.
    state = {name: weight(prefix, name, shape) for name, shape in shapes.items() if shape}
    model.load_state_dict(from_official(state))
    return model


def weight(prefix: str, name: str, shape: tuple[int, ...]) -> Tensor:
    if len(shape) == 4:
        return hashed(prefix + name, shape, scale=(3 / np.prod(shape[1:])) ** 0.5)
    scale = 0.2 if name.endswith("running_var") else 0.1
    return hashed(
        prefix + name, shape, scale=scale, offset=float(name.endswith(("weight", "running_var")))
    )


@pytest.fixture(scope="module")
def networks() -> dict[str, Classifier]:
    """CGNet ("er") and the ordinary classifier ("cl")."""
    return {name: filled(f"{name}.") for name in ("er", "cl")}


def assert_close(ours: Tensor | np.ndarray, theirs: np.ndarray) -> None:
    """Compare float64 numbers with a recording in float32, whose rounding is below 1e-5."""
    atol = 1e-5 * float(np.abs(theirs).max())
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-4, atol=atol)


def test_weights_have_the_official_names_and_sums(networks: dict[str, Classifier]) -> None:
    official = to_official(networks["er"].state_dict())
    named = {name: value for name, value in official.items() if value.dim() > 0}
    assert list(named) == FORWARD["param_names"].tolist()
    sums = np.array([[value.sum().item(), value.abs().sum().item()] for value in named.values()])
    np.testing.assert_allclose(sums[:, 0], FORWARD["param_sum_er"], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(sums[:, 1], FORWARD["param_abs_er"], rtol=1e-9)


@pytest.mark.parametrize("size", [(64, 64), (61, 75)], ids=["64", "61x75"])
def test_parity_of_maps_logits_and_layers(
    size: tuple[int, int], networks: dict[str, Classifier]
) -> None:
    name = "64" if size == (64, 64) else "61x75"
    images = hashed(f"input.{name}", (1, 3, *size), scale=2.0)
    if name == "64":
        assert np.array_equal(images, FORWARD["input_64"])
    images = images.double()
    seen: dict[str, Tensor] = {}

    def watch(layer: str) -> Any:
        # The activation works in place: copy what the layer gave.
        return lambda module, inputs, output: seen.update({layer: output.clone()})

    backbone = networks["er"].backbone
    hooks = [
        backbone.get_submodule(layer).register_forward_hook(watch(layer))
        for layer in FORWARD["tap_names"]
    ]
    with torch.inference_mode():
        cams = {prefix: network(images) for prefix, network in networks.items()}
    for hook in hooks:
        hook.remove()
    for prefix in networks:
        assert_close(cams[prefix], FORWARD[f"cam_{prefix}_{name}"])
        assert_close(logits(cams[prefix]), FORWARD[f"out_{prefix}_{name}"])
    for layer, expected in zip(FORWARD["tap_names"], FORWARD[f"taps_{name}"], strict=True):
        output = seen[layer]
        statistics = torch.stack([output.mean(), output.std(), *output.flatten()[:5]])
        assert output.shape[1:] == tuple(expected[:3]), layer
        np.testing.assert_allclose(
            statistics, expected[3:], rtol=1e-4, atol=1e-5 * float(output.abs().max())
        )


def test_taps_are_activated_and_what_psa_s_affinity_net_reads(
    networks: dict[str, Classifier],
) -> None:
    backbone = networks["er"].backbone
    inputs: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        return lambda module, received: inputs.update({name: received[0].clone()})

    convolutions = {"conv4": "b5.conv_branch1", "conv5": "b6.conv_branch1"}
    hooks = [
        backbone.get_submodule(path).register_forward_pre_hook(watch(name))
        for name, path in convolutions.items()
    ]
    with torch.inference_mode():
        taps = backbone.taps(hashed("input.64", (1, 3, 64, 64), scale=2.0).double())
    for hook in hooks:
        hook.remove()
    assert [tap.shape for tap in taps] == [(1, channels, 8, 8) for channels in (512, 1024, 4096)]
    assert torch.equal(taps[0], inputs["conv4"])
    assert torch.equal(taps[1], inputs["conv5"])
    assert all(tap.min() == 0 for tap in taps)


def test_training_drops_whole_channels_in_b6_and_b7_only(networks: dict[str, Classifier]) -> None:
    backbone = networks["er"].backbone
    images = hashed("input.64", (1, 3, 64, 64), scale=2.0).double()
    entering: dict[str, Tensor] = {}
    layers = ("b6.conv_branch2b1", "b6.conv_branch2b2", "b7.conv_branch2b1", "b7.conv_branch2b2")

    def watch(layer: str) -> Any:
        return lambda module, received: entering.update({layer: received[0].clone()})

    hooks = [
        backbone.get_submodule(layer).register_forward_pre_hook(watch(layer)) for layer in layers
    ]
    with torch.inference_mode():
        calm = backbone.taps(images)
        torch.manual_seed(0)
        for module in backbone.modules():
            module.train(not isinstance(module, nn.BatchNorm2d) and not list(module.children()))
        shaken = backbone.taps(images)
    backbone.eval()
    for hook in hooks:
        hook.remove()
    assert torch.equal(calm[0], shaken[0])
    assert torch.equal(calm[1], shaken[1])
    assert not torch.equal(calm[2], shaken[2])
    # Some channels are silent without any dropout, hence the tolerance.
    silent = {
        layer: (value.amax((2, 3)) == 0).float().mean().item() for layer, value in entering.items()
    }
    assert silent == pytest.approx(
        {layer: 0.3 if layer < "b7" else 0.5 for layer in layers}, abs=0.09
    )


def test_official_names_lead_there_and_back() -> None:
    with torch.device("meta"):
        classifier, affinity = Classifier("resnet38", 20), AffinityNet("resnet38")
    names = dict.fromkeys(FORWARD["param_names"].tolist(), 0)
    assert to_official(from_official(names)) == names
    assert set(to_official(classifier.state_dict())) >= set(names)
    assert len(classifier.state_dict()) == 229
    heads = set(to_official(affinity.state_dict())) - set(to_official(classifier.state_dict()))
    assert heads == {"f8_3.weight", "f8_4.weight", "f8_5.weight", "f9.weight"}
    for model in (classifier, affinity):
        state = dict.fromkeys(model.state_dict(), 0)
        assert from_official(to_official(state)) == state


def test_names_of_no_official_file_stay_and_a_name_that_comes_twice_is_refused() -> None:
    foreign = {
        "b2_3.conv_branch2a.weight": 0,
        "linear.weight": 1,
        "head.0.weight": 2,
        "backbone.layer1.weight": 3,
    }
    assert to_official(foreign) == from_official(foreign) == foreign
    with pytest.raises(ValueError, match=r"two entries of the state dict mean 'head.weight'"):
        from_official({"fc8.weight": 0, "head.weight": 1})
    with pytest.raises(ValueError, match=r"two entries of the state dict mean 'bn7.bias'"):
        to_official({"bn7.bias": 0, "backbone.bn7.bias": 1})


@dataclass
class Update:
    """The results of one training step."""

    cams: Tensor
    mask: Tensor
    erased: Tensor
    oc_cams: Tensor
    parts: dict[str, float]
    gradient_norms: dict[str, float]
    head_gradient: Tensor
    lr: float


@dataclass
class Training:
    """The network and its two updates."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    updates: list[Update] = field(default_factory=list)


REFERENCE = override(Pipeline(), profile("reference")).cgnet
OFFICIAL = Optimization(
    **{
        knob.name: getattr(REFERENCE, knob.name)
        for knob in fields(Optimization)
        if hasattr(REFERENCE, knob.name)
    }
)
MAX_STEP = 10
EPOCHS = (0, 2)


@pytest.fixture(scope="module")
def training(networks: dict[str, Classifier]) -> Training:
    """Run the two updates of the recording, in epochs 0 and 2, without dropout."""
    model = copy.deepcopy(networks["er"])
    oc = networks["cl"].requires_grad_(False)
    done = Training(model, build_optimizer(model, OFFICIAL))
    images = hashed("input.cse", (2, 3, 64, 64), scale=2.0).double()
    labels = torch.from_numpy(STEP["label"]).double()
    for step, epoch in enumerate(EPOCHS):
        set_lr(done.optimizer, (1 - step / MAX_STEP) ** OFFICIAL.poly_power)
        cams = model(images)
        mask, remaining = erasing_targets(
            cams,
            labels,
            mode=REFERENCE.erasing,
            size=(64, 64),
            mask_max=REFERENCE.mask_max,
            generator=official_draw(labels),
        )
        erased = erase(images, mask)
        oc_cams = oc(erased)
        lambda_ = REFERENCE.lambda_start + REFERENCE.lambda_slope * epoch
        parts = erasing_loss(logits(cams), labels, logits(oc_cams), remaining, lambda_=lambda_)
        done.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        norms = {
            name: parameter.grad.norm().item()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        head_gradient = model.head.weight.grad.clone()
        done.optimizer.step()
        maps = (tensor.detach() for tensor in (cams, mask, erased, oc_cams))
        losses = {name: value.item() for name, value in parts.items()}
        lr = done.optimizer.param_groups[0]["lr"]
        done.updates.append(Update(*maps, losses, to_official(norms), head_gradient, lr))
    return done


def official_draw(labels: Tensor) -> torch.Generator:
    """Return a generator that draws the classes that the recording erased."""
    for seed in itertools.count():
        if np.array_equal(
            draw_class(labels, generator=torch.Generator().manual_seed(seed)), STEP["label_mask"]
        ):
            return torch.Generator().manual_seed(seed)
    raise AssertionError


def test_parity_of_maps_mask_and_erased_image_in_training(training: Training) -> None:
    first = training.updates[0]
    assert_close(first.cams, STEP["cam_er"])
    assert_close(logits(first.cams), STEP["out_er"])
    assert_close(first.mask, STEP["mask"])
    assert_close(first.erased, STEP["img_masked"])
    assert_close(first.oc_cams, STEP["cam_cl"])
    assert_close(logits(first.oc_cams), STEP["out_cl"])
    share = first.mask.amax((1, 2, 3))
    assert_close(
        share / share.max(), STEP["raw_mask_max_per_image"] / STEP["raw_mask_max_per_image"].max()
    )


def test_parity_of_losses_mask_maximum_and_rate_in_both_steps(training: Training) -> None:
    for epoch, update, (lambda_, loss_all, loss_select, mask_max, lr) in zip(
        EPOCHS, training.updates, STEP["steps"], strict=True
    ):
        assert lambda_ == pytest.approx(0.3 + 0.05 * epoch)
        parts = {"loss": loss_all + loss_select, "classification": loss_all, "erasing": loss_select}
        assert update.parts == pytest.approx(parts, rel=1e-4)
        assert update.mask.max().item() == pytest.approx(mask_max, rel=1e-6)
        assert update.lr == pytest.approx(lr, rel=1e-9)


def test_parity_of_every_layer_s_gradient(training: Training) -> None:
    first = training.updates[0]
    names = EXACT["grad_names"].tolist()
    assert sorted(first.gradient_norms) == names
    norms = [first.gradient_norms[name] for name in names]
    np.testing.assert_allclose(norms, EXACT["grad_norms"], rtol=1e-12)
    head = first.head_gradient.flatten(1)
    largest = float(np.abs(EXACT["grad_fc8"]).max())
    np.testing.assert_allclose(head, EXACT["grad_fc8"], rtol=0, atol=1e-12 * largest)
    assert head.norm().item() == pytest.approx(EXACT["grad_fc8_norm"].item(), rel=1e-12)


def test_parity_of_the_head_after_two_steps(
    training: Training, networks: dict[str, Classifier]
) -> None:
    head = training.model.head.weight.detach()
    absolute = head.abs().sum().item()
    sums = [head.sum().item(), absolute]
    np.testing.assert_allclose(sums, EXACT["fc8_after_sum"], rtol=0, atol=1e-12 * absolute)
    before = networks["er"].head.weight.detach()[0, :64, 0, 0].numpy()
    # The change is compared and not the weights, which are a hundred times larger.
    change, expected = head[0, :64, 0, 0].numpy() - before, EXACT["fc8_after_row0"] - before
    atol = 1e-12 * float(np.abs(before).max())
    np.testing.assert_allclose(change, expected, rtol=0, atol=atol)


def test_float32_gradient_of_the_head_is_that_of_float64_but_for_rounding(
    training: Training, networks: dict[str, Classifier]
) -> None:
    """Stages train in float32; on any processor its rounding stays below 1e-3 of the maximum."""
    model = copy.deepcopy(networks["er"]).float().requires_grad_(False)
    model.head.requires_grad_(True)
    oc = copy.deepcopy(networks["cl"]).float().requires_grad_(False)
    images, labels = hashed("input.cse", (2, 3, 64, 64), scale=2.0), torch.from_numpy(STEP["label"])
    cams = model(images)
    mask, remaining = erasing_targets(
        cams,
        labels,
        mode="cse",
        size=(64, 64),
        mask_max="batch",
        generator=official_draw(labels),
    )
    erased_logits = logits(oc(erase(images, mask)))
    lambda_ = REFERENCE.lambda_start
    erasing_loss(logits(cams), labels, erased_logits, remaining, lambda_=lambda_)["loss"].backward()
    exact = training.updates[0].head_gradient
    difference = (model.head.weight.grad.double() - exact).abs().max().item()
    assert 0 < difference < 1e-3 * exact.abs().max().item()


def test_parity_of_the_hits_among_the_highest_logits(training: Training) -> None:
    labels, erased = torch.from_numpy(STEP["label"]), torch.from_numpy(STEP["label_mask"])
    for index, truth in enumerate((labels, labels - erased)):
        maps = [update.oc_cams if index else update.cams for update in training.updates]
        right, wrong = np.sum([hits(logits(cams), truth) for cams in maps], axis=0)
        assert (right, wrong) == (STEP["right"][index], STEP["wrong"][index])


def hits(scores: Tensor, truth: Tensor) -> tuple[int, int]:
    """Count the labels that are, and are not, among the k highest scores of k labels."""
    right = wrong = 0
    for row, labels in zip(scores, truth, strict=True):
        present = labels.nonzero().flatten().tolist()
        highest = row.topk(len(present)).indices.tolist()
        hit = len(set(present) & set(highest))
        right += hit
        wrong += len(present) - hit
    return right, wrong


def test_optimizer_groups_are_the_official_ones_without_the_frozen_stem(training: Training) -> None:
    count, lr, momentum, decay, dampening, nesterov = STEP["optimizer"][0]
    for group in training.optimizer.param_groups:
        assert [
            group[key] for key in ("lr", "momentum", "weight_decay", "dampening", "nesterov")
        ] == pytest.approx([lr, momentum, decay, dampening, nesterov], rel=1e-9)
    moving = [
        parameter for group in training.optimizer.param_groups for parameter in group["params"]
    ]
    stem = [name for name, _ in training.model.named_parameters() if is_stem_convolution(name)]
    assert len(moving) == len(STEP["grad_names"]) == count - len(stem)
    assert all(parameter.requires_grad for parameter in moving)


def is_stem_convolution(name: str) -> bool:
    return name.split(".")[1] in STEM and "conv" in name


def test_steps_leave_stem_and_batch_norms_as_they_were(
    training: Training, networks: dict[str, Classifier]
) -> None:
    before, after = networks["er"].state_dict(), training.model.state_dict()
    kept = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert to_official(dict.fromkeys(before.keys() - kept)).keys() == set(
        STEP["grad_names"].tolist()
    )


def test_rates_are_x1_x2_x10_and_x20() -> None:
    """The recorded group rates, on a network that has every kind of parameter."""
    _, rate, *_ = STEP["optimizer"].T
    assert rate / rate[0] == pytest.approx([1, 2, 10, 20])
    model = nn.Module()
    model.backbone, model.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
    optimizer = build_optimizer(model, Optimization(**(vars(OFFICIAL) | {"head_lr": 10.0})))
    set_lr(optimizer, (1 - 1 / MAX_STEP) ** OFFICIAL.poly_power)
    ours = [
        (group["lr"], group["momentum"], group["weight_decay"]) for group in optimizer.param_groups
    ]
    np.testing.assert_allclose(ours, STEP["optimizer"][:, 1:4], rtol=1e-9)


def test_the_stem_is_what_the_official_code_freezes() -> None:
    with torch.device("meta"):
        backbone = ResNet38()
    stem = {id(module) for module in backbone.stem_layers()}
    assert {name for name, module in backbone.named_children() if id(module) in stem} == STEM
