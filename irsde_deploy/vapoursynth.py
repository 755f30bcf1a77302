"""`irsde_deploy.vapoursynth.restore`, the VapourSynth filter: see `irsde_deploy.plugins.vapoursynth`."""

from .plugins.vapoursynth import FORMATS, restore

__all__ = ["FORMATS", "restore"]
