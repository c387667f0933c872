"""Encoders: batches of sentences, their executor, and masked-LM scores."""
