"""What several methods share: their base class and options, prompt sets on disk, maps, memories, sentences."""
