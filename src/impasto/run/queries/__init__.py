"""What can be asked of a decoder: log-likelihoods, hidden states, attention entropy, costs."""
