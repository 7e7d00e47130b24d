"""A network that prompts: the pixels of a tile in, the dense prompt of a frozen SAM out.

Shaharabany et al. 2023, AutoSAM: Adapting SAM to Medical Images by Overloading the Prompt Encoder,
https://arxiv.org/abs/2306.06370. The idea is theirs; the network is a small U-Net of our own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

MULTIPLE = 32
"""Height and width of the input are multiples of this: five halvings."""
FINEST = 4
"""Tile pixels for each cell of the map that the dense prompt is folded from."""
_NEAR_REST = 0.1


@dataclass(frozen=True)
class PrompterConfig:
    """Sizes of a `DensePrompter`."""

    channels: int
    """Of the dense prompt, as the checkpoint's prompt encoder has them."""

    patch: int
    """Tile pixels for each cell of the dense prompt."""

    widths: tuple[int, ...] = (24, 48, 80, 112, 144)
    """Channels at strides 2, 4, 8, 16 and 32."""

    depths: tuple[int, ...] = (0, 1, 1, 2, 1)
    """Residual blocks at those strides."""

    def __post_init__(self) -> None:
        if len(self.widths) != 5 or len(self.depths) != 5:
            raise ValueError(
                f"PrompterConfig has {len(self.widths)} widths and {len(self.depths)} depths; "
                "both must have 5 entries, one for each stride from 2 to 32."
            )
        if self.patch % FINEST:
            raise ValueError(
                f"PrompterConfig has cells of {self.patch} px; they must be a multiple of {FINEST}."
            )


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each cell.

    It keeps no running figures, so that the parameters are all there is to save, and looks at no
    other cell: a tile that is one colour everywhere still has that colour.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape, (n, channels, y, x)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two convolutions beside an identity; it starts as that identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = ChannelNorm(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape, (n, width, y, x)."""
        return x + self.second(functional.relu(self.norm(self.first(x))))


class Down(nn.Sequential):
    """Halve a map."""

    def __init__(self, fine: int, coarse: int) -> None:
        conv = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        super().__init__(conv, ChannelNorm(coarse), nn.ReLU())


class Whole(nn.Module):
    """What the whole tile looks like, added to every cell: a colour is judged against the rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.far = nn.Linear(2 * width, width)
        nn.init.zeros_(self.far.weight)
        nn.init.zeros_(self.far.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keep the shape, (n, width, y, x)."""
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        return x + self.far(pooled)[:, :, None, None]


class Up(nn.Module):
    """Bring a coarse map to the next finer stride and mix it with the encoder's map."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(coarse, fine, 1)
        self.mix = nn.Sequential(nn.Conv2d(fine, fine, 3, padding=1), ChannelNorm(fine), nn.ReLU())

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Maps (n, coarse, y, x) and (n, fine, 2 y, 2 x) into one like the fine map."""
        raised = functional.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")
        return self.mix(raised + fine)


class DensePrompter(nn.Module):
    """U-Net from stretched pixels to the dense prompt of one checkpoint.

    Parameters
    ----------
    config : PrompterConfig
        Sizes.
    rest : torch.Tensor, (channels,), optional
        What the checkpoint takes as "no dense prompt"; zero without it.
    reach : torch.Tensor, (channels,), optional
        How far from it a prompt of the checkpoint's own goes; one without it.

    Notes
    -----
    The prompt is ``rest + reach * tanh(...)``. It starts near `rest`, where the frozen decoder
    answers as without prompts, and stays about where the decoder has seen prompts; `reach` is
    trained as well.
    """

    rest: torch.Tensor

    def __init__(
        self,
        config: PrompterConfig,
        rest: torch.Tensor | None = None,
        reach: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        widths, depths, channels = config.widths, config.depths, config.channels
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1), nn.ReLU()
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        pairs = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList(Down(fine, coarse) for fine, coarse in pairs)
        self.whole = Whole(widths[-1])
        # The finest map only feeds the encoder: no cell of a prompt is as small as that.
        self.ups = nn.ModuleList(Up(coarse, fine) for fine, coarse in reversed(pairs[1:]))
        fold = config.patch // FINEST
        self.head = nn.Conv2d(widths[1], channels, fold, stride=fold)
        nn.init.normal_(self.head.weight, std=_NEAR_REST / (widths[1] ** 0.5 * fold))
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.register_buffer("rest", torch.zeros(channels) if rest is None else rest.clone())
        self.reach = nn.Parameter(torch.ones(channels) if reach is None else reach.clone())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Dense prompts of some tiles.

        Parameters
        ----------
        pixels : torch.Tensor, (n, 3, y, x)
            What the model sees: stretched, 0 to 1, nodata 0.5. y and x are multiples of 32.

        Returns
        -------
        torch.Tensor, (n, channels, y / patch, x / patch)

        Raises
        ------
        ValueError
            If the height or the width is not a multiple of 32.
        """
        height, width = pixels.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(
                f"DensePrompter got {height} x {width} px; height and width must be "
                f"multiples of {MULTIPLE}. Pad the tile with 0.5."
            )
        bounded = torch.tanh(self.head(self._features((pixels - 0.5) * 4)))
        return self.rest[:, None, None] + self.reach[:, None, None] * bounded

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """Map at stride 4, (n, widths[1], y / 4, x / 4)."""
        maps = [self.stages[0](self.stem(x))]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            maps.append(stage(down(maps[-1])))
        x = self.whole(maps.pop())
        for up in self.ups:
            x = up(x, maps.pop())
        return x
