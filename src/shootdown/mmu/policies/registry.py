"""All policies by the name that users give."""

from __future__ import annotations

from typing import Final

from .collect import LIST
from .collect_as_posted import LIST_AS_POSTED
from .eager import EAGER
from .kernel_61 import KERNEL_61
from .kernel_612 import KERNEL_612
from .leaf_zap import LEAF_ZAP
from .policy import Policy
from .promote import PROMOTE
from .promote_rfc import PROMOTE_RFC
from .rcu import RCU
from .rcu_literal import RCU_LITERAL
from .rcu_roots import RCU_ROOTS

POLICIES: Final[dict[str, Policy]] = {
    policy.name: policy
    for policy in (
        *(LEAF_ZAP, EAGER, LIST, LIST_AS_POSTED, PROMOTE_RFC, RCU, RCU_ROOTS, RCU_LITERAL),
        *(KERNEL_61, KERNEL_612, PROMOTE),
    )
}
"""In the order of history; ``rcu`` batches the flushes of a call, ``rcu-roots`` those of all roots of an operation."""
