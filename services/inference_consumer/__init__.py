"""Has the inference server label every frame and writes the label back to MongoDB."""
