"""Plans on encoders: no current token, no cache; every token sees all others."""
