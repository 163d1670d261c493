"""Showers on demand: chunk by chunk into a file, in shards, on a cluster, or as a stream."""
