"""The opening check of decoders whose rows are not packed: sequences run as they are, and go on.

As for others (:mod:`impasto.run.checks`), the bare model's own forward is the truth. The engine
reads the same texts under the identity plan, in one call, behind a shared beginning, and token by
token. Where blocks do not go on from the states that they leave, all rows run again for each token.
"""

import torch
from torch import Tensor, nn

from impasto.model.checks.decoder import Reason, allowed, read_bare, refuse_above, rows_differ
from impasto.model.decoder import OpenedModel
from impasto.model.measured.idle import with_idle
from impasto.model.opened import GoesOn
from impasto.model.structure.absent import spans
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import Arguments, Block, named_call
from impasto.model.structure.failing import RAISED, failing, is_out_of_memory
from impasto.plan.program import RowMode, Split, whole_layer
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.stretches import TokenTree
from impasto.run.checks import Checked
from impasto.run.checks.sharing import Shared, shared_keys
from impasto.run.checks.texts import Texts, lengths_of, read_texts
from impasto.run.execute.sequential import SequentialExecutor
from impasto.run.execute.stretch_calls import habits_of


class BoundLayersError(ModelError):
    """Raised where a layer relies on more of the layers before it than its states."""


_MODES: tuple[RowMode, ...] = ("joint", "split")


@torch.no_grad()
def check_sequential(model: OpenedModel) -> Checked:
    """Check a decoder that was just opened, and settle how its blocks go on.

    Raises:
        ModelError: when a claim does not hold, with the reason.
    """
    name, lengths = type(model.hf).__name__, lengths_of(model)
    with failing(name, f"reads {lengths.tokens} tokens"):
        texts = read_texts(model, lengths.tokens)
    with failing(name, "runs its layers one by one"):
        shared = shared_keys(model, texts.long)
    _refuse_bound(model, texts, shared)
    habits = habits_of(model)
    habits.sharing = None if shared is None else shared.sharing
    with failing(name, "calls its blocks one by one"):
        logits = refuse_above(
            model,
            "the identity plan does not give the model's own logits",
            _alone(model, texts),
            lambda: _reads_more_behind(model, texts),
        )
    claims = [(f"the identity plan gives the model's own logits ({lengths.tokens} tokens)", logits)]
    habits.goes_on = _goes_on(model, texts) if habits.takes_cache else None
    if habits.sharing is not None and habits.goes_on is None:
        raise BoundLayersError(
            f"{name} cannot be opened: its layers share keys and values, and do not go on from "
            "those that they have put into a cache"
        )
    with failing(name, "reads texts that begin alike"):
        worst = refuse_above(
            model,
            "texts that begin alike do not get its own logits where their beginning is read once",
            _behind_beginning(model, texts),
        )
    how = {"stretches": "from the states that its blocks leave", "tokens": "token by token"}
    going = "all rows again" if habits.goes_on is None else how[habits.goes_on]
    claims.append((f"texts behind a shared beginning, {going}, give the model's own logits", worst))
    refused, worst = _parts(model, texts, shared)
    if refused is not None:
        model.undivided = dict.fromkeys(range(model.num_layers), refused)
    else:
        model.blocks = with_idle(model) if shared is None else model.blocks
        claims.append(("a block is its token mixer and its MLP", worst))
    missing = [
        f"the {each.replace('_', ' ')} of {value} (the check reads {lengths.tokens} tokens)"
        for each, value in lengths.beyond.items()
    ]
    return Checked(claims, missing)


def _reads_alike(model: OpenedModel, texts: Texts) -> bool:
    """Whether the model's own forward gives the same when it reads a text again."""
    again = read_bare(model, texts.long.ids)
    return rows_differ(model, again.logits, texts.long.logits) <= allowed(model)


def _reads_more_behind(model: OpenedModel, texts: Texts) -> Reason | None:
    """Return the reason if the last layer's own states do not make the model's own logits."""
    apart = rows_differ(
        model, model.leave(texts.long.after[model.present[-1]][0]), texts.long.logits
    )
    claim = (
        "what follows its last layer reads more than the states of that layer, such as those of "
        "layers below, and plans hand over no more"
    )
    return None if apart <= allowed(model) else Reason(claim, apart)


def _refuse_bound(model: OpenedModel, texts: Texts, shared: Shared | None) -> None:
    """Raise BoundLayersError unless each layer gives what it gave where no other one has run."""
    ids = torch.tensor([texts.long.ids], device=model.device)
    positions = torch.arange(ids.shape[1], device=model.device)[None]
    for layer in reversed(model.present):
        arguments = model.enter(ids, positions).arguments[layer]  # anew: layers may write to them
        arguments = arguments if shared is None else shared.given(arguments)
        try:
            after = model.blocks[layer](texts.long.before[layer], arguments)
            apart = rows_differ(model, after, texts.long.after[layer])
        except RAISED as error:
            if is_out_of_memory(error):
                raise
            apart = torch.inf
        if not apart <= allowed(model):
            if not _reads_alike(model, texts):
                return  # by chance, or by what it remembers: the other claims say so
            beside = _handed_on(model, texts, layer, arguments)
            more = f"{' and '.join(beside)} beside" if beside else "more than"
            raise BoundLayersError(
                f"{type(model.hf).__name__} cannot be opened: the layers before layer {layer} hand "
                f"it {more} its states, so it gives something else wherever a plan leaves them "
                "out; plans run on layers that hand on their states alone"
            )


