"""ModelCard: the contract that travels inside every artefact (checkpoint, ONNX, plan).

Whoever holds the file can run it right: the SDE that the network was trained with, how pictures are padded, what the
numbers mean, and which checkpoint it came from. JSON, with a schema version; in ONNX the value of the metadata
property `METADATA_KEY`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValueError, refuse
from ..system.decoding import convert
from ..system.parsing import parse_json, shown
from .margin import MAX_MARGIN
from .presets import PRESETS
from .samplers import ADJACENT_ONLY, plan_steps
from .sampling import Plan, Sampling, SamplingSettings
from .sde import SDES, DenoisingSDE, MeanRevertingSDE

if TYPE_CHECKING:
    from typing_extensions import Unpack

SCHEMA_VERSION = 1
METADATA_KEY = "irsde_card"
MAX_JSON = 65_536
PAD_MODES = ("reflect", "zero")
PRECISIONS = ("fp32", "fp16", "mixed", "int8")
DEFAULT_SAMPLER, DEFAULT_STEPS = PRESETS["balanced"].sampler, PRESETS["balanced"].steps


@dataclass(frozen=True)
class ModelCard:
    """What a runtime must know about a network.

    Attributes:
        network: class name, such as `ConditionalUNet`.
        settings: its hyper-parameters, as the class takes them.
        channels: of the picture (RGB: 3) or latent; inputs `x`, `mu` and output `eps` have as many.
        multiple_of: height and width of what the network sees must be multiples of it.
        pad_mode: how pictures are padded on the right and at the bottom to get there: `reflect` or `zero`.
        margin: pixels of reflection on all four sides of a picture that are restored with it and cut off at the end,
            from 0 to 256, for networks that go wrong at borders (`irsde_deploy.core.margin`). 0 for the reference's.
        sde: the SDE that the network was trained with.
        task: what it removes, such as `derain`; free text.
        sampler, steps: what to sample with where the user does not say.
        t0: the first timestep where the user does not say; None: T. Where the residual is forgotten before T, starting
            later spends the evaluations better (docs/samplers.md); for mean-reverting SDEs.
        precision: of the weights and activations: `fp32`, `fp16`, `mixed` or `int8`.
        calibrated: first and last timestep of the trajectory that INT8's ranges were measured along; None without INT8.
        global_operators: whether each output pixel depends on all of the picture, so that tiling changes the result.
        colour: order of a picture's channels: `RGB`.
        value_range: (0, 1) for pictures; None for latents, which have no fixed range.
        checkpoint_sha256: of the file that the weights came from.
        tool_version: of irsde-deploy.

    Raises:
        InvalidValueError: a field is out of range.
    """

    network: str
    settings: Mapping[str, Any]
    channels: int
    multiple_of: int
    pad_mode: str
    margin: int = field(default=0, kw_only=True)  # here, so that cards have it beside the padding
    sde: MeanRevertingSDE | DenoisingSDE
    task: str = ""
    sampler: str = DEFAULT_SAMPLER
    steps: int = DEFAULT_STEPS
    t0: int | None = None
    precision: str = "fp32"
    calibrated: tuple[int, int] | None = None
    global_operators: bool = True
    colour: str = "RGB"
    value_range: tuple[float, float] | None = (0.0, 1.0)
    checkpoint_sha256: str = ""
    tool_version: str = ""
    schema_version: int = field(default=SCHEMA_VERSION, kw_only=True)

    def __post_init__(self) -> None:
        refuse(self._rules())
        plan_steps(self.sde, self.sampler, self.steps, t0=self.t0)  # raises where these do not fit the SDE
        object.__setattr__(self, "settings", copy.deepcopy(dict(self.settings)))

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """(what no card may be, the sentence to say then)."""
        yield (
            self.schema_version != SCHEMA_VERSION,
            f"schema version {self.schema_version} is not the one that this irsde-deploy reads, {SCHEMA_VERSION}",
        )
        yield self.pad_mode not in PAD_MODES, f"pad_mode must be one of {PAD_MODES}, not {shown(self.pad_mode)}"
        yield self.precision not in PRECISIONS, f"precision must be one of {PRECISIONS}, not {shown(self.precision)}"
        yield not self._can_be_written(), "a text in it is no Unicode, or a number not finite"
        yield (
            self.colour != "RGB" or self.value_range not in (None, (0.0, 1.0)),
            f"pictures are RGB in the range 0..1 (latents have none), not {shown(self.colour)} in "
            f"{shown(self.value_range)}",
        )
        yield not 1 <= self.channels <= 256, f"channels must be from 1 to 256, not {self.channels}"
        yield not 1 <= self.multiple_of <= 4096, f"multiple_of must be from 1 to 4096, not {self.multiple_of}"
        yield not 0 <= self.margin <= MAX_MARGIN, f"margin must be from 0 to {MAX_MARGIN}, not {self.margin}"
        denoising = isinstance(self.sde, DenoisingSDE)
        yield (
            denoising and self.t0 is not None,
            "a Denoising-SDE starts where its noise is the picture's: its card has no t0",
        )
        if self.calibrated is not None:
            first, last = self.calibrated
            yield self.precision != "int8", f"calibrated is for INT8: a card of {self.precision} has none"
            yield (
                not self.sde.T >= first >= last >= 1,
                f"calibrated must be the first and the last timestep, falling within 1..{self.sde.T}, not "
                f"{shown(self.calibrated)}",
            )
        sees = "sees" if self.conditional else "does not see"
        yield (
            self.conditional == denoising,
            f"the SDE is of kind {self.sde.kind!r} and the network {sees} mu: mean-reverting goes with a network that "
            "sees mu, denoising with one that does not",
        )

    def _can_be_written(self) -> bool:
        """Whether all of it can stand in a file: JSON in UTF-8 holds no lone surrogates, and no NaN."""
        try:
            json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, default=str).encode()
        except ValueError:  # UnicodeEncodeError too
            return False
        return True

    @property
    def conditional(self) -> bool:
        """Whether the network sees mu; that of a Denoising-SDE does not."""
        return bool(self.settings.get("conditional", True))

    def __hash__(self) -> int:
        return hash(self.to_json())

    def plan(self, sampling: Sampling | None = None, **settings: Unpack[SamplingSettings]) -> Plan:
        """What a loop executes for these settings; what they leave open comes from the card.

        A quality stands for a sampler and at most as many steps as there are timesteps. A sampler that differs from the
        card's and cannot skip timesteps takes all of them. A noise level chooses the first timestep, where the noise is
        the picture's; a low one leaves fewer timesteps, and then fewer steps, than were asked for.

        Args:
            sampling: the settings; or in its place, or changing it, single ones by name, such as `steps=4`.

        Raises:
            InvalidValueError: settings that do not fit each other or the SDE.
        """
        sampling = Sampling.of(sampling, **settings)
        self._require_fitting(sampling)
        made_of = sampling.preset
        sampler, steps = (sampling.sampler, sampling.steps) if made_of is None else (made_of.sampler, made_of.steps)
        sampler, t0 = sampler or self.sampler, self._first_timestep(sampling)
        if made_of is not None or steps is None or sampling.noise_level is not None:
            first = self.sde.T if t0 is None else t0
            steps = first if sampler in ADJACENT_ONLY else min(self.steps if steps is None else steps, first)
        table = plan_steps(self.sde, sampler, steps, sampling.debias, t0)
        return Plan(table, sampler, sampling.clip, sampling.debias)

    def _first_timestep(self, sampling: Sampling) -> int | None:
        """The timestep that sampling starts from; None: T."""
        if sampling.noise_level is not None and isinstance(self.sde, DenoisingSDE):
            return self.sde.timestep_of(sampling.noise_level / 255)
        return self.t0 if sampling.t0 is None else sampling.t0

    def _require_fitting(self, sampling: Sampling) -> None:
        """Raise InvalidValueError where settings are for another kind of model."""
        if sampling.starts_blind(self.sde):
            raise InvalidValueError(
                "this model starts at the timestep that matches the picture's noise: give `noise_level` (standard "
                "deviation on the 0..255 scale; irsde_deploy.pictures.noise_level.estimate_noise estimates it) or `t0`"
            )
        if sampling.noise_level is not None and not isinstance(self.sde, DenoisingSDE):
            raise InvalidValueError(
                "a noise level chooses the first timestep of a Denoising-SDE: leave it out for this model, whose SDE "
                "is mean-reverting"
            )
        if sampling.clip and self.value_range is None:
            raise InvalidValueError("clip is for pictures; this network works on latents, which have no fixed range")

    def uncalibrated(self, timesteps: Iterable[int]) -> list[int]:
        """Those of some timesteps that lie outside of what INT8's ranges were measured along; none without INT8."""
        if self.calibrated is None:
            return []
        first, last = self.calibrated
        return [int(t) for t in timesteps if not last <= t <= first]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, in the order of the fields; `calibrated` and `margin` only where they are something."""
        card = {name: getattr(self, name) for name in self.__dataclass_fields__}
        card["settings"] = dict(self.settings)
        card["sde"] = {"kind": self.sde.kind, **asdict(self.sde)}
        card["value_range"] = list(self.value_range) if self.value_range else None
        if self.calibrated is None:
            del card["calibrated"]  # which only cards of INT8 have
        else:
            card["calibrated"] = list(self.calibrated)
        if not self.margin:
            del card["margin"]  # the card is then, byte for byte, that of earlier versions, which know of none
        return card

    def to_json(self) -> str:
        """Compact JSON: the same card gives the same text."""
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read what `to_json` wrote.

        Raises:
            InvalidValueError: not JSON, too long, fields missing or of the wrong type, or values out of range.
        """
        return cls.from_dict(parse_json(text, _WHAT, MAX_JSON))

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> ModelCard:
        """Read what `to_dict` made; unknown fields are refused, since ignoring one could change the result."""
        return convert(card, cls, _WHAT, _ADVICE, parts={"sde": _sde})


def require_fallback_of(card: ModelCard, fallback: ModelCard) -> None:
    """Raise InvalidValueError unless a fallback's card is of the same model as this one, in FP32."""
    if fallback.precision != "fp32":
        raise InvalidValueError(
            f"the fallback is {fallback.precision} itself: give one that was made with `precision` fp32"
        )
    for name in ("network", "sde", "channels", "pad_mode", "margin", "checkpoint_sha256"):
        mine, other = getattr(card, name), getattr(fallback, name)
        if mine != other:
            raise InvalidValueError(
                f"the fallback is of another model: its {name} is {other}, and this one's is {mine}"
            )


_WHAT = "the model card"
_ADVICE = "export the model again, or use the irsde-deploy it was made with"


def _sde(values: Any) -> MeanRevertingSDE | DenoisingSDE:
    """The SDE of the kind that its values name."""
    values = dict(values) if isinstance(values, Mapping) else {}
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in SDES:
        raise InvalidValueError(
            f"the model card's SDE is of kind {shown(kind)}; this irsde-deploy knows {', '.join(SDES)}"
        )
    sde: Callable[..., MeanRevertingSDE | DenoisingSDE] = SDES[kind]
    return convert(values, sde, "the model card's SDE", _ADVICE)
