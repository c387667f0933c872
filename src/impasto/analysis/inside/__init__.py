"""What a model is like inside: numbers from its states and its attention, over many texts.

`states` reads a model's states of texts from a file. `similarity` compares depths with each
other, and `groups` finds beginning, middle and end in that; `entropy` says how widely heads look,
`probes` what can be read off the states. Texts are folded in one by one; no torch here.
"""

from impasto.analysis.inside.entropy import Entropy, attention_entropy
from impasto.analysis.inside.groups import Groups, layer_groups
from impasto.analysis.inside.probes import Probed, last_states, probe
from impasto.analysis.inside.similarity import MEASURES, Measure, Similarity, similarities
from impasto.analysis.inside.states import TextStates, read_states
from impasto.tasks.text_files import read_labelled, read_texts

__all__ = [
    "MEASURES",
    "Entropy",
    "Groups",
    "Measure",
    "Probed",
    "Similarity",
    "TextStates",
    "attention_entropy",
    "last_states",
    "layer_groups",
    "probe",
    "read_labelled",
    "read_states",
    "read_texts",
    "similarities",
]
