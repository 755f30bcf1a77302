"""All that is about TensorRT: options and profiles of a build, the builder, the card in a plan, the engine."""
