"""Keys and values: buffers in memory, and the cache that a block is handed for one call."""
