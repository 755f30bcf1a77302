"""What rain, haze, shadow, a shaking hand, noise or compression make of a clean picture: one function each.

Each takes a clean picture (H, W, 3), float32 in [0, 1], and a random generator; the same picture, parameters and state
of the generator give the same result. Parameters that vary from picture to picture are ranges (low, high), drawn
uniformly; a single number fixes them. Lengths are in pixels. The order in which a function draws from the generator is
part of what it does: training samples and the committed pictures depend on it.

The models are the usual ones: additive streaks (Yang et al., Rain100H), the scattering law I = J e^-bd + A (1 - e^-bd)
(Koschmieder), multiplicative shadow, convolution by a motion or defocus kernel, additive noise.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels: TypeAlias = npt.NDArray[np.float32]
Range: TypeAlias = "float | tuple[float, float]"
"""A parameter: a number, or the (low, high) between which it is drawn."""


def rain(
    clean: Pixels,
    rng: np.random.Generator,
    layers: Range = (1, 4),
    coverage: Range = (0.02, 0.3),
    length: Range = (8, 60),
    width: Range = (0.6, 3.0),
    angle: Range = (-30, 30),
    strength: Range = (0.3, 1.0),
    softness: Range = (0.0, 1.0),
    textured: float = 0.5,
) -> Pixels:
    """Bright streaks added to the picture, in layers of their own direction, length and width.

    Args:
        clean: the picture.
        rng: source of randomness.
        layers: how many layers there are, rounded down.
        coverage: about how much of the picture the streaks of a layer cover.
        length, width: of a streak.
        angle: between a streak and the vertical, in degrees; the layers fall within 25 degrees of one direction.
        strength: brightness of a layer's streaks.
        softness: 0 for streaks with sharp edges, 1 for edges and ends that fade.
        textured: probability that a layer is noise smeared along its direction, as photo editors make rain; the others
            are single streaks of 40 to 100 % of the layer's strength.
    """
    height, size_x = clean.shape[:2]
    streaks = np.zeros((height, size_x), np.float32)
    main = _draw(rng, angle)
    for _ in range(int(_draw(rng, layers, upper_end=True))):
        long, wide = _draw(rng, length), _draw(rng, width)
        slant = float(np.clip(main + rng.uniform(-25, 25), min(_ends(angle)), max(_ends(angle))))
        kernel = _streak(long, slant, wide, _draw(rng, softness))
        # A layer is larger than the picture: streaks that begin outside it reach into it.
        margin = kernel.shape[0] // 2
        field = (height + 2 * margin, size_x + 2 * margin)
        make = _smeared_noise if rng.random() < textured else _single_streaks
        layer = make(rng, field, kernel, _draw(rng, coverage))
        streaks += _draw(rng, strength) * layer[margin : margin + height, margin : margin + size_x]
    return _clipped(clean + streaks[:, :, None])


def _single_streaks(rng: np.random.Generator, field: tuple[int, int], kernel: Pixels, coverage: float) -> Pixels:
    """Drops at random places, each drawn out to a streak by the kernel, of 40 to 100 % brightness."""
    # A drop covers as many pixels as its kernel has; the sum counts those at its edge in part.
    drops = rng.random(field, dtype=np.float32) < coverage / max(float(kernel.sum()), 1)
    brightness = np.where(drops, rng.uniform(0.4, 1.0, field), 0).astype(np.float32)
    return _clipped(cv2.filter2D(brightness, -1, kernel, borderType=cv2.BORDER_CONSTANT))


def _smeared_noise(rng: np.random.Generator, field: tuple[int, int], kernel: Pixels, coverage: float) -> Pixels:
    """Normal noise smeared by the kernel; the highest `coverage` of its values are streaks, the higher the brighter."""
    noise = rng.standard_normal(field, dtype=np.float32)
    smeared = cv2.filter2D(noise, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    level = np.quantile(smeared, 1 - coverage)
    spread = rng.uniform(0.3, 1.5) * smeared.std()
    return _clipped((smeared - level) / spread)


def haze(
    clean: Pixels,
    rng: np.random.Generator,
    density: Range = (0.5, 2.5),
    airlight: Range = (0.7, 1.0),
    unevenness: Range = (0.0, 0.5),
) -> Pixels:
    """Scattering: I = J e^(-density depth) + airlight (1 - e^(-density depth)).

    Args:
        clean: the picture, J.
        rng: source of randomness.
        density: of the haze over the farthest depth, which is 1.
        airlight: brightness of pure haze; each channel is within 3 % of it.
        unevenness: how much the depth wanders from a plane that recedes towards the top.
    """
    height, width = clean.shape[:2]
    plane = np.linspace(1, 0.2, height, dtype=np.float32)[:, None]
    # Never 0: the air between the picture and the camera scatters, too.
    depth = np.clip(plane + _draw(rng, unevenness) * _smooth_field(rng, height, width), 0.05, 1)
    through = np.exp(-_draw(rng, density) * depth)[:, :, None]
    light = _draw(rng, airlight) * rng.uniform(0.97, 1.03, 3)
    return _clipped(clean * through + light * (1 - through))


def shadow(
    clean: Pixels,
    rng: np.random.Generator,
    count: Range = (1, 3),
    size: Range = (0.2, 0.6),
    attenuation: Range = (0.2, 0.6),
    softness: Range = (0.5, 8.0),
) -> Pixels:
    """Soft-edged polygons that keep only part of the light, with a slight cast of their own.

    Args:
        clean: the picture.
        rng: source of randomness.
        count: how many polygons there are, rounded down.
        size: radius of a polygon as a share of the picture's longer side.
        attenuation: share of the light that is left inside.
        softness: standard deviation of the edge.
    """
    height, width = clean.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(_draw(rng, count, upper_end=True))):
        angles = np.sort(rng.uniform(0, 2 * math.pi, 9))  # in their order about the centre no two edges cross
        radius = _draw(rng, size) * max(height, width) * rng.uniform(0.6, 1.0, 9)
        centre = rng.uniform(0, (width, height))
        points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1.0)
    deviation = max(_draw(rng, softness), 0.1)  # OpenCV refuses 0
    soft = cv2.GaussianBlur(mask, (0, 0), deviation)[:, :, None]
    left = _draw(rng, attenuation) * rng.uniform(0.9, 1.1, 3)
    return _clipped(clean * (1 - soft * (1 - left)))


def motion_blur(
    clean: Pixels, rng: np.random.Generator, length: Range = (5, 25), angle: Range = (0, 180), noise: Range = (0, 2)
) -> Pixels:
    """Blur along a straight line, with a little sensor noise.

    Args:
        clean: the picture.
        rng: source of randomness.
        length: of the line.
        angle: between the line and the vertical, in degrees.
        noise: standard deviation on the 0..255 scale.
    """
    kernel = _line_kernel(_draw(rng, length), _draw(rng, angle), 1.0)
    return gaussian_noise(_convolved(clean, kernel / kernel.sum()), rng, noise)


def defocus_blur(clean: Pixels, rng: np.random.Generator, radius: Range = (1, 6), noise: Range = (0, 2)) -> Pixels:
    """Blur by a disc, with a little sensor noise.

    Args:
        clean: the picture.
        rng: source of randomness.
        radius: of the disc.
        noise: standard deviation on the 0..255 scale.
    """
    r = _draw(rng, radius)
    reach = np.arange(-math.ceil(r), math.ceil(r) + 1)
    # A pixel at the disc's edge counts by how much of it is inside, about.
    kernel = np.clip(r + 0.5 - np.hypot(reach[:, None], reach[None, :]), 0, 1).astype(np.float32)
    return gaussian_noise(_convolved(clean, kernel / kernel.sum()), rng, noise)


def gaussian_noise(clean: Pixels, rng: np.random.Generator, sigma: Range = 25.0, clip: bool = True) -> Pixels:
    """Independent normal noise of standard deviation sigma (0..255 scale); `clip` keeps the result in [0, 1]."""
    noisy: Pixels = clean + np.float32(_draw(rng, sigma) / 255) * rng.standard_normal(clean.shape, dtype=np.float32)
    if clip:
        return _clipped(noisy)
    return noisy.astype(np.float32)


def jpeg(clean: Pixels, rng: np.random.Generator, quality: Range = (10, 60)) -> Pixels:
    """JPEG compression at a quality of 1..100."""
    bgr = np.rint(clean[:, :, ::-1] * 255).astype(np.uint8)
    whole = int(np.clip(_draw(rng, quality), 1, 100))
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, whole])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return _clipped(decoded[:, :, ::-1] / np.float32(255))


def low_resolution(clean: Pixels, rng: np.random.Generator, scale: float = 4) -> Pixels:
    """Reduced `scale` times and enlarged again, both bicubic; reducing averages, as MATLAB's imresize does."""
    height, width = clean.shape[:2]
    small = (max(1, round(width / scale)), max(1, round(height / scale)))
    enlarged = np.empty_like(clean)
    for channel in range(3):  # Pillow has no floating-point pictures of three channels
        whole = Image.fromarray(np.ascontiguousarray(clean[:, :, channel]))
        reduced = whole.resize(small, Image.Resampling.BICUBIC)
        enlarged[:, :, channel] = np.asarray(reduced.resize((width, height), Image.Resampling.BICUBIC))
    return _clipped(enlarged)


