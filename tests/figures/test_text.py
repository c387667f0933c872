from impasto.figures.text import TEXT_CHARACTERS, width_of, wrapped


def test_long_words_are_broken_to_the_room():
    lines = wrapped("ab " + "cdefghijklmnopqrstuvwxyz" * 3 + " hello", 40, 8)
    assert "".join(lines) == "ab" + "cdefghijklmnopqrstuvwxyz" * 3 + "hello"
    assert all(width_of(line, 8) <= 40 for line in lines)


def test_a_text_that_no_page_has_room_for_is_cut():
    lines = wrapped("x" * 200_000, 100, 8)
    assert sum(map(len, lines)) == TEXT_CHARACTERS
    assert lines[-1].endswith("…")
