"""Any model of timm that gives feature maps, as a backbone (`pip install 'occse[timm]'`)."""

from typing import Any

import torch
from torch import Tensor, nn

from occse.data.normalize import IMAGENET_MEAN, IMAGENET_STD
from occse.networks.backbones.backbone import Backbone

# Ways to ask a model for its maps, best first: convolutions dilated to a stride of 8, as in the
# paper, or of 16; transformers for images of any size; what the model does on its own.
OPTIONS: tuple[dict[str, Any], ...] = (
    {"output_stride": 8},
    {"output_stride": 16},
    {"dynamic_img_size": True},
    {},
)
# As many maps as `Backbone.taps` returns.
TAPS = 3
# A height and a width that no model was made for, and in which every stride fits.
PROBE_SIZE = (64, 96)


class TimmBackbone(Backbone):
    """The three deepest feature maps of a model, dilated to a stride of 8 where the model allows.

    Transformers keep their own stride (16 or 32), since they have no convolution to dilate.

    Images come with ImageNet's mean and deviation. A model that timm trained with others, as many
    transformers were, is given them as in its training; 0 stays the mean colour.
    """

    def __init__(self, name: str) -> None:
        """Build the model without weights.

        Raises:
            ValueError: timm is not installed, has no such model, or the model has no feature maps.
        """
        super().__init__()
        self.name = name
        self.model = _features(name, pretrained=False)
        info: Any = self.model.feature_info
        channels = info.channels()[-TAPS:]
        self.channels = (channels[0], channels[1], channels[2])
        self.stride = info.reduction()[-1]
        self._affine = _own_normalization(name)

    def taps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three deepest maps, shallow to deep."""
        if self._affine:
            pairs = zip(images.unbind(-3), self._affine, strict=True)
            images = torch.stack([channel * scale + shift for channel, (scale, shift) in pairs], -3)
        first, second, deep = self.model(images)[-TAPS:]
        return first, second, deep

    def stem_layers(self) -> tuple[nn.Module, ...]:
        """Return the first module with weights."""
        for module in self.model.children():
            if any(True for _ in module.parameters()):
                return (module,)
        return ()

    def load_imagenet(self) -> None:
        """Load timm's pretrained weights, from its cache or its server.

        Raises:
            ValueError: there are none, or they are neither in the cache nor within reach.
        """
        try:
            pretrained = _features(self.name, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"timm/{self.name}: its pretrained weights are neither in timm's cache nor within "
                f"reach ({error}); set init to 'random' or to a file"
            ) from None
        self.model.load_state_dict(pretrained.state_dict())


def _own_normalization(name: str) -> tuple[tuple[float, float], ...]:
    """Return the factor and summand by channel from our input to the model's; () where they agree.

    They are numbers and not tensors: those would have to follow the model to its device.
    """
    import timm

    known: Any = timm.get_pretrained_cfg(name)
    if known is None or (known.mean, known.std) == (IMAGENET_MEAN, IMAGENET_STD):
        return ()
    ours = zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)
    theirs = zip(known.mean, known.std, strict=True)
    return tuple(
        (our_std / std, (our_mean - mean) / std)
        for (our_mean, our_std), (mean, std) in zip(ours, theirs, strict=True)
    )


def _features(name: str, *, pretrained: bool) -> nn.Module:
    """Build a model that returns its feature maps, the first way of `OPTIONS` that it knows."""
    try:
        import timm
    except ImportError:
        raise ValueError(
            f"timm/{name} needs timm; install it with pip install 'occse[timm]'"
        ) from None
    if not timm.is_model(name):
        raise ValueError(
            f"timm {timm.__version__} has no model {name!r}; timm.list_models() has all"
        )
    for options in OPTIONS:
        try:
            model: nn.Module = timm.create_model(
                name, features_only=True, pretrained=pretrained, **options
            )
        except (TypeError, NotImplementedError, AssertionError, RuntimeError):
            # The model knows no such option; the next ones ask for less.
            continue
        if _gives_maps(model):
            return model
    raise ValueError(f"timm/{name} gives no feature maps for images of any size")


def _gives_maps(model: nn.Module) -> bool:
    """Tell whether the model maps an image of any size to maps with their channels first."""
    training = model.training
    try:
        with torch.no_grad():
            maps = model.eval()(torch.zeros(1, 3, *PROBE_SIZE))
    except (AssertionError, RuntimeError):
        return False
    finally:
        model.train(training)
    info: Any = model.feature_info
    channels = info.channels()
    return len(maps) >= TAPS and [each.shape[1] for each in maps] == channels
