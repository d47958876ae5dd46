"""From checkpoints that the authors of a method released to prompt sets. Nothing in a file is ever run."""
