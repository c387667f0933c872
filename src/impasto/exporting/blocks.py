"""A plan as a list of blocks, each with an attention or an MLP or both: what engines can serve.

Serving engines know models whose blocks may lack a part. A plan of layers and parts of layers, one
after the other, is such a list; parallel branches and markers are not.
"""

from dataclasses import dataclass

from impasto.exporting.error import NotInFormError
from impasto.plan import Layer, Plan


@dataclass(frozen=True)
class ServedBlock:
    """One block of a served model: which layer's attention and MLP it runs; None for neither."""

    attention: int | None
    mlp: int | None

    @property
    def layer(self) -> int:
        """The source's layer."""
        layer = self.mlp if self.attention is None else self.attention
        assert layer is not None, "a block runs one part at least"
        return layer

    @property
    def is_whole(self) -> bool:
        """Whether both parts run."""
        return self.attention is not None and self.mlp is not None


def served_blocks(plan: Plan, form: str, holds_parts: bool) -> list[ServedBlock]:
    """Return the blocks that a plan runs.

    Raises:
        NotInFormError: when it runs something else, or a part where the form holds whole layers
            only.
    """
    blocks = []
    for step in plan.steps:
        is_part = isinstance(step, Layer) and step.part != "block"
        is_plain = isinstance(step, Layer) and step.is_plain
        if not isinstance(step, Layer) or not is_plain or (is_part and not holds_parts):
            what = "layers and parts of layers" if holds_parts else "whole layers"
            raise NotInFormError(
                f"{Plan((step,))} cannot be exported as {form}, which holds {what} only, one after "
                "the other"
            )
        layer = step.index
        blocks.append(
            ServedBlock(
                None if step.part == "mlp" else layer, None if step.part == "attention" else layer
            )
        )
    return blocks
