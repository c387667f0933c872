"""The attention that a model's modules run, chosen for one call and for nobody else.

Transformers looks an attention function up by the name on a module's configuration. One name of
our own is registered there, once, and nothing that was there is changed. For the length of a call,
the attention modules of the model at hand find a copy of their configuration with that name on it;
which function it stands for is this thread's own choice (:func:`chosen_attention`). A thread that
has chosen none, and calls the same model meanwhile, gets the attention that it had.

What can be chosen is :mod:`impasto.run.attention.tree_sparse` (scoring),
:mod:`impasto.run.attention.few_rows` (decoding) and noting its entropy
(:mod:`impasto.run.queries.attention_entropy`). A mask that was not made
(:mod:`impasto.run.attention.blockwise`) is understood in any case.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from impasto.model.arguments.mask_rules import LengthOnlyCache
from impasto.model.arguments.visibility import MaskTable, Window
from impasto.model.checks.decoder import allowed, difference
from impasto.model.checks.precision import full_precision
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments
from impasto.run.attention import blockwise
from impasto.run.attention.blockwise import UnmadeError, UnmadeMask
from impasto.run.attention.geometry import Geometry
from impasto.run.attention.kernels import known_kernels

Attention = Callable[..., tuple[Tensor, Any]]
"""What transformers calls for attention; a chosen one is handed the stock function first."""

STOCK = "sdpa"  # the attention that another may be chosen in place of
_NAME = "impasto"
_CONFIGURED = "_attn_implementation_internal"  # the attribute that holds the name

_chosen: ContextVar[Attention | None] = ContextVar("the attention of this call", default=None)


def _dispatch(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **further: Any
) -> tuple[Tensor, Any]:
    """Attend as this thread has chosen; as transformers does where it has not.

    A mask that was not made asks for attention by blocks, whatever was chosen.
    """
    stock, attend = ALL_ATTENTION_FUNCTIONS[STOCK], _chosen.get()
    if attend is not None:
        stock = partial(attend, stock)
    if isinstance(attention_mask, UnmadeMask):
        dropout, scaling = further.get("dropout", 0.0), further.get("scaling")
        if is_plain(0.0, further):
            return blockwise.attend(attention_mask, query, key, value, scaling, dropout), None
        attention_mask = attention_mask.geometry.dense().to(query.device)
    return stock(module, query, key, value, attention_mask, **further)


ALL_ATTENTION_FUNCTIONS.register(_NAME, _dispatch)


@contextmanager
def chosen_attention(model: OpenedModel, attend: Attention | None) -> Iterator[None]:
    """Return a context in which a model on ``sdpa`` attends so, as far as this thread calls it.

    Modules that do not look their attention up by name keep their own; with None, all do.
    """
    if attend is None:
        with _kernels(model):
            yield
        return
    token = _chosen.set(attend)
    try:
        with _named(attention_modules(model)), _kernels(model):
            yield
    finally:
        _chosen.reset(token)


def _kernels(model: OpenedModel) -> AbstractContextManager[object]:
    return known_kernels() if model.device.type == "cuda" else nullcontext()


@contextmanager
def own_attention(model: OpenedModel) -> Iterator[None]:
    """Return a context in which blocks may be called with masks that were not made."""
    with _named(attention_modules(model)):
        yield


def makes_no_large_masks(model: OpenedModel, length: int) -> bool:
    """Whether a model can go without masks that are too large, for texts of so many tokens."""
    is_table = (isinstance(rule, MaskTable) for rule in model.visibility(length).rules)
    return takes_unmade(model) and not any(is_table)


def takes_unmade(model: OpenedModel) -> bool:
    """Whether all blocks hand a mask on to attention unread: by trying, once."""
    if model.takes_unmade is None:
        with full_precision():
            model.takes_unmade = _takes_unmade(model)
    return model.takes_unmade


@torch.no_grad()
def _takes_unmade(model: OpenedModel) -> bool:
    """Call each block with a mask, and with one that was not made and says the same."""
    if not attention_modules(model) or not model.takes_cache:
        return False
    positions = torch.arange(4, device=model.device)[None]
    ids = positions % model.vocabulary
    entered = model.enter(ids, positions)
    bare = model.enter(ids, positions, past=LengthOnlyCache(0, 1))
    real = torch.ones_like(positions, dtype=torch.bool)
    geometry = Geometry(Window(2), positions, positions, real, positions, real, None, 0, 4)
    mask: Arguments = {"attention_mask": geometry.dense()}
    unmade: Arguments = {"attention_mask": UnmadeMask.of(geometry)}
    states = entered.states
    for layer in model.present:
        block = model.blocks[layer]
        after = block(states, entered.arguments[layer] | mask)
        try:
            with own_attention(model):
                result = block(states, bare.arguments[layer] | unmade)
        except UnmadeError:
            return False
        if not difference(result, after) <= allowed(model):
            return False
        states = after
    return torch.equal(entered.states, bare.states)


def attention_modules(model: OpenedModel) -> Sequence[nn.Module]:
    """Return the modules whose attention can be chosen: by trying, once per opening."""
    if model.attention_modules is None:
        model.attention_modules = _find_modules(model)
    return model.attention_modules


@torch.no_grad()
def _find_modules(model: OpenedModel) -> list[nn.Module]:
    """Return the modules that look their attention up, of blocks that then give the same.

    A block may hold a registry of its own, or compare names; it then keeps the attention it has.
    """
    chosen: list[nn.Module] = []
    ids = torch.arange(3, device=model.device)[None] % model.vocabulary
    entered = model.enter(ids, torch.arange(3, device=model.device)[None])
    states = entered.states
    for layer in model.present:
        block, arguments = model.blocks[layer], entered.arguments[layer]
        after = block(states, arguments)
        modules = [module for module in block.module.modules() if _is_stock(module)]
        calls: list[nn.Module] = []
        name = _NotedName(_NAME)
        token = _chosen.set(partial(_noting, calls))
        try:
            with _named(modules, name):
                renamed = block(states, arguments)
        finally:
            _chosen.reset(token)
        if calls and not name.is_compared and torch.equal(renamed, after):
            chosen += modules
        states = after
    return chosen


class _NotedName(str):
    """A name that notes whether it was compared with that of the stock attention.

    Who does that may do something else under another name, and perhaps in longer texts only.
    """

    is_compared = False

    def __eq__(self, other: object) -> bool:
        self.is_compared |= str.__eq__(STOCK, other) is True
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def _noting(
    calls: list[nn.Module], stock: Attention, module: Any, *args: Any, **kwargs: Any
) -> Any:
    calls.append(module)
    return stock(module, *args, **kwargs)


def _is_stock(module: nn.Module) -> bool:
    config = module.__dict__.get("config")
    return getattr(config, _CONFIGURED, None) == STOCK


@contextmanager
def _named(modules: Sequence[nn.Module], name: str = _NAME) -> Iterator[None]:
    """Return a context in which modules find the name of ours on their configurations.

    Configurations are shared by modules, and by models; so a module is given a copy.
    """
    before = [module.__dict__["config"] for module in modules]
    copies = {id(config): config for config in before}
    for key, config in copies.items():
        copies[key] = renamed = copy.copy(config)
        renamed.__dict__[_CONFIGURED] = name
    try:
        for module, config in zip(modules, before, strict=True):
            module.__dict__["config"] = copies.get(id(config), config)
        yield
    finally:
        for module, config in zip(modules, before, strict=True):
            module.__dict__["config"] = config


def in_place_of_stock(
    attend: Callable[..., Tensor | None],
    stock: Attention,
    module: Any,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **further: Any,
) -> tuple[Tensor, Any]:
    """Return what ``attend`` returns for query, key, value, mask and scaling, or else the stock's.

    The stock attends where ``attend`` returns None, and where more than a mask is asked of it.
    """
    if is_plain(dropout, further):
        output = attend(query, key, value, attention_mask, scaling)
        if output is not None:
            return output, None
    return stock(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **further
    )


def is_plain(dropout: float, further: Mapping[str, Any]) -> bool:
    """Whether an attention is called with nothing but a mask."""
    return not dropout and all(further.get(name) is None for name in ("position_bias", "cache"))
