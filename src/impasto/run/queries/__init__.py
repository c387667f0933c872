"""Questions to a decoder: log-likelihoods, hidden states, attention entropy, costs."""
