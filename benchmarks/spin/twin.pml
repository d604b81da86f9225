/* twin.py once more, for Spin: two vCPUs that map gfn 0 for ever, and one task that zaps the root's entries.
 *
 * Granularity: every access is one d_step, and what a task decides on the result is where that d_step leads, so there is
 * no transition besides the accesses. A local is reset in the step after which nothing reads it. Tasks never end: the
 * zapper waits at its end, since Spin counts the death of a process as a transition.
 *
 * Hardware is the same as in shootdown.check: what a CPU in guest mode could hold is kept closed, callbacks of RCU run
 * in the step that ends their grace period, an interrupt reaches a CPU with interrupts on at once.
 */
#ifndef POLICY
#define POLICY 1            /* 0 eager, 1 rcu, 2 broken, 3 noyieldflush: twin.py says what they do */
#endif

#define TABLES 4            /* table 0 is the root */
#define FROZEN 1
#define LEAF 2
#define LINK(p) (4 + (p))   /* an entry that points to table p */
#define TABLE_OF(e) ((e) - 4)
#define OUTSIDE 0
#define IN_GUEST 1
#define EXITING 2
#define ZAPPER 2            /* its bit in masks of RCU readers; those of vCPUs are their numbers */
#define QUEUED 8
#define HELD_LEAF 16        /* in held: a leaf for gfn 0; bit p: the root's entry that points to table p */

byte w[8] = { 5, 0, 2, 0, 0, 0, 0, 0 };  /* entries 2p and 2p + 1 of table p; LINK(1) and LEAF at first */
byte mode[2];
bit request[2], irqs_off[2], ipi[2], in_guest[2];
bit holds_freed[2], holds_stale[2];
byte held[2];
byte vacant = 12;             /* mask of tables */
byte readers;               /* of mmu_lock */
byte rcu;                   /* mask of tasks in a read section */
byte pending[TABLES];       /* QUEUED | mask of tasks that the callback waits for */
byte k;                     /* for loops inside a step; 0 between steps */

/* hardware */

inline fill(v) {
    held[v] = held[v] | (w[0] >= 4 -> 1 << TABLE_OF(w[0]) : 0);
    held[v] = held[v] | ((((held[v] & 2) && w[2] == LEAF) || ((held[v] & 4) && w[4] == LEAF)
                       || ((held[v] & 8) && w[6] == LEAF)) -> HELD_LEAF : 0)
}
#define MAY_FAULT(v) (w[0] < 4 || ((held[v] & 2) && w[2] != LEAF) || ((held[v] & 4) && w[4] != LEAF) \
                      || ((held[v] & 8) && w[6] != LEAF))
#define LEAF_GIVEN (w[0] >= 4 && w[2 * TABLE_OF(w[0])] == LEAF)

inline check() {
    assert(!(in_guest[0] && (holds_freed[0] || holds_stale[0])));
    assert(!(in_guest[1] && (holds_freed[1] || holds_stale[1])))
}
inline written() {
    if :: in_guest[0] -> fill(0) :: else fi;
    if :: in_guest[1] -> fill(1) :: else fi
}
inline use(p) { assert(!((vacant >> (p)) & 1)) }

/* tables and RCU */

inline release(p) {
    vacant = vacant | (1 << (p));
    w[2 * (p)] = 0; w[2 * (p) + 1] = 0;
    if :: (held[0] >> (p)) & 1 -> holds_freed[0] = 1 :: else fi;
    if :: (held[1] >> (p)) & 1 -> holds_freed[1] = 1 :: else fi
}
inline rcu_unlock(c) {
    rcu = rcu & ~(1 << (c));
    k = 0;
    do
    :: k < TABLES ->
        pending[k] = pending[k] & ~(1 << (c));
        if :: pending[k] == QUEUED -> pending[k] = 0; release(k) :: else fi;
        k++
    :: else -> break
    od;
    k = 0;
    check()
}

/* kvm_flush_remote_tlbs: the first step forgets what the caller need not know any more */

inline flush() {
    d_step { request[0] = 1; need = 0 };
    if
    :: mode[0] == OUTSIDE
    :: d_step { mode[0] != OUTSIDE -> mode[0] = EXITING; kicked = 1 }
    fi;
    request[1] = 1;
    if
    :: !kicked && mode[1] == OUTSIDE
    :: d_step { kicked && mode[1] == OUTSIDE -> kicked = 0 };
        ipi[0] = irqs_off[0];
        !ipi[0]
    :: d_step { !kicked && mode[1] != OUTSIDE -> mode[1] = EXITING };
        ipi[1] = irqs_off[1];
        !ipi[1]
    :: d_step { kicked && mode[1] != OUTSIDE -> mode[1] = EXITING; kicked = 0 };
        ipi[0] = irqs_off[0];
        ipi[1] = irqs_off[1];
        !ipi[0];
        !ipi[1]
    fi
}

