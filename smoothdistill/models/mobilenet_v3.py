"""MobileNetV3 in one dimension: teacher and student of SMLDist."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from torch import nn
from torch.nn import functional

from smoothdistill.models.channels_last import arrange, convolve, normalize
from smoothdistill.models.network import Network, check_at_least, scaled_width
from smoothdistill.models.registry import register_model
from smoothdistill.models.simh_head import SIMHHead

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["MobileNetV31D"]

Table = Literal["teacher", "student"]
Head = Literal["linear", "simh", "simh-associative"]

_STEM_FILTERS = 64
_LAST_FILTERS = 512
_SQUEEZE = 4


class _Row(NamedTuple):
    """A bottleneck as published."""

    filters: int
    expansion: int
    kernel: int
    stride: int = 1
    activation: Literal["selu", "hardswish"] = "hardswish"
    is_squeezed: bool = False
    is_anchor: bool = False


_TABLES: dict[Table, tuple[_Row, ...]] = {
    "teacher": (
        _Row(64, 64, 3, 2, "selu", is_squeezed=True),
        _Row(128, 288, 3, 2, "selu"),
        _Row(128, 352, 3, 1, "selu"),
        _Row(256, 384, 5, 2, is_squeezed=True),
        _Row(256, 480, 7, 1, "selu", is_squeezed=True),
        _Row(256, 480, 5, 1, "selu", is_squeezed=True, is_anchor=True),
        _Row(512, 960, 3, 2),
        _Row(512, 800, 3),
        _Row(512, 736, 3),
        _Row(512, 736, 3),
        _Row(1024, 1920, 3, is_squeezed=True, is_anchor=True),
        _Row(1024, 2688, 3, is_squeezed=True),
        _Row(2048, 2688, 5, 2, is_squeezed=True),
        _Row(2048, 3840, 7, is_squeezed=True, is_anchor=True),
        _Row(2048, 3840, 5, is_squeezed=True),
    ),
    "student": (
        _Row(64, 64, 3, 2, "selu", is_squeezed=True),
        _Row(128, 352, 5, 2, "selu"),
        _Row(256, 384, 5, 2, is_squeezed=True),
        _Row(256, 480, 9, 1, "selu", is_squeezed=True, is_anchor=True),
        _Row(512, 960, 3),
        _Row(512, 800, 5, 2),
        _Row(1024, 1920, 5, is_squeezed=True, is_anchor=True),
        _Row(1024, 2688, 3, is_squeezed=True),
        _Row(2048, 2688, 5, 2, is_squeezed=True, is_anchor=True),
        _Row(2048, 3840, 9, is_squeezed=True),
    ),
}


@register_model("mobilenet-v3-1d")
class MobileNetV31D(Network):
    """A stem, inverted bottlenecks, a wide layer, the mean over time, and a head per task.

    Stem: convolution 3 with stride 2 (64 filters). Bottleneck: 1 x 1 to its expansion, depthwise
    convolution, squeeze-and-excitation where its row has one, 1 x 1 to its filters, plus its input
    where both agree; batch norm after each convolution, SELU or hard-swish by row. Then 1 x 1 to
    512, mean over time. Anchors are the bottlenecks whose maps SMLDist compares; those of teacher
    and student have equal shapes at equal widths.

    Args:
        num_classes: Number of classes per task, each at least 1, in the order of the heads.
        in_channels: Number of sensor channels, at least 1 (63 as published).
        window_samples: Window length, in samples, at least 1; 64 of them become 1 at the end.
        table: "teacher" (15 bottlenecks) or "student" (10).
        width: Factor of all widths, above 0; they are multiples of 8. At 1 and with 63 channels the
            layers before the heads have 77,404,000 parameters (teacher) and 52,313,120 (student);
            embedded devices want 0.1 to 0.25.
        head: "linear", or the memory head of SMLDist: "simh" (as published) or "simh-associative";
            see `SIMHHead`.
        is_compressed: Whether SIMH heads have their memory branch only, as `compress` leaves them.
        num_features: What the heads read, at least 1; by default 512 times the width. A narrower
            student can so take over the heads of its teacher.

    Shape:
        signals [batch, channels, time] -> {task: logits [batch, classes]}. Stages: the maps of the
        three anchors [batch, filters, time], and the features.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument breaks its rule.

    Source:
        SMLDist (arXiv 2107.07331), the tables of its released configuration; Howard et al.,
        Searching for MobileNetV3, ICCV 2019. Ours: `width`, any number of channels.
    """

    def __init__(
        self,
        num_classes: Mapping[str, int],
        in_channels: int = 3,
        window_samples: int = 100,
        table: Table = "teacher",
        width: float = 1.0,
        head: Head = "linear",
        is_compressed: bool = False,
        num_features: int | None = None,
    ) -> None:
        super().__init__(num_classes, in_channels, window_samples)
        for name, value, kinds in (("table", table, Table), ("head", head, Head)):
            if value not in get_args(kinds):
                allowed = ", ".join(f"'{kind}'" for kind in get_args(kinds))
                raise ValueError(f"`{name}` must be one of {allowed}, but is {value!r} instead.")
        if is_compressed and head == "linear":
            raise ValueError(
                "`head` must be 'simh' or 'simh-associative' where `is_compressed` "
                "is true, but is 'linear' instead."
            )
        self.head: Head = head
        stem = scaled_width(_STEM_FILTERS, width)
        self.stem = nn.Conv1d(in_channels, stem, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm1d(stem)
        bottlenecks, filters = [], stem
        for row in _TABLES[table]:
            scaled = row._replace(
                filters=scaled_width(row.filters, width),
                expansion=scaled_width(row.expansion, width),
            )
            bottlenecks.append(_Bottleneck(filters, scaled))
            filters = scaled.filters
        self.bottlenecks = nn.ModuleList(bottlenecks)
        self.num_features = (
            scaled_width(_LAST_FILTERS, width) if num_features is None else num_features
        )
        check_at_least("num_features", self.num_features, 1)
        self.last = nn.Conv1d(filters, self.num_features, 1, bias=False)
        self.last_norm = nn.BatchNorm1d(self.num_features)
        self._draw_weights()
        self.heads = nn.ModuleList(
            self._build_head(classes, is_compressed) for classes in num_classes.values()
        )

    def _draw_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)

    def _build_head(self, classes: int, is_compressed: bool) -> nn.Module:
        if self.head == "linear":
            return nn.Linear(self.num_features, classes)
        return SIMHHead(
            self.num_features,
            classes,
            "associative" if self.head == "simh-associative" else "published",
            is_compressed=is_compressed,
        )

    def stages(self, signals: Tensor) -> list[Tensor]:
        """Maps of the anchors, and the features."""
        anchors = []
        maps = functional.hardswish(
            normalize(self.stem_norm, convolve(self.stem, arrange(signals)))
        )
        for bottleneck in self.bottlenecks:
            maps = bottleneck(maps)
            if bottleneck.is_anchor:
                anchors.append(maps)
        maps = functional.hardswish(normalize(self.last_norm, convolve(self.last, maps)))
        return [*anchors, functional.hardswish(maps.mean(-1))]

    def compress(self) -> MobileNetV31D:
        """A network whose heads have their memory branch only; this one is left as it was.

        Raises:
            TypeError: If the heads are linear ones.
        """
        network = deepcopy(self)
        for place, head in enumerate(network.heads):
            if not isinstance(head, SIMHHead):
                raise TypeError(
                    "`head` must be 'simh' or 'simh-associative' for a network to be compressed, "
                    f"but is {self.head!r} instead."
                )
            network.heads[place] = head.compress()
        return network


class _Bottleneck(nn.Module):
    """1 x 1 out, depthwise, squeeze-and-excitation, 1 x 1 back; see `MobileNetV31D`."""

    def __init__(self, in_channels: int, row: _Row) -> None:
        super().__init__()
        self.is_anchor = row.is_anchor
        self.has_shortcut = row.stride == 1 and in_channels == row.filters
        self.activate = functional.selu if row.activation == "selu" else functional.hardswish
        self.expand = nn.Conv1d(in_channels, row.expansion, 1, bias=False)
        self.expand_norm = nn.BatchNorm1d(row.expansion)
        self.depthwise = nn.Conv1d(
            row.expansion,
            row.expansion,
            row.kernel,
            stride=row.stride,
            padding=(row.kernel - 1) // 2,
            groups=row.expansion,
            bias=False,
        )
        self.depthwise_norm = nn.BatchNorm1d(row.expansion)
        self.squeeze: nn.Linear | None = None
        if row.is_squeezed:
            inner = row.expansion // _SQUEEZE
            self.squeeze = nn.Linear(row.expansion, inner, bias=False)
            self.excite = nn.Linear(inner, row.expansion, bias=False)
        self.project = nn.Conv1d(row.expansion, row.filters, 1, bias=False)
        self.project_norm = nn.BatchNorm1d(row.filters)

    def forward(
        self, signals: Float[Tensor, "batch channels time"]
    ) -> Float[Tensor, "batch filters time_out"]:
        maps = self.activate(normalize(self.expand_norm, convolve(self.expand, signals)))
        maps = normalize(self.depthwise_norm, convolve(self.depthwise, maps))
        if self.squeeze is not None:
            share = functional.hardsigmoid(
                self.excite(functional.relu(self.squeeze(maps.mean(-1))))
            )
            maps = maps * share[:, :, None]
        maps = normalize(self.project_norm, convolve(self.project, self.activate(maps)))
        return signals.add(maps) if self.has_shortcut else maps
