"""The learned coarse water network of `river-tiny`: RGB pixels in, water logits out.

A plain convolutional U-Net, because on a processor it learns far faster than a
transformer.  It only has to say roughly where water is; a promptable model
draws the outline.
"""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geosam.models.packing import pack, unpack

MULTIPLE = 32
"""Height and width of the input are multiples of this: five halvings."""

Network = TypeVar("Network", bound=nn.Module)

_CONFIG_NAME = "config.json"
_WEIGHTS_NAME = "model.safetensors"
_ARCHITECTURE = "CoarseWaterNet"


@dataclass(frozen=True)
class CoarseConfig:
    """Sizes and input normalisation of a `CoarseWaterNet`."""

    widths: tuple[int, ...] = (32, 64, 96, 128, 128)
    """Channels at strides 2, 4, 8, 16 and 32."""

    depths: tuple[int, ...] = (0, 1, 2, 2, 1)
    """Residual blocks at those strides."""

    mean: float = 0.5
    """Subtracted from the stretched input; also the value that stands for nodata."""

    std: float = 0.25
    """Divides the input after the mean is subtracted."""

    def __post_init__(self) -> None:
        if len(self.widths) != 5 or len(self.depths) != 5:
            raise ValueError(
                f"CoarseConfig has {len(self.widths)} widths and {len(self.depths)} depths; "
                "both must have 5 entries, one for each stride from 2 to 32."
            )


