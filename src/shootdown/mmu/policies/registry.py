"""All policies by the name that users give."""

from __future__ import annotations

from typing import Final

from .collect import LIST
from .collect_as_posted import LIST_AS_POSTED
from .eager import EAGER
from .policy import Policy
from .promote import PROMOTE
from .rcu import RCU
from .rcu_literal import RCU_LITERAL
from .rcu_roots import RCU_ROOTS

POLICIES: Final[dict[str, Policy]] = {
    policy.name: policy for policy in (EAGER, LIST, LIST_AS_POSTED, RCU, RCU_ROOTS, RCU_LITERAL, PROMOTE)
}