def _handed_on(model: OpenedModel, texts: Texts, layer: int, arguments: Arguments) -> list[str]:
    """Return the arguments that a layer gets in the model's own forward, and not without others."""
    module, given = model.blocks[layer].module, dict[str, object]()

    def note(module: nn.Module, args: tuple[object, ...], kwargs: Arguments) -> None:
        given.update(named_call(module, args, kwargs))

    hook = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        read_bare(model, texts.long.ids)
    finally:
        hook.remove()
    made = [name for name, value in given.items() if value is not None]
    return sorted(name for name in made if name in arguments and arguments[name] is None)


def _alone(model: OpenedModel, texts: Texts) -> float:
    """Return how far a text that runs alone, in one call of each block, is from its own logits."""
    request = TokenRequest(texts.long.ids, range(len(texts.long.ids)), {})
    tree = TokenTree.of([], [chain(0, request)])
    [mine] = _read(model, tree, ("joint",))
    return rows_differ(model, mine, texts.long.logits)


def _goes_on(model: OpenedModel, texts: Texts) -> GoesOn | None:
    """Return how blocks go on from the states that they leave; None where they do not."""
    ways: tuple[GoesOn, ...] = ("stretches", "tokens")
    for way in ways:
        habits_of(model).goes_on = way
        try:
            if _behind_beginning(model, texts) <= allowed(model):
                return way
        except (*RAISED, ModelError) as error:  # it takes no such state, or no mask behind one
            if is_out_of_memory(error):
                raise
    return None


def _behind_beginning(model: OpenedModel, texts: Texts) -> float:
    """Read a beginning, and behind it two texts, beside a shorter one; then token by token."""
    long, other, shared = texts.long, texts.other, texts.shared
    end = len(other.ids) - 1
    trees = [PrefixTree(), chain(2, TokenRequest(other.ids[:end], range(shared, end), {}))]
    trees[0].add(0, TokenRequest(long.ids, range(shared, len(long.ids)), {}))
    trees[0].add(1, TokenRequest(other.ids, range(shared, len(other.ids)), {}))
    tree = TokenTree.of(long.ids[:shared], [each.without_prefix(shared) for each in trees])
    worst = 0.0
    for mine in _read(model, tree, _MODES):
        branching, alone = mine.split([len(each.scored) for each in trees])
        pairs = [
            (branching[trees[0].predictions[0]], long.logits[shared:]),
            (branching[trees[0].predictions[1]], other.logits[shared:]),
            (alone, other.logits[shared:end]),
        ]
        apart = torch.tensor([rows_differ(model, each, own) for each, own in pairs])
        worst = max(worst, float(apart.nan_to_num(torch.inf).max()))
    return worst


def _read(model: OpenedModel, tree: TokenTree, modes: tuple[RowMode, ...]) -> list[Tensor]:
    """Return the logits of a tree's scored tokens, read in rows of some modes."""
    logits = []
    for rows in modes:
        executor = SequentialExecutor(model, tree)
        state = executor.start()
        if rows != "joint":
            state = executor.step(Split(), state)
        for layer in model.present:
            state = executor.step(whole_layer(layer, rows), state)
        logits.append(model.leave(executor.finish(state)))
    return logits


def _parts(model: OpenedModel, texts: Texts, shared: Shared | None) -> tuple[str | None, float]:
    """Return why parts of layers cannot run alone (None: they can), and how far they are off."""
    lacking = [i for i in model.present if not (model.blocks[i].attention and model.blocks[i].mlp)]
    if lacking:
        return (
            f"layers {spans(lacking)} of {type(model.hf).__name__} are not made of a token mixer "
            "and an MLP that could be told apart; plans of whole layers run on it"
        ), torch.inf
    worst = 0.0
    ids = torch.tensor([texts.long.ids], device=model.device)
    entered = model.enter(ids, torch.arange(ids.shape[1], device=model.device)[None])
    for layer in model.present:
        states, arguments = texts.long.before[layer], entered.arguments[layer]
        arguments = arguments if shared is None else shared.given(arguments)
        apart = _parts_differ(model, model.blocks[layer], states, arguments)
        if not apart <= allowed(model):
            return (
                f"layer {layer} of {type(model.hf).__name__} is not its input, its token mixer and "
                f"its MLP (relative difference {apart:.1e}, allowed {allowed(model):.0e}); plans "
                "of whole layers run on it"
            ), apart
        worst = max(worst, apart)
    return None, worst


def _parts_differ(model: OpenedModel, block: Block, states: Tensor, arguments: Arguments) -> float:
    """Return how far a block is from its parts, which leave nothing else, the MLP row by row."""
    whole, attended = block(states, arguments), block(states, arguments, "attention")
    with block.without("attention", "mlp"):
        silent = block(states, arguments)
    fed = block(states, arguments, "mlp")
    by_row = block(states.flip(1), arguments, "mlp").flip(1)
    in_order = rows_differ(model, block(attended, arguments, "mlp"), whole)
    beside = rows_differ(model, attended + fed - states.to(fed.device), whole)
    return max(
        rows_differ(model, silent, states), rows_differ(model, by_row, fed), min(in_order, beside)
    )
