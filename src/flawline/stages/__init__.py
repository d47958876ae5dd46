"""What dvc.yaml calls: each module is one stage, a pure `run(workspace, settings, ...)`."""
