"""A reader in a process of its own, which kills itself at a step: FOLDER NAME PIECE STEP COUNT [JOB].

It retrieves PIECE to FOLDER/NAME with the providers and the ledger of FOLDER, and dies when STEP comes for the COUNTth
time. It ends with 0 when the piece is here, and with 2 when the limit forbade it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.adversarial.buying import CAP, Client
from tests.adversarial.selling import FixedRails

from quorate.filecoin.retrieval.wanted import parse_wanted
from quorate.filecoin.spending import SpendingLimitExceeded


def main(folder: str, name: str, piece: str, step: str, count: str, job: str = "job") -> int:
    left = int(count)

    def on_step(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    first = int(name) * 1000 if name.isdigit() else 0
    rails = FixedRails(CAP, first)
    with Client(Path(folder), on_step=on_step, rails=rails, busy_s=60.0) as client:  # others write to it, too
        try:
            client.reader.bring_piece(parse_wanted(piece), Path(folder, name), job)
        except SpendingLimitExceeded as error:
            print(error)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
