"""What happens to people's accounts; `from apps.accounts.services import decide_application`."""

from apps.accounts.services.applications import (
    AlreadyDecidedError,
    PendingApplicationError,
    apply_as_expert,
    decide_application,
)

__all__ = ["AlreadyDecidedError", "PendingApplicationError", "apply_as_expert", "decide_application"]
