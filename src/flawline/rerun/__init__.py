"""A recorded retraining made again beside the workspace, and compared byte for byte."""
