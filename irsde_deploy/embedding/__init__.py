"""Files for programs that embed a model: packs for the C library, and whole loops as one graph."""
