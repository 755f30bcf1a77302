"""Frameworks that ask for frames: what restores one by its number, VapourSynth, and GStreamer's element."""
