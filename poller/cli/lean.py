"""structlog without rich, which it loads wherever it finds it; the daemon has no use for that."""

import sys

_untouched = "rich" not in sys.modules
if _untouched:
    sys.modules["rich"] = None  # type: ignore[assignment]  # to the import system: there is no such module
try:
    import structlog
finally:
    if _untouched:
        del sys.modules["rich"]

__all__ = ["structlog"]
