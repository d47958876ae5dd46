"""Synthetic anomalies (OAGM): object mask, region, noise, blend; the mask marks what visibly changed."""
