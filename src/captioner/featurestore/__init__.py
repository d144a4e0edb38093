"""Features on disk: the append-only store that remembers what was encoded, and the packed form that DVC sees."""
