"""The gate: pure functions from evaluation files to a decision. No registry, no clock, nothing is written here."""
