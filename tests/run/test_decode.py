"""Plans decode in turns, and what is done leaves its memory to what comes next."""

from weakref import ref

from families import family
from impasto.run import load_decoder
from impasto.run.batching import batches as bundle
from impasto.run.generate import decode_batch
from impasto.run.generate import scheduler as decode
from impasto.run.generate.decode_batch import DecodeBatch
from impasto.run.generate.scheduler import Scheduler
from plans import PLANS


def test_what_is_done_leaves_its_memory_before_more_prompts_are_read(monkeypatch):
    made, shares, add = [], [], Scheduler.add

    class Watched(DecodeBatch):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(ref(self))

    def added(decoder, decoding):
        shares.append([each().unfinished_share for each in made if each() is not None])
        add(decoder, decoding)

    monkeypatch.setattr(decode, "DecodeBatch", Watched)
    monkeypatch.setattr(Scheduler, "add", added)
    monkeypatch.setattr(decode, "texts_at_once", lambda model: 4)
    monkeypatch.setattr(bundle, "ROWS_AT_ONCE", {"cpu": 1})  # each prompt is read apart
    plans, prompts = PLANS[:12], [[3, 1, 4], [1, 5, 9, 2]]
    model = load_decoder(family("llama"))
    written = model.generate(plans, prompts, max_new_tokens=3)
    assert len(made) >= 3
    assert all(share > decode.THIN_SHARE for each in shares for share in each)
    monkeypatch.undo()
    assert written == [model.generate(plan, prompts, max_new_tokens=3)[0] for plan in plans]


def test_an_edit_that_is_not_drawn_ahead_is_run_by_the_executor(monkeypatch):
    model, prompts = load_decoder(family("llama")), [[3, 1, 4], [1, 5, 9, 2]]
    plans = [plan for plan in PLANS if "noise" in str(plan) and not plan.injections]
    written = model.generate(plans, prompts, max_new_tokens=4)
    monkeypatch.setattr(decode_batch, "_is_drawn_ahead", lambda operation: False)
    assert len(plans) > 3
    assert model.generate(plans, prompts, max_new_tokens=4) == written