def mask(
    clean: Pixels,
    rng: np.random.Generator,
    coverage: Range = (0.1, 0.4),
    width: Range = (4, 24),
    fill: float = 1.0,
) -> Pixels:
    """Random strokes painted over the picture, as inpainting has to undo.

    Args:
        clean: the picture.
        rng: source of randomness.
        coverage: the share of the pixels that is covered at least.
        width: of a stroke.
        fill: the value of the covered pixels.
    """
    height, size_x = clean.shape[:2]
    covered = np.zeros((height, size_x), np.uint8)
    wanted = min(_draw(rng, coverage), 0.95)  # the last pixels could take forever
    while covered.mean() < wanted:
        # A random walk of four steps from anywhere in the picture.
        first = rng.uniform(0, (size_x, height))
        steps = rng.normal(0, max(height, size_x) / 6, (4, 2))
        points = np.cumsum(np.vstack([first, steps]), axis=0)
        thick = max(1, round(_draw(rng, width)))
        cv2.polylines(covered, [np.rint(points).astype(np.int32)], False, 1, thick)
    return np.where(covered[:, :, None] > 0, np.float32(fill), clean).astype(np.float32)


def _ends(value: Range) -> tuple[float, float]:
    """(low, high) of a range; twice the same for a single number."""
    if isinstance(value, tuple):
        return value
    return value, value


