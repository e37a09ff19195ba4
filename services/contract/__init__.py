"""What travels between the services: settings, topics, message headers, stamps, clock and the latency CSV."""