/* the programs */

active [2] proctype vcpu() {
    byte page;
    bit fault;
round:
    if
    :: !request[_pid]
    :: d_step { request[_pid] -> request[_pid] = 0 };
        d_step { held[_pid] = 0; holds_freed[_pid] = 0; holds_stale[_pid] = 0 }
    fi;
    irqs_off[_pid] = 1;
    mode[_pid] = IN_GUEST;
    if
    :: request[_pid]; goto out
    :: !request[_pid]
    fi;
    if
    :: mode[_pid] == EXITING; goto out
    :: d_step { mode[_pid] != EXITING -> in_guest[_pid] = 1; fill(_pid); check() }
    fi;
    if
    :: in_guest[_pid] = 0
    :: d_step { MAY_FAULT(_pid) -> in_guest[_pid] = 0; fault = 1 }
    fi;
out:
    mode[_pid] = OUTSIDE;
    if
    :: d_step { !fault -> irqs_off[_pid] = 0; ipi[_pid] = 0 }; goto round
    :: d_step { fault -> irqs_off[_pid] = 0; ipi[_pid] = 0; fault = 0 }
    fi;
    readers++;
    rcu = rcu | (1 << _pid);
    if
    :: w[0] == FROZEN; goto done
    :: d_step { w[0] >= 4 -> page = TABLE_OF(w[0]) }; goto leaf
    :: w[0] == 0
    fi;
    if
    :: d_step { vacant & 2 -> page = 1; vacant = vacant & ~2 }
    :: d_step { !(vacant & 2) && (vacant & 4) -> page = 2; vacant = vacant & ~4 }
    :: d_step { !(vacant & 6) && (vacant & 8) -> page = 3; vacant = vacant & ~8 }
    :: !(vacant & 14); goto done
    fi;
    if
    :: d_step { w[0] == 0 -> w[0] = LINK(page); written() }; goto leaf
    :: w[0] != 0
    fi;
    d_step { release(page); page = 0 };
    goto done;
leaf:
    if
    :: d_step { w[2 * page] != 0 -> use(page); page = 0 }; goto done
    :: d_step { w[2 * page] == 0 -> use(page) }
    fi;
    d_step {
        use(page);
        if :: w[2 * page] == 0 -> w[2 * page] = LEAF; written() :: else fi;
        page = 0
    };
done:
    if :: d_step { rcu_unlock(_pid) } fi;          /* nothing can jump to a d_step itself */
    readers--;
    goto round
}

inline removed() {          /* handle_removed_pt; no other task freezes entries, so it never has to try again */
    d_step { w[2 * page] != FROZEN -> use(page); w[2 * page] = FROZEN; written() };
    d_step { w[2 * page + 1] != FROZEN -> use(page); w[2 * page + 1] = FROZEN; written() };
    d_step { pending[page] = QUEUED | rcu; page = 0; need = (POLICY != 0) }
}

active proctype zapper() {
    byte page;
    bit need, kicked;
    readers++;
    rcu = rcu | (1 << ZAPPER);
first:
    if
    :: d_step { w[0] >= 4 -> page = TABLE_OF(w[0]) }
    :: w[0] < 4; goto second
    fi;
#if POLICY == 0
    if
    :: d_step { w[0] == LINK(page) -> w[0] = FROZEN; written() }
    :: d_step { w[0] != LINK(page) -> page = 0 }; goto first
    fi;
    flush();
    d_step { w[0] = 0; written() };
#else
    if
    :: d_step { w[0] == LINK(page) -> w[0] = 0; written() }
    :: d_step { w[0] != LINK(page) -> page = 0 }; goto first
    fi;
#endif
    removed();
second:
#if POLICY == 3
    if
    :: true; goto there
    :: true
    fi;
#else
    if
    :: true; goto there
    :: !need
    :: need; flush()
    fi;
#endif
    d_step { rcu_unlock(ZAPPER) };
    readers--;
    readers++;
    rcu = rcu | (1 << ZAPPER);
there:
#if POLICY == 2
    w[1] == 0;
    if
    :: d_step { !need -> rcu_unlock(ZAPPER) }
    :: d_step { need -> rcu_unlock(ZAPPER) }; flush()
    fi;
#else
    if
    :: !need && w[1] == 0
    :: need && w[1] == 0; flush()
    fi;
    d_step { rcu_unlock(ZAPPER) };
#endif
    d_step {                /* from here on no vCPU may hold a translation that memory does not give */
        readers--;
        if :: (held[0] & HELD_LEAF) && !LEAF_GIVEN -> holds_stale[0] = 1 :: else fi;
        if :: (held[1] & HELD_LEAF) && !LEAF_GIVEN -> holds_stale[1] = 1 :: else fi;
        check()
    };
end:
    false
}
