"""What comes in, seen by the champion: new kinds of defects, drift of good images. Observes only."""
