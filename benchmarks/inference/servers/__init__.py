"""The servers that ours is compared with. Those of other projects run in an environment of their own."""
