"""Simulated cameras that send JPEG frames to Kafka at the times of an open-loop schedule."""
