"""New defect types: looked for in data/, and announced as events that a retraining answers."""
