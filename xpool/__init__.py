"""X-Pool and the shared machinery.

Reading order, as the data flows:
``generate`` (mini benchmarks only) → ``manifest`` → ``frames`` → ``encoders`` → ``embeddings`` →
``train`` → ``evaluate`` → ``ranks`` → ``tables``. The method itself is ``xpool.xpool``; its
controls live in ``baselines``.
"""

from xpool.usage import answer

answer()
