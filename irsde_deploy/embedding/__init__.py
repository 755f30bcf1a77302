"""What a program takes that embeds a model: packs for the C library, whole loops as one graph."""
