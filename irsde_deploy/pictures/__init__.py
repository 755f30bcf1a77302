"""Picture files and what belongs to them: pairs, batches, metrics, noise levels, degradations, sheets."""
