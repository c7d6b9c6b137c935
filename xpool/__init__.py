"""X-Pool and the harness that measures it; ``docs/start/architecture.md`` is the map.

The method is :mod:`xpool.xpool`, its controls are in ``baselines``. The folders are layers: each
imports only those before it in this list.

``project`` · ``blocks`` · ``postprocessing`` · ``data`` · ``mini`` · ``encoders`` · ``training`` ·
``statistics`` · ``ablation`` · ``report`` · ``search`` ·
``stages`` · ``tools``
"""
