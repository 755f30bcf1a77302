"""The machine: files written whole or not at all, memory, threads, locks, the user's cache folder."""
