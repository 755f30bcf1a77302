"""ModelCard: the contract that travels inside every artefact (checkpoint, ONNX, plan).

Whoever holds the file can run it right: the SDE that the network was trained with, how pictures are padded, what the
numbers mean, and which checkpoint it came from. JSON, with a schema version; in ONNX the value of the metadata
property `METADATA_KEY`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValueError
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
        if self.schema_version != SCHEMA_VERSION:
            raise InvalidValueError(
                f"this model card has schema version {self.schema_version}; this irsde-deploy reads {SCHEMA_VERSION}: "
                "export the model again, or use the irsde-deploy it was made with"
            )
        if self.pad_mode not in PAD_MODES or self.precision not in PRECISIONS:
            raise InvalidValueError(
                f"pad_mode must be one of {PAD_MODES} and precision one of {PRECISIONS}, "
                f"not {self.pad_mode!r} and {self.precision!r}"
            )
        if self.colour != "RGB" or self.value_range not in (None, (0.0, 1.0)):
            raise InvalidValueError(
                f"pictures are RGB in the range 0..1 (latents have none), not {self.colour!r} in {self.value_range!r}"
            )
        if not 1 <= self.channels <= 256 or not 1 <= self.multiple_of <= 4096:
            raise InvalidValueError(
                f"channels must be 1..256 and multiple_of 1..4096, not {self.channels} and {self.multiple_of}"
            )
        plan_steps(self.sde, self.sampler, self.steps, t0=self.t0)  # raises where these do not fit the SDE
        if self.t0 is not None and isinstance(self.sde, DenoisingSDE):
            raise InvalidValueError("a Denoising-SDE starts where its noise is the picture's: its card has no t0")
        if self.calibrated is not None:
            self._require_span(self.calibrated)
        object.__setattr__(self, "settings", copy.deepcopy(dict(self.settings)))
        if self.conditional == isinstance(self.sde, DenoisingSDE):
            raise InvalidValueError(
                f"the SDE is of kind {self.sde.kind!r} and the network {'sees' if self.conditional else 'does not see'}"
                " mu: mean-reverting goes with a network that sees mu, denoising with one that does not"
            )

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
            first = int(t0) if isinstance(t0, Integral) else self.sde.T
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
        if sampling.blind_sde(self.sde):
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

    def _require_span(self, span: Sequence[int]) -> None:
        whole = all(isinstance(t, Integral) and not isinstance(t, bool) for t in span)
        if self.precision != "int8":
            raise InvalidValueError(f"calibrated is for INT8: a card of {self.precision} has none")
        if len(span) != 2 or not whole or not self.sde.T >= span[0] >= span[1] >= 1:
            raise InvalidValueError(
                f"calibrated must be the first and the last timestep, falling within 1..{self.sde.T}, not {span!r}"
            )

    def uncalibrated(self, timesteps: Iterable[int]) -> list[int]:
        """Those of some timesteps that lie outside of what INT8's ranges were measured along; none without INT8."""
        if self.calibrated is None:
            return []
        first, last = self.calibrated
        return [int(t) for t in timesteps if not last <= t <= first]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, in the order of the fields; `calibrated` only where it is something."""
        card = {name: getattr(self, name) for name in self.__dataclass_fields__}
        card["settings"] = dict(self.settings)
        card["sde"] = {"kind": self.sde.kind, **asdict(self.sde)}
        card["value_range"] = list(self.value_range) if self.value_range else None
        if self.calibrated is None:
            del card["calibrated"]  # which only cards of INT8 have
        else:
            card["calibrated"] = list(self.calibrated)
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
        if len(text) > MAX_JSON:
            raise InvalidValueError(f"a model card has at most {MAX_JSON} characters, not {len(text)}")
        try:
            card = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidValueError(f"the model card is not valid JSON ({error})") from None
        if not isinstance(card, dict):
            raise InvalidValueError("the model card must be a JSON object")
        return cls.from_dict(card)

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> ModelCard:
        """Read what `to_dict` made; unknown fields are refused, since ignoring one could change the result."""
        fields = {name: _typed(name, value) for name, value in card.items()}
        missing = sorted(_REQUIRED - fields.keys())
        if missing:
            raise InvalidValueError(f"the model card lacks {', '.join(missing)}")
        fields["sde"] = _sde(fields["sde"])
        for name in ("value_range", "calibrated"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


_REQUIRED = frozenset({"network", "settings", "channels", "multiple_of", "pad_mode", "sde", "schema_version"})
_TYPES: dict[str, type | tuple[type, ...]] = {
    "network": str,
    "settings": dict,
    "channels": int,
    "multiple_of": int,
    "pad_mode": str,
    "sde": dict,
    "task": str,
    "sampler": str,
    "steps": int,
    "t0": (int, type(None)),
    "precision": str,
    "calibrated": (list, type(None)),
    "global_operators": bool,
    "colour": str,
    "value_range": (list, type(None)),
    "checkpoint_sha256": str,
    "tool_version": str,
    "schema_version": int,
}


def _typed(name: str, value: Any) -> Any:
    if name not in _TYPES:
        raise InvalidValueError(f"the model card has the unknown field {name!r}: use the irsde-deploy it was made with")
    if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and _TYPES[name] is not bool):
        raise InvalidValueError(f"the model card's {name} has the wrong type: {value!r}")
    return value


def _sde(settings: dict[str, Any]) -> MeanRevertingSDE | DenoisingSDE:
    settings = dict(settings)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in SDES:
        raise InvalidValueError(f"the model card's SDE is of kind {kind!r}; this irsde-deploy knows {', '.join(SDES)}")
    try:
        return SDES[kind](**settings)
    except TypeError:
        raise InvalidValueError(
            f"the model card's SDE must have max_sigma, T, schedule and eps, not {', '.join(settings) or 'nothing'}"
        ) from None
