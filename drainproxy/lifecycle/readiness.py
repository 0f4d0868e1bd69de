"""What /readyz says while a drain runs, by `readiness_on_drain`.

Pure. The phase decides first (machine.POLICY); the application has to be up in any case.
"""

from drainproxy.lifecycle.propagation import Evidence
from drainproxy.lifecycle.settings import ReadinessOnDrain


def by_setting(setting: ReadinessOnDrain, word: Evidence, for_s: float) -> bool:
    """Tell whether a pod that has drained for so many seconds is ready, if its application is."""
    if setting.kind == "auto":
        # kube-proxy falls back to endpoints that terminate and serve, if all terminate (KEP-1669).
        return word.terminating and word.alone
    return for_s < setting.delay_s
