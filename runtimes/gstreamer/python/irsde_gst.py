"""The GStreamer element `irsde`: restores video frames in place (docs/plugins.md).

GStreamer's Python loader finds this file where GST_PLUGIN_PATH names the folder above `python/`. It runs in the
system's Python; irsde_deploy, which does all the work, is imported when the element starts.
"""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

LAYOUTS = {
    "RGB": ("u1", 3, 0, 1),
    "BGR": ("u1", 3, 0, -1),
    "RGBx": ("u1", 4, 0, 1),
    "BGRx": ("u1", 4, 0, -1),
    "ARGB64": ("u2", 4, 1, 1),
}
"""Format -> (type of a value, values a pixel, the first colour, 1 for red to blue or -1); alpha stays as it is."""

CAPS = Gst.Caps.from_string(f"video/x-raw, format=(string){{ {', '.join(LAYOUTS)} }}")


class Irsde(GstBase.BaseTransform):
    """Frames in, restored frames out, of the same format, size and time."""

    __gtype_name__ = "IrsdeFilter"
    __gstmetadata__ = (
        "IR-SDE restoration",
        "Filter/Effect/Video",
        "Restores pictures with a mean-reverting SDE",
        "irsde-deploy",
    )
    __gsttemplates__ = tuple(
        Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, CAPS)
        for name, direction in (("sink", Gst.PadDirection.SINK), ("src", Gst.PadDirection.SRC))
    )

    engine = GObject.Property(type=str, nick="engine", blurb="Engine file: .onnx, .plan, .pt, .pth or .safetensors")
    quality = GObject.Property(type=str, nick="quality", blurb="A preset in place of sampler and steps")
    sampler = GObject.Property(type=str, nick="sampler", blurb="Sampler (the model card's if unset)")
    steps = GObject.Property(type=int, nick="steps", blurb="Network evaluations a frame (0: the model card's)")
    seed = GObject.Property(
        type=GObject.TYPE_INT64, minimum=-(2**63), maximum=2**63 - 1, nick="seed", blurb="Of the noise field, 0 or more"
    )
    noise = GObject.Property(
        type=str, default="fixed", nick="noise", blurb="fixed: one field for all frames; per-frame: one for each"
    )
    noise_level = GObject.Property(
        type=float,
        default=-1,
        minimum=-1e300,
        maximum=1e300,
        nick="noise level",
        blurb="For denoising models: standard deviation of the frames' noise, 0..255 (-1: estimated)",
    )
    clamp = GObject.Property(
        type=bool, default=False, nick="clamp", blurb="Keep the predicted picture within [0, 1] at each step"
    )
    tile = GObject.Property(
        type=str,
        default="auto",
        nick="tile",
        blurb="Side of tiles in pixels, whole, or auto: whole where memory allows",
    )
    overlap = GObject.Property(type=int, default=-1, nick="overlap", blurb="Of tiles, in pixels (-1: as usual)")
    device = GObject.Property(type=str, nick="device", blurb="cpu, cuda or auto (unset: cuda for plans, else cpu)")
    provider = GObject.Property(type=str, nick="provider", blurb="What runs an .onnx: onnxruntime, openvino, ...")
    fallback = GObject.Property(
        type=str, nick="fallback", blurb="Engine of the same model, in FP32, for frames whose states are not finite"
    )

    def do_start(self):
        """Open the engine; a wrong setting stops the pipeline here, with one sentence."""
        self.frames, self.shown = None, 0
        try:
            from irsde_deploy.core.sampling import Sampling
            from irsde_deploy.plugins.frame_restorer import FrameRestorer
        except ImportError as error:
            return self.fail(f"{error}: name the folders of irsde_deploy and its packages in PYTHONPATH")
        if not self.engine:
            return self.fail("irsde needs an engine: set engine=FILE")
        try:
            sampling = Sampling(
                sampler=self.sampler or None,
                steps=self.steps or None,
                quality=self.quality or None,
                noise_level=None if self.noise_level == -1 else self.noise_level,
                seed=self.seed,
                clip=self.clamp,
                tile=self.whole_or_side(),
                overlap=None if self.overlap == -1 else self.overlap,
            )
            self.frames = FrameRestorer(
                self.engine, sampling, self.noise, self.device or None, self.provider or None, self.fallback or None
            )
        except Exception as error:
            return self.fail(error)
        return True

    def whole_or_side(self):
        """The property `tile` as a Restorer takes it."""
        return None if self.tile == "whole" else int(self.tile) if self.tile.isdecimal() else self.tile

    def do_stop(self):
        """Let go of the engine."""
        self.frames = None
        return True

    def do_set_caps(self, incaps, outcaps):
        """Remember the size and layout of frames."""
        self.info = GstVideo.VideoInfo.new_from_caps(incaps)
        return True

    def do_transform_ip(self, buffer):
        """Restore one frame in its own memory."""
        try:
            with buffer.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE) as mapped:
                rgb = self.rgb(buffer, mapped.data)
                rgb[...] = self.frames(self.number(buffer), rgb)
        except Exception as error:  # PyGObject would print anything raised here and let the frame pass as it is
            self.fail(error)
            return Gst.FlowReturn.ERROR
        return Gst.FlowReturn.OK

    def rgb(self, buffer, data):
        """The picture in a buffer's memory as an array (H, W, 3), red first: a view."""
        import numpy as np

        info, meta = self.info, GstVideo.buffer_get_video_meta(buffer)
        stride, offset = (meta.stride[0], meta.offset[0]) if meta else (info.stride[0], info.offset[0])
        dtype, values, first, step = LAYOUTS[info.finfo.name]
        size = np.dtype(dtype).itemsize
        pixels = np.ndarray((info.height, info.width, values), dtype, data, offset, (stride, values * size, size))
        return pixels[:, :, first : first + 3][:, :, ::step]

    def number(self, buffer):
        """A frame's number: by its time where the rate is known, so that seeking does not change it, else counted."""
        self.shown += 1
        time = self.segment.to_stream_time(Gst.Format.TIME, buffer.pts)
        if self.info.fps_n == 0 or time == Gst.CLOCK_TIME_NONE:
            return self.shown - 1
        return round(time * self.info.fps_n / (self.info.fps_d * Gst.SECOND))

    def fail(self, reason):
        """Post an error, a sentence or an exception; return False."""
        error = GLib.Error.new_literal(
            Gst.LibraryError.quark(), str(reason) or type(reason).__name__, Gst.LibraryError.FAILED
        )
        self.post_message(Gst.Message.new_error(self, error, ""))
        return False


GObject.type_register(Irsde)
__gstelementfactory__ = ("irsde", Gst.Rank.NONE, Irsde)
