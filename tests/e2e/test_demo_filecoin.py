"""`scripts/demo filecoin` as a newcomer runs it: bought within the limit, refused above it, every unit accounted."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(600)


def test_paid_tiles_are_bought_within_the_limit_and_no_further(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "demo"), "filecoin", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert len(re.findall(r"^accepted .*: (\d+) of \1 masks$", told, re.MULTILINE)) == 4
    assert re.search(r"^quoted +tiles: [1-9]\d* base units, voucher, by http://127", told, re.MULTILINE)
    assert re.search(r"^quoted +free: 0 base units, free, by http://127", told, re.MULTILINE)
    refused = re.search(r"^refused .*limit for total .*cap (\d+), used (\d+), requested (\d+)", told, re.MULTILINE)
    assert refused is not None
    cap, used, requested = map(int, refused.groups())
    assert used <= cap < used + requested
    assert re.search(r"^signed +nothing", told, re.MULTILINE)
    raised = re.search(r"^raised .*total to (\d+)", told, re.MULTILINE)
    assert raised is not None
    assert used + requested <= int(raised[1])
    paid = re.search(r"^on chain +(\d+) to the provider \+ (\d+) of fee = (\d+)", told, re.MULTILINE)
    assert paid is not None
    net, fee, total = map(int, paid.groups())
    receipts = [int(each) for each in re.findall(r"^receipt \d+ +(\d+) base units", told, re.MULTILINE)]
    assert sum(receipts) == total == net + fee
    assert fee > 0
    assert used + requested == total, "what was refused is all that came after the limit was raised"
    with Image.open(tmp_path / "out" / "spending.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20
