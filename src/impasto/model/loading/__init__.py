"""Weights and configurations: from a folder, a hub, an adapter, or an exported folder."""
