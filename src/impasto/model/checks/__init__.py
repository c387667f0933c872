"""What plans rely on, checked on the model at hand when it is opened."""