def _draw(rng: np.random.Generator, value: Range, upper_end: bool = False) -> float:
    """A number from a range; `upper_end` for whole numbers, where the upper end must be as likely as the others."""
    low, high = _ends(value)
    if upper_end and high > low:
        high += 1  # whoever asks rounds down
    return float(rng.uniform(low, high))


def _clipped(values: npt.NDArray[Any]) -> Pixels:
    """Values as a picture: float32 within [0, 1]."""
    clipped: Pixels = np.clip(values, 0, 1).astype(np.float32)
    return clipped


def _convolved(image: Pixels, kernel: npt.NDArray[Any]) -> Pixels:
    """A picture blurred by a kernel whose sum is 1."""
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)


def _line_kernel(length: float, angle: float, width: float) -> Pixels:
    """A line through the centre, peak 1; angle from the vertical in degrees."""
    return _streak(length, angle, width, softness=0.0)


def _streak(length: float, angle: float, width: float, softness: float) -> Pixels:
    """A streak through the centre, peak 1, from sharp edges (softness 0) to a bell across and fading ends (1)."""
    reach = math.ceil(length / 2 + (1 + softness) * width) + 1  # pixels from the centre to where nothing is left
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    along, across = np.abs(x * sine + y * cosine), np.abs(x * cosine - y * sine)
    sharp = np.clip(width / 2 + 0.5 - across, 0, 1)  # 1 inside, and at the edge the part of a pixel that is inside
    profile = (1 - softness) * sharp + softness * np.exp(-2 * (across / max(width, 1)) ** 2)
    kernel = np.clip((length / 2 + 0.5 - along) / (1 + softness * length / 4), 0, 1) * profile
    normalised: Pixels = (kernel / kernel.max()).astype(np.float32)
    return normalised


def _smooth_field(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A random field without detail, in about -1..1."""
    coarse = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
