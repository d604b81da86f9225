"""Mistakes that one could make in the checker, each as a change to its sources, and a law (laws.py) that notices it."""

from __future__ import annotations

from dataclasses import dataclass

Change = tuple[str, str, str]
"""File below check/, text that must stand there once, and what takes its place."""


@dataclass(frozen=True)
class Mutant:
    """A broken checker: what is wrong with it, the law that notices on a subject, and the changes that make it so."""

    wrong: str
    law: str
    subject: str
    changes: tuple[Change, ...]


def mutant(wrong: str, law: str, subject: str, *changes: Change) -> Mutant:
    """As it is written below."""
    return Mutant(wrong, law, subject, changes)


NEVER = "if 1 < 0:"

MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "What CPUs hold and do": (
        mutant(
            "a vCPU forgets by itself what memory no longer gives", "verdict", "hidden_write_behind_a_link",
            ("search/core.py", "held = closure(t, held, root)", "held = closure(t, 0, root)"),
        ),
        mutant(
            "only entries of the root are cached", "verdict", "hidden_write_behind_a_link",
            (
                "search/hardware.py", "    while prefix < prefixes:\n        table",
                "    while prefix < 1:\n        table",
            ),
        ),
        mutant(
            "only the root is looked at for a walk into a freed table", "verdict", "table_freed_while_linked",
            ("search/breaches.py", " or reaches(held, free, t.into)", ""),
        ),
        mutant(
            "a freed table that is used again is no freed table in reach", "verdict", "used_again_out_of_the_guest",
            ("search/hardware.py", "fw, fs, fm) | HOLDS_FREED,", "fw, fs, fm),"),
        ),
        mutant(
            "a freed table keeps its entries", "reference", "zap-range-tables rcu 5.17",
            ("search/hardware.py", "    clear_table(t, table)\n", ""),
        ),
        mutant(
            "a flush drops nothing", "verdict", "zap-range-tables rcu 5.17",
            ("search/flushes.py", "put(row, f, get(row, 0, f, fw, fs, fm) & ~entries, fw, fs, fm)", "pass"),
        ),
        mutant(
            "a flush leaves the mark of what was freed", "verdict", "zap-range-tables rcu 5.17",
            ("search/flushes.py", "flags = get(row, 0, f, fw, fs, fm) & (IRQ_OFF | IPI)",
             "flags = get(row, 0, f, fw, fs, fm)"),
        ),
        mutant(
            "a CPU that another flushes fills nothing again", "verdict", "filled_again_after_a_flush",
            ("search/flushes.py", "if vcpu == program:", "if vcpu >= 0:"),
        ),
        mutant("a flush of a range flushes all",
            "verdict", "range_elsewhere",
            ("search/flushes.py", "choice], t.drops[number])", "choice], -1)")),
        mutant("by a flush of a range leaves go, and no way to a table",
            "verdict", "range_of_a_table",
            ("search/tabulate.py", "if inside == pages or (inside and not model.setting.is_table(raw)):",
             "if inside and not model.setting.is_table(raw):")),
        mutant("by a flush of a range the way to a table goes with the first of its pages",
            "verdict", "range_within_a_table",
            ("search/tabulate.py", "if inside == pages or (inside and not model.setting.is_table(raw)):",
             "if inside:")),
        mutant("a flush of a range leaves the last vCPU alone",
            "verdict", "range_of_a_table",
            ("program/machine.py", "        while left:\n", "        while len(left) > 1:\n")),
        mutant("a flush of a range takes all marks away",
            "verdict", "mark_outlives_a_flush_elsewhere",
            ("search/flushes.py", "if marked & t.into[table] != 0:", "if marked & t.into[table] < 0:")),
        mutant("a mark outlives its entry",
            "verdict", "mark_goes_with_its_entry",
            ("search/flushes.py", "F_MARKED] + vcpu, fw, fs, fm) & ~entries", "F_MARKED] + vcpu, fw, fs, fm)")),
        mutant(
            "a fault comes of the root's entries only", "reference", "unmap-leafs eager 6.1",
            ("search/hardware.py", "prefix != 0 and held & t.lead[(root", "prefix < 0 and held & t.lead[(root"),
        ),
        mutant(
            "no guest ever faults", "verdict", "huge pages are split or protected when",
            ("search/core.py", "choices = 1 + t.spot[c * p[GFNS_MAX]]", "choices = 1"),
        ),
        mutant(
            "a write takes the right to read only", "verdict", "write-protect rcu 6.12",
            ("program/guest.py", "return MAY_WRITE if code & WRITE else", "return MAY_READ if code & WRITE else"),
        ),
        mutant(
            "NX is nothing to a CPU", "verdict", "age-nx-recovery rcu 6.18",
            ("program/guest.py", "(0 if raw & NX else MAY_EXECUTE)", "MAY_EXECUTE"),
        ),
        mutant(
            "a CPU that sets D leaves the entry as it was", "counts", "pml-on rcu 6.12",
            ("search/logs.py", "put(row, word, after, fw, fs, fm)", "put(row, word, before, fw, fs, fm)"),
        ),
        mutant(
            "a CPU logs no write", "verdict", "pml-on rcu 6.12",
            ("search/logs.py", "    word = t.pml_word[gfn]\n        if word >= 0:",
             "    word = t.pml_word[gfn]\n        if word < -1:"),
        ),
        mutant(
            "nobody waits for an interrupt to be taken", "verdict", "interrupt_of_one_who_waits",
            ("search/core.py", "f_flags + a, fw, fs, fm) & IPI != 0", "f_flags + a, fw, fs, fm) & 64 != 0"),
        ),
        mutant(
            "an interrupt is taken at once, also with interrupts off", "verdict", "interrupt_of_one_who_waits",
            ("search/core.py", "if x & IRQ_OFF != 0:", "if x & IRQ_OFF > 1:"),
        ),
    ),
    "RCU, SRCU and the free list": (
        mutant(
            "a grace period waits for nobody", "verdict", "zap-range-tables rcu 5.17",
            ("search/core.py", "queued | get(row, 0, f_rcu, fw, fs, fm)", "queued"),
        ),
        mutant(
            "nobody is ever seen in a section", "verdict", "zap-range-tables rcu 5.17",
            ("search/core.py", "put(row, f_rcu, get(row, 0, f_rcu, fw, fs, fm) | me, fw, fs, fm)", "pass"),
        ),
        mutant(
            "the end of one section ends every grace period", "verdict", "collapse-zap rcu 6.1",
            (
                "search/core.py", "put(row, f_pending + k, x & ~me, fw, fs, fm)",
                "put(row, f_pending + k, queued, fw, fs, fm)",
            ),
        ),
        mutant(
            "callbacks never run", "verdict", "use_of_a_field",
            ("search/hardware.py", "p[F_PENDING] + k, fw, fs, fm) == queued", "p[F_PENDING] + k, fw, fs, fm) < 0"),
        ),
        mutant(
            "synchronize_srcu waits for nobody", "verdict", "update_between_sections",
            ("search/logs.py", "program, get(row, 0, p[F_SRCU], fw, fs, fm), fw", "program, 0, fw"),
        ),
        mutant(
            "a table that is given out stays on the free list", "verdict", "use_of_an_own_table",
            ("search/core.py", "put(row, f_free, x & ~bit_of(k), fw, fs, fm)", "put(row, f_free, x, fw, fs, fm)"),
        ),
    ),
    "Locks": (
        mutant(
            "readers pass a writer that waits", "verdict", "readers_behind_a_writer_that_waits",
            ("search/core.py", "fm) != 0 or get(row, 0, f_waiting, fw, fs, fm) != 0", "fm) != 0"),
        ),
        mutant(
            "a writer does not wait for readers", "verdict", "locks_in_two_orders",
            ("search/core.py", "fm) != 0 or get(row, 0, f_readers, fw, fs, fm) != 0", "fm) != 0"),
        ),
        mutant(
            "the pages lock keeps nobody out", "verdict", "locks_in_two_orders",
            ("search/core.py", "if get(row, 0, f_pages, fw, fs, fm) != 0", "if get(row, 0, f_pages, fw, fs, fm) < 0"),
        ),
        mutant(
            "slots_lock keeps nobody out", "verdict", "slots_in_turn",
            (
                "search/logs.py", "if get(row, 0, p[F_SLOTS], fw, fs, fm) != 0",
                "if get(row, 0, p[F_SLOTS], fw, fs, fm) < 0",
            ),
        ),
        mutant(
            "no deadlock among readers because of a writer that waits", "verdict", "readers_behind_a_writer_that_waits",
            ("search/locks.py", "fw, fs, fm) | get(row, 0, p[F_WAITING], fw, fs, fm)", "fw, fs, fm)"),
        ),
    ),
    "Movers": (
        mutant(
            "call_rcu is glued to what is before", "counts", "nx-recovery rcu-literal 5.17",
            ("program/steps.py", "IRQ_ENABLE, FREE, SKIP", "IRQ_ENABLE, CALL_RCU, FREE, SKIP"),
        ),
        mutant(
            "an allocation is glued to what is before", "counts", "huge-in-the-way eager 6.13",
            ("program/steps.py", "IRQ_ENABLE, FREE, SKIP", "IRQ_ENABLE, ALLOC, FREE, SKIP"),
        ),
        mutant(
            "an interrupt that is sent is glued to what is before", "counts", "collapse-zap rcu 6.1",
            ("program/steps.py", "IRQ_ENABLE, FREE, SKIP", "IRQ_ENABLE, SEND_IPI, FREE, SKIP"),
        ),
        mutant(
            "a plain write is glued to what is before", "movers", "hidden_write_behind_a_link",
            ("program/steps.py", "IRQ_ENABLE, FREE, SKIP", "IRQ_ENABLE, STORE, FREE, SKIP"),
        ),
        mutant(
            "a plain write is glued to what is after", "movers", "hidden_write_behind_a_link",
            ("program/steps.py", "SRCU_LOCK, IRQ_DISABLE, SKIP}", "SRCU_LOCK, IRQ_DISABLE, STORE, SKIP}"),
        ),
        mutant(
            "a flush is glued to what is after", "movers", "filled_again_after_a_flush",
            ("program/steps.py", "SRCU_LOCK, IRQ_DISABLE, SKIP}", "SRCU_LOCK, IRQ_DISABLE, FLUSH, SKIP}"),
        ),
        mutant(
            "the end of an RCU section is glued to what is after", "movers", "freed_right_before_a_flush",
            ("program/steps.py", "SRCU_LOCK, IRQ_DISABLE, SKIP}", "SRCU_LOCK, IRQ_DISABLE, RCU_UNLOCK, SKIP}"),
            ("program/steps.py", "PAGES_UNLOCK, RCU_UNLOCK, SLOTS_UNLOCK", "PAGES_UNLOCK, SLOTS_UNLOCK"),
        ),
        mutant(
            "a lock that is dropped is glued to what is after", "movers", "seen_between_a_lock_and_a_store",
            ("program/steps.py", "SRCU_LOCK, IRQ_DISABLE, SKIP}", "SRCU_LOCK, IRQ_DISABLE, WRITE_UNLOCK, SKIP}"),
            ("program/steps.py", "READ_UNLOCK, WRITE_UNLOCK, PAGES_UNLOCK", "READ_UNLOCK, PAGES_UNLOCK"),
        ),
        mutant(
            "a lock is glued to the wait for another one", "movers", "locks_in_two_orders",
            ("search/core.py", "takes = takes or flags[node] & TAKER != 0", "pass"),
        ),
        mutant(
            "interrupts go off as part of a wait", "movers", "interrupt_of_one_who_waits",
            ("search/model.py", "elif step in steps.WAITS and at.irq_off and self.irq_moves:", "elif step < 0:"),
        ),
        mutant(
            "a page that is mapped after it was given back is not seen", "movers",
            "page_mapped_again_by_a_root_of_nobody",
            ("search/core.py", "maps = maps or mapping(t, a, write)", "pass"),
            ("search/core.py", "maps = maps or mapping(t, a, nb[node])", "pass"),
        ),
    ),
    "What is no step of its own": (
        mutant(
            "a table that an entry points to stays its maker's own", "explicit",
            "mapped_for_a_moment_in_a_table_that_is_linked",
            ("program/machine.py", "self.held.private.discard(spte_pfn(value))", "pass"),
        ),
        mutant(
            "a constant field is never freed under its reader", "explicit", "use_of_a_constant_field",
            ("program/machine.py", "hidden = bool(held.mmu or held.pages or held.rcu)", "hidden = True"),
        ),
        mutant(
            "under the pages lock alone nobody disturbs", "explicit", "two_locks_for_one_word",
            ("program/machine.py", 'hidden = held.mmu in ("read", "write")  # the',
             "hidden = bool(held.pages or held.mmu)  # the"),
        ),
        mutant(
            "a task may end with a lock held", "verdict", "lock_never_dropped",
            ("program/machine.py", 'if self.held.any():\n            self._wrong("a task',
             'if 1 < 0:\n            self._wrong("a task'),
        ),
    ),
    "Places, states and their layout": (
        mutant(
            "a place is its innermost frame", "merged", "told_by_its_caller",
            ("program/frames.py", "if code is entry:", "if code is not None:"),
        ),
        mutant(
            "a place is told by its function and not by the instruction", "brute force", "generated tasks",
            ("program/frames.py", "found.append((code, at.f_lasti, tuple(", "found.append((code, tuple("),
        ),
        mutant(
            "what is read after a jump is not read", "merged", "read_behind_a_jump",
            ("program/frames.py", "                for m, _ in self._next(n):\n                    out |=",
             "                for m, _ in self._next(n)[:1]:\n                    out |="),
        ),
        mutant(
            "lists of the same length are the same", "merged", "kept_in_a_list",
            ("program/frames.py", "tuple(frozen(item, handles, memo) for item in value))", "len(value))"),
        ),
        mutant(
            "places that hold different locks are one", "merged", "lock_that_one_way_takes",
            ("program/automaton.py", "access, machine.held.key(), frames)", "access, frames)"),
        ),
        mutant(
            "states are told apart without their first word", "verdict", "use_of_a_field",
            ("search/states.py", "h = hash_of(row, 0, width)", "h = hash_of(row, 1, width - 1)"),
            ("search/states.py", "h = hash_of(rows, n * width, width)", "h = hash_of(rows, n * width + 1, width - 1)"),
            ("search/states.py", "k: i64 = 0\n            while k < width and rows",
             "k: i64 = 1\n            while k < width and rows"),
        ),
        mutant(
            "a row loses a field on its way to another layout", "merged", "collapse-zap rcu 6.1",
            ("search/fields.py", "for (word, to, by), mask in together.items():",
             "for (word, to, by), mask in list(together.items())[:-1]:"),
        ),
        mutant(
            "fields are one bit too narrow", "merged", "page_mapped_again_by_a_root_of_nobody",
            (
                "search/rows.py", "model.fields = placed(widths,",
                "model.fields = placed([max(1, w - 1) for w in widths],",
            ),
        ),
        mutant(
            "a choice goes one way only", "verdict", "use_that_ends_where_no_use_ends",
            ("search/core.py", "choices = na[node]", "choices = 1"),
        ),
    ),
    "Store buffers": (
        mutant(
            "a task does not see its own stores", "verdict", "own_stores",
            ("program/buffers.py", "if found is not None:", NEVER),
        ),
        mutant(
            "nobody waits for an empty buffer", "verdict", "unmap-leafs with buffers",
            ("program/buffers.py", "if held.stored:", NEVER),
        ),
        mutant(
            "the newest store leaves first", "brute force", "generated tasks",
            ("program/access.py", "return raw[0] if raw else None", "return raw[-1] if raw else None"),
            ("program/access.py", "return raw[1:]", "return raw[:-1]"),
        ),
        mutant(
            "the mode is written with no barrier behind", "verdict", "unmap-leafs with buffers",
            ("program/buffers.py", "frozenset({words.VCPU_MODE})", "frozenset()"),
        ),
    ),
    "Properties": (
        mutant(
            "P1: a page that was taken back is no breach", "verdict", "hidden_write_behind_a_link",
            ("search/breaches.py", "if reaches(held, get(row, 0, p[F_REVOKED], fw, fs, fm), t.maps):", NEVER),
        ),
        mutant(
            "P1: of a huge page only the first 4K count", "verdict", "second_page_of_a_huge_one",
            ("search/tabulate.py", "for pfn in range(spte_pfn(raw), spte_pfn(raw) + pages):",
             "for pfn in range(spte_pfn(raw), spte_pfn(raw) + 1):"),
        ),
        mutant(
            "P1: a page that is still mapped is no breach", "verdict", "page_mapped_again_by_a_root_of_nobody",
            ("search/mapped.py", "if x & 1 != 0 and still_mapped(t, number):", NEVER),
        ),
        mutant(
            "P1: what was forgotten may be held", "verdict", "F3: flush of kvm_zap_gfn_range",
            ("search/hardware.py", "if held & ~given != 0:", NEVER),
        ),
        mutant(
            "P1: of a range that is forgotten only its first page counts", "verdict", "second_page_of_a_range",
            ("search/tabulate.py", "if first < end and start < first + pages:", "if first == start:"),
        ),
        mutant(
            "P2: a freed table in reach is no breach", "verdict", "root_freed_under_a_vcpu",
            ("search/breaches.py", "if flags & HOLDS_FREED != 0 or free & bit_of(root) != 0 or ", "if 1 < 0 and "),
        ),
        mutant(
            "P2: a table may be used after it was freed", "verdict", "use_of_a_field",
            ("search/core.py", "bad = USE_AFTER_FREE", "pass"),
        ),
        mutant(
            "P3: no write is ever lost", "verdict", "a fault logs the write that",
            ("search/logs.py", "return written != 0", "return False"),
        ),
        mutant(
            "P3: a harvest takes what is written later as well", "verdict", "log-get rcu 6.12",
            ("search/logs.py", "if kind == UNWATCH or kind == HARVEST:", "if kind == UNWATCH:"),
        ),
        mutant(
            "P3: a leaf may be overwritten without a look", "verdict", "bits of a leaf that a fault may change",
            ("search/core.py", "bad = OVERWRITTEN", "pass"),
        ),
        mutant(
            "P4: a page may be written that nobody was to write", "verdict", "F10: flush when writes of a page",
            ("search/breaches.py", "if reaches(held, get(row, 0, p[F_PROTECTED], fw, fs, fm), t.writable):", NEVER),
        ),
        mutant(
            "P5: what is memory may pass for MMIO", "verdict", "believed",
            ("search/core.py", "if kind == MMIO and is_backed(t, a):", NEVER),
        ),
        mutant(
            "P5: what no CPU should go through is no breach", "verdict", "executable",
            ("search/breaches.py", "if held & p[AMISS] != 0:", NEVER),
        ),
        mutant(
            "P5: a CPU goes by KVM's bit of presence", "verdict", "opened",
            ("program/guest.py", "if self.is_reserved(raw):", "if self.is_reserved(raw) or not raw & PRESENT:"),
        ),
        mutant(
            "P6: an assertion is no breach", "verdict", "lock_never_dropped",
            ("search/core.py", "bad = ASSERTION", "pass"),
        ),
        mutant(
            "P6: no table is freed twice", "verdict", "free_of_a_queued_table",
            ("search/core.py", "bad = DOUBLE_FREE\n                        put(", "pass\n                        put("),
            ("search/core.py", "bad = DOUBLE_FREE\n                        free", "pass\n                        free"),
        ),
        mutant(
            "P6: no deadlock is found", "verdict", "locks_in_two_orders",
            ("search/locks.py", "return stuck\n", "return 0\n"),
        ),
        mutant(
            "P7: no table leaks", "verdict", "leaks",
            ("search/hardware.py", "if leaks(t, base):", NEVER),
        ),
        mutant(
            "P7: roots count as they like", "verdict", "miscounts",
            ("search/hardware.py", "return MISCOUNT if miscounts(t, base) else 0", "return 0"),
        ),
    ),
}  # fmt: skip
