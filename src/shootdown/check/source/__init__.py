"""The MMU's own sources: loaded a second time, as they are or with patches."""
