"""Models and node packs: lists of what is wanted, and fetching it."""
