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
"""GStreamer's name of a format -> (NumPy's type of a value, values a pixel, which of them is the first colour, 1 where
colours go from red to blue or -1 where they go from blue to red). Alpha stays as it is."""

CAPS = Gst.Caps.from_string(f"video/x-raw, format=(string){{ {', '.join(LAYOUTS)} }}")


def _pad_template(name, direction):
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, CAPS)


class Irsde(GstBase.BaseTransform):
    """The element: frames in, restored frames out, of the same format, size and time.

    Properties stand for None by a value, since GObject has no None for numbers: 0 steps, and -1 for others.
    """

    __gtype_name__ = "IrsdeFilter"
    __gstmetadata__ = (
        "IR-SDE restoration",
        "Filter/Effect/Video",
        "Restores pictures with a mean-reverting SDE",
        "irsde-deploy",
    )
    __gsttemplates__ = (_pad_template("sink", Gst.PadDirection.SINK), _pad_template("src", Gst.PadDirection.SRC))

    engine = GObject.Property(type=str, nick="engine", blurb="Engine file: .onnx, .plan, .pt, .pth or .safetensors")
    quality = GObject.Property(type=str, nick="quality", blurb="A preset in place of sampler and steps")
    sampler = GObject.Property(type=str, nick="sampler", blurb="Sampler (the model card's if unset)")
    steps = GObject.Property(type=int, nick="steps", blurb="Network evaluations a frame (0: the model card's)")
    # The ranges of seed and noise level are wider than what is allowed: Sampling says what is wrong with a value, in a
    # sentence, and GObject only that it cannot be set.
    seed = GObject.Property(
        type=GObject.TYPE_INT64,
        minimum=-(2**63),
        maximum=2**63 - 1,
        nick="seed",
        blurb="What noise is drawn from, 0 or more",
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
    overlap = GObject.Property(
        type=int, default=-1, nick="overlap", blurb="Pixels that neighbouring tiles share (-1: as usual)"
    )
    device = GObject.Property(type=str, nick="device", blurb="cpu, cuda or auto (unset: cuda for plans, else cpu)")
    provider = GObject.Property(type=str, nick="provider", blurb="What runs an .onnx: onnxruntime, openvino, ...")
    fallback = GObject.Property(
        type=str, nick="fallback", blurb="Engine of the same model, in FP32, for frames whose states are not finite"
    )

    def do_start(self):
        """Open the engine; a wrong setting stops the pipeline here, with one sentence."""
        self.frames, self.shown = None, 0
        try:
            from irsde_deploy.plugins.frame_restorer import FrameRestorer
        except ImportError as error:  # the system's Python does not see the environment that the package is in
            return self.fail(f"{error}: name the folders of irsde_deploy and its packages in PYTHONPATH")
        if not self.engine:
            return self.fail("irsde needs an engine: set engine=FILE")
        try:
            self.frames = FrameRestorer(
                self.engine,
                self.sampling(),
                self.noise,
                unless(self.device, ""),
                unless(self.provider, ""),
                unless(self.fallback, ""),
            )
        except Exception as error:  # whatever it is: raised here it would only be printed, and the pipeline go on
            return self.fail(error)
        return True

    def sampling(self):
        """Make the settings out of the properties; raises InvalidValueError where one is out of range."""
        from irsde_deploy.core.sampling import Sampling

        return Sampling(
            sampler=unless(self.sampler, ""),
            steps=unless(self.steps, 0),
            quality=unless(self.quality, ""),
            noise_level=unless(self.noise_level, -1),
            seed=self.seed,
            clip=self.clamp,
            tile=self.tile_setting(),
            overlap=unless(self.overlap, -1),
        )

    def tile_setting(self):
        """Read the property `tile`: None for "whole", a side in pixels, or a word, such as "auto", as it is."""
        if self.tile == "whole":
            return None
        if self.tile.isdecimal():
            return int(self.tile)
        return self.tile

    def do_stop(self):
        """Let go of the engine and its memory."""
        self.frames = None
        return True

    def do_set_caps(self, incaps, outcaps):
        """Remember the size and layout of the frames to come."""
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
        """Return the picture in a buffer's memory as an array (H, W, 3), red first; a view, which can be written to."""
        import numpy as np

        info = self.info
        layout = GstVideo.buffer_get_video_meta(buffer) or info  # a buffer's own layout goes before the usual one
        dtype, values, first, step = LAYOUTS[info.finfo.name]
        size = np.dtype(dtype).itemsize
        # Rows may be longer than their pixels: decoders align them.
        strides = (layout.stride[0], values * size, size)
        pixels = np.ndarray((info.height, info.width, values), dtype, data, layout.offset[0], strides)
        return pixels[:, :, first : first + 3][:, :, ::step]

    def number(self, buffer):
        """Return a frame's number: by its time, which seeking does not change, or counted where that is not known."""
        self.shown += 1
        time = self.segment.to_stream_time(Gst.Format.TIME, buffer.pts)
        if self.info.fps_n == 0 or time == Gst.CLOCK_TIME_NONE:
            return self.shown - 1
        return round(time * self.info.fps_n / (self.info.fps_d * Gst.SECOND))

    def fail(self, reason):
        """Post an error, a sentence or an exception, to the pipeline; returns False, which callers return in turn."""
        error = GLib.Error.new_literal(
            Gst.LibraryError.quark(), str(reason) or type(reason).__name__, Gst.LibraryError.FAILED
        )
        self.post_message(Gst.Message.new_error(self, error, ""))
        return False


def unless(value, unset):
    """Return None where a property has the value that stands for it, or none at all."""
    if value is None or value == unset:
        return None
    return value


GObject.type_register(Irsde)
__gstelementfactory__ = ("irsde", Gst.Rank.NONE, Irsde)
