"""Keys and values: the cache that one call of a block is handed, buffers, the pool for decoding."""
