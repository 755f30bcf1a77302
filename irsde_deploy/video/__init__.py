"""Video: files and pipes, from the frames of a source to an output with its sound, times and colours.

`restore_video` restores a file, `restore_pipe` frames as they come. Files need PyAV (extra `video`), pipes do not.
"""

from .api import VideoOutcome, VideoProgress, VideoStart, restore_video
from .streaming import PipeOutcome, PipeStart, restore_pipe
from .video_settings import PipeSettings, VideoSettings

__all__ = [
    "PipeOutcome",
    "PipeSettings",
    "PipeStart",
    "VideoOutcome",
    "VideoProgress",
    "VideoSettings",
    "VideoStart",
    "restore_pipe",
    "restore_video",
]
