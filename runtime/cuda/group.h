// Ranks that are GPUs of this process, each with a session and a thread. Tensors are exchanged where they lie:
// AllGather from memory to memory where all GPUs reach each other, everything by NCCL where that is there; what is left
// goes over the host.
#pragma once
#include "runtime/collective/group.h"
#include "runtime/cuda/session.h"

// Sessions by rank, all on GPUs, which the groups then belong to. SARD_E_DEVICE names device and call.
sard_status *sd_cu_groups_new(sard_session *const *ranks, int n, sd_group ***out);

// How the ranks of a group that sd_cu_groups_new made exchange: "peer-to-peer", ...; and why not by NCCL, NULL: by it.
const char *sd_cu_group_transport(const sd_group *g);
const char *sd_cu_group_why(const sd_group *g);
uint64_t sd_cu_group_peer_bytes(const sd_group *g); // that the rank has read from the memory of others
void sd_cu_group_forget(sd_group *g);               // that count begins anew

// Whether work of the session may wait for other ranks on the device, so that the host has to look after them while it
// waits.
bool sd_cu_group_waits(const sard_session *s);
// Returns when the event (NULL: all that is queued) is done, or with an error when a rank has failed.
sard_status *sd_cu_group_poll(const sard_session *s, void *event, const char *what);
