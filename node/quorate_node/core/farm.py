"""Several operators in one process: each has a core of its own, all share one view of the chain, told once.

The first core collates if any does, and takes the mail that is for all of them: openings go into the shared view.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate_node.core import stimuli as st
from quorate_node.core.chainview import advance
from quorate_node.core.core import Core

SharedStimulus = st.ChainAdvanced | st.ChainReorganised | st.HeaderRead


class Farm:
    """The cores of one process, in the order of their keys."""

    def __init__(self, cores: Sequence[Core]) -> None:
        self.cores = tuple(cores)
        self.chain = self.first.state.chain
        for core in self.cores:
            core.state.chain = self.chain

    @property
    def first(self) -> Core:
        """The core that collates and takes mail."""
        return self.cores[0]

    def handle(self, stimulus: SharedStimulus) -> None:
        """Take in what concerns all cores."""
        if isinstance(stimulus, st.ChainAdvanced):
            problems, gone = advance(self.chain, self.first.state.network, stimulus)
            self.first.state.notes.extend(problems)
            for core in self.cores:
                core.forget(gone)
        elif isinstance(stimulus, st.ChainReorganised):
            self.chain.reset()
            for core in self.cores:
                core.start_over()
        else:
            self.first.handle(stimulus)
