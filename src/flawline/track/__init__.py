"""What the flows need to talk to the world: DVC, MLflow, the registry, the gate. No stage imports it."""
