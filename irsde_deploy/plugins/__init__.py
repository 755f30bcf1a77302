"""Plug-ins for video frameworks, which ask for frames: VapourSynth's filter, and what GStreamer's element uses."""
