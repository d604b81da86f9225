"""Where page tables are linked along a path, so that accesses to their entries can be told by gfn and level."""

from __future__ import annotations

from ...machine import words
from ...mmu.spte import spte_pfn
from ..search.model import Model
from ..search.replay import Event
from .wording import access


class Places:
    """First gfn and level of each table that was linked at the start or since, while events are told in their order."""

    def __init__(self, model: Model) -> None:
        self.model = model
        todo = list(model.setting.words.get(("list", words.ROOTS), ()))
        self.found = dict.fromkeys(todo, (0, model.setting.levels))
        while todo:
            table = todo.pop()
            for entry in range(table * model.entries, (table + 1) * model.entries):
                todo += self._link(entry, model.setting.words.get(entry))

    def tell(self, event: Event) -> str:
        """What an access did."""
        text = access(event, self.model, self.found)
        self._link(event.node.access.word, event.after)
        return text

    def _link(self, entry: object, raw: object) -> list[int]:
        """Note the table that an entry now points to; it, if there is one."""
        if not isinstance(entry, int) or not isinstance(raw, int) or not self.model.setting.is_table(raw):
            return []
        table, index = divmod(entry, self.model.entries)
        if table not in self.found:
            return []
        gfn, level = self.found[table]
        below = int(spte_pfn(raw))
        self.found[below] = (gfn + index * self.model.entries ** (level - 1), level - 1)
        return [below]
