"""Scoring at work: what makes a loaded prompt set fast, and large pictures readable. Knows no method."""
