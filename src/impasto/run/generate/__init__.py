"""Greedy generation: prefill, the scheduler, the decode batch and its KV pool, when texts end."""
