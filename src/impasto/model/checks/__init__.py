"""What plans take for granted, checked on the model at hand."""
