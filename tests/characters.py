"""A tokenizer for models that are made up: a token is a character."""


class Characters:
    """What a made-up model takes for tokens."""

    max_positions = 100_000
    tokenizer = None

    def tokens(self, text, as_lm_eval=False):
        return [ord(character) for character in text]

    def scored_tokens(self, text):
        return self.tokens(text)

    def token_pair(self, context, continuation, as_lm_eval=False):
        return self.tokens(context), self.tokens(continuation)

    def texts(self, prompts):
        return [p if isinstance(p, str) else "".join(map(chr, p)) for p in prompts]
