"""Small faults of the code, each of which some test notices (docs/testing.md)."""
