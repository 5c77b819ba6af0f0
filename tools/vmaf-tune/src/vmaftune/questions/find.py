"""Which quality value meets the target? The question behind `vmaf-tune find`.

The policy itself is `vmaf_train.search`: it knows no file and no engine, and the gate that ships a
prior replays it.
"""

from __future__ import annotations

from vmaf_train.search import Answer, Search

__all__ = ["Answer", "Search"]
