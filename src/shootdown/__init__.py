"""Remote TLB flushes of KVM's TDP MMU: are they needed, are they enough, and what do they cost?"""

__version__ = "0.1.0"