class ConvNorm(nn.Sequential):
    """A 3x3 convolution, batch normalisation and, unless it is the last of a block, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, last: bool = False
    ) -> None:
        conv = nn.Conv2d(
            inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False
        )
        activation = nn.Identity() if last else nn.ReLU(inplace=True)
        super().__init__(conv, nn.BatchNorm2d(outputs), activation)

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch normalisation, before it is fused."""
        return cast("nn.BatchNorm2d", self[1])


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, dilation=dilation)
        self.second = ConvNorm(width, width, dilation=dilation, last=True)
        nn.init.zeros_(self.second.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape, (n, width, y, x)."""
        return functional.relu(x + self.second(self.first(x)))


class Context(nn.Module):
    """What the whole tile looks like, added to every pixel of the coarsest map.

    The pooled tile lets the network judge a colour against the rest of the tile
    instead of on its own.  It is normalised and starts at zero: free to grow, it
    drowned the pixels and the network learned nothing but tiles.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = Residual(width, dilation=2)
        self.settle = nn.LayerNorm(2 * width)
        self.far = nn.Linear(2 * width, width)
        nn.init.zeros_(self.far.weight)
        nn.init.zeros_(self.far.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape, (n, width, y, x)."""
        pooled = self.settle(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))
        return self.near(x + self.far(pooled)[:, :, None, None])


class Merge(nn.Module):
    """Bring a coarse map to the next finer stride and mix it with the encoder's map."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(coarse, fine, 1)
        self.mix = ConvNorm(fine, fine)

    def forward(self, coarse: torch.Tensor, finer: list[torch.Tensor]) -> torch.Tensor:
        """Map (n, coarse, y, x) and the last of `finer`, (n, fine, 2 y, 2 x), which is taken out of it,
        into one like that.

        The finest are the largest there are: none is held for longer than it is needed.
        """
        raised = functional.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")
        raised += finer.pop()
        return self.mix(raised)


class CoarseWaterNet(nn.Module):
    """U-Net from stretched RGB to water logits.

    Parameters
    ----------
    config : CoarseConfig
        Sizes and input normalisation.

    Notes
    -----
    The stem folds 2x2 pixels into channels, so the finest convolution works at
    half the resolution.  Logits come out at that resolution and are brought to
    the input's size bilinearly.
    """

    def __init__(self, config: CoarseConfig | None = None) -> None:
        super().__init__()
        self.config = config or CoarseConfig()
        widths, depths = self.config.widths, self.config.depths
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), ConvNorm(12, widths[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        pairs = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList(ConvNorm(fine, coarse, stride=2) for fine, coarse in pairs)
        self.context = Context(widths[-1])
        self.merges = nn.ModuleList(Merge(coarse, fine) for fine, coarse in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def half_size(self, pixels: torch.Tensor) -> torch.Tensor:
        """Water logits at half the input's resolution.

        Parameters
        ----------
        pixels : torch.Tensor, (n, 3, y, x)
            Red, green, blue after the scene's stretch, 0 to 1; nodata is 0.5.

        Returns
        -------
        torch.Tensor, (n, 1, y / 2, x / 2)
        """
        x = self.stages[0](self.stem((pixels - self.config.mean) / self.config.std))
        maps = [x]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            maps.append(stage(down(maps[-1])))
        x = self.context(maps.pop())
        for merge in self.merges:
            x = merge(x, maps)
        return self.head(x)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Water logits at the input's resolution.

        Parameters
        ----------
        pixels : torch.Tensor, (n, 3, y, x)
            Red, green, blue after the scene's stretch, 0 to 1; nodata is 0.5.
            y and x are multiples of 32.

        Returns
        -------
        torch.Tensor, (n, 1, y, x)

        Raises
        ------
        ValueError
            If the height or the width is not a multiple of 32.
        """
        height, width = pixels.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(
                f"CoarseWaterNet got {height} x {width} px; height and width must be "
                f"multiples of {MULTIPLE}. Pad the tile with 0.5."
            )
        logits = self.half_size(pixels)
        return functional.interpolate(
            logits, size=(height, width), mode="bilinear", align_corners=False
        )


def fuse_norms(net: Network) -> Network:
    """Fold every batch normalisation into the convolution before it, in place.

    Parameters
    ----------
    net : torch.nn.Module
        A network in evaluation mode.

    Returns
    -------
    torch.nn.Module
        The same network; its answers change by rounding alone.
    """
    for block in net.modules():
        if isinstance(block, ConvNorm) and isinstance(block[1], nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(cast("nn.Conv2d", block[0]), block.norm)
            block[1] = nn.Identity()
    return net


def save_coarse(net: CoarseWaterNet, folder: str | Path, bits: int = 16) -> None:
    """Write `config.json` and `model.safetensors` into a folder.

    Batch normalisations are folded in first: their variances do not fit into
    float16.

    Parameters
    ----------
    net : CoarseWaterNet
        Left as it is.
    folder : str or Path
        Created if it does not exist.
    bits : int
        Of a weight: 16, or 8 where size counts; see `geosam.models.packing`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architecture": _ARCHITECTURE, **asdict(net.config)}
    (folder / _CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")
    fused = fuse_norms(copy.deepcopy(net).eval())
    save_file(pack(fused.state_dict(), bits), folder / _WEIGHTS_NAME, metadata={"format": "pt"})


def load_coarse(folder: str | Path) -> CoarseWaterNet:
    """Load a network that `save_coarse` wrote, in float32, ready to predict.

    Parameters
    ----------
    folder : str or Path
        Holds `config.json` and `model.safetensors`.

    Returns
    -------
    CoarseWaterNet
        In evaluation mode, its batch normalisations folded into its convolutions.

    Raises
    ------
    ValueError
        If the folder holds another architecture.
    FileNotFoundError
        If one of the two files is missing.
    RuntimeError
        If the weights do not fit the configuration.
    """
    folder = Path(folder)
    config = json.loads((folder / _CONFIG_NAME).read_text())
    architecture = config.pop("architecture", None)
    if architecture != _ARCHITECTURE:
        raise ValueError(f"{folder} holds {architecture!r}; a coarse model is {_ARCHITECTURE!r}.")
    lists = {key: tuple(value) for key, value in config.items() if isinstance(value, list)}
    net = fuse_norms(CoarseWaterNet(CoarseConfig(**{**config, **lists})).eval())
    net.load_state_dict(unpack(load_file(folder / _WEIGHTS_NAME)))
    return net
