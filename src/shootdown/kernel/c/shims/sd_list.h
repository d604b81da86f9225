/* SPDX-License-Identifier: MIT */
/* Lists with the head in a ring. A removed entry keeps addresses that fault. */
#ifndef SD_LIST_H
#define SD_LIST_H
#include "sd_base.h"

struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next, **pprev; };
struct hlist_head { struct hlist_node *first; };

#define SD_GONE_NEXT ((struct list_head *)0x100)
#define SD_GONE_PREV ((struct list_head *)0x122)
#define LIST_HEAD_INIT(name) { &(name), &(name) }
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)

static inline void INIT_LIST_HEAD(struct list_head *head)
{
	SD_POKE(head->next, head);
	SD_POKE(head->prev, head);
}

static inline void INIT_HLIST_NODE(struct hlist_node *node)
{
	node->next = NULL;
	node->pprev = NULL;
}

static inline bool list_empty(const struct list_head *head)
{
	return SD_PEEK(head->next) == head;
}

static inline void sd_list_between_(struct list_head *entry, struct list_head *prev, struct list_head *next)
{
	next->prev = entry;
	entry->next = next;
	entry->prev = prev;
	SD_POKE(prev->next, entry);
}

static inline void list_add(struct list_head *entry, struct list_head *head)
{
	sd_list_between_(entry, head, head->next);
}

static inline void list_add_tail(struct list_head *entry, struct list_head *head)
{
	sd_list_between_(entry, head->prev, head);
}

static inline void sd_list_unlink_(struct list_head *entry)
{
	entry->next->prev = entry->prev;
	SD_POKE(entry->prev->next, entry->next);
}

static inline void list_del(struct list_head *entry)
{
	sd_list_unlink_(entry);
	entry->next = SD_GONE_NEXT;
	entry->prev = SD_GONE_PREV;
}

static inline void list_del_init(struct list_head *entry)
{
	sd_list_unlink_(entry);
	INIT_LIST_HEAD(entry);
}

static inline void list_del_rcu(struct list_head *entry)
{
	sd_list_unlink_(entry);
	entry->prev = SD_GONE_PREV;
}

static inline void list_move(struct list_head *entry, struct list_head *head)
{
	sd_list_unlink_(entry);
	list_add(entry, head);
}

static inline void list_move_tail(struct list_head *entry, struct list_head *head)
{
	sd_list_unlink_(entry);
	list_add_tail(entry, head);
}

#define list_add_rcu list_add
#define list_add_tail_rcu list_add_tail
#define list_entry(p, type, member) container_of(p, type, member)
#define list_first_entry(head, type, member) list_entry((head)->next, type, member)
#define list_next_entry(p, member) list_entry((p)->member.next, __typeof__(*(p)), member)
#define sd_list_or_null_(at, head, type, member) ({			\
	struct list_head *at_ = (at);					\
	at_ != (head) ? list_entry(at_, type, member) : (type *)NULL; })
#define list_first_entry_or_null(head, type, member) sd_list_or_null_((head)->next, head, type, member)
#define list_first_or_null_rcu(head, type, member) sd_list_or_null_(SD_PEEK((head)->next), head, type, member)
#define list_next_or_null_rcu(head, p, type, member) sd_list_or_null_(SD_PEEK((p)->next), head, type, member)
#define list_for_each_entry(p, head, member)				\
	for (p = list_first_entry(head, __typeof__(*p), member);	\
	     &p->member != (head);					\
	     p = list_next_entry(p, member))
#define list_for_each_entry_safe(p, n, head, member)			\
	for (p = list_first_entry(head, __typeof__(*p), member), n = list_next_entry(p, member); \
	     &p->member != (head);					\
	     p = n, n = list_next_entry(n, member))
#define list_for_each_entry_rcu(p, head, member, ...)			\
	for (p = list_entry(SD_PEEK((head)->next), __typeof__(*p), member); \
	     &p->member != (head);					\
	     p = list_entry(SD_PEEK(p->member.next), __typeof__(*p), member))
#define list_for_each_entry_srcu(p, head, member, ...) list_for_each_entry_rcu(p, head, member)
#endif
