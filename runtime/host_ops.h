// Host functions by file; the table is in runtime/host_ops.c.
#pragma once
#include <stdbool.h>

#include "runtime/host.h"

// Bytes of an element; an error for types without whole bytes, and for strings.
sard_status *sd_host_element_size(const sd_host_tensor *t, size_t *out);
// What sd_host_keep kept in an earlier call; NULL where nothing is, or where one of the inputs [first, n_in) is not fixed.
void *sd_host_kept_state(const sd_host_call *c, uint32_t first);
// Takes `state`, made of inputs [first, n_in) alone: keeps it for later calls, or frees it where these may differ then.
void sd_host_keep(const sd_host_call *c, uint32_t first, void *state, void (*free)(void *state));
// runtime/host_select.c
sard_status *sd_host_nonzero(sd_host_call *c);
sard_status *sd_host_compress(sd_host_call *c);
sard_status *sd_host_reshape_dims(sd_host_call *c);
sard_status *sd_host_unique(sd_host_call *c); // runtime/host_unique.c
sard_status *sd_host_topk(sd_host_call *c);   // runtime/host_topk.c
sard_status *sd_host_nms(sd_host_call *c);    // runtime/host_nms.c
sard_status *sd_host_find_keys(sd_host_call *c); // runtime/host_find.c
// runtime/host_object.c
sard_status *sd_host_give_object(sd_host_call *c, uint32_t out, uint64_t number); // output `out` is the object of that number
sard_status *sd_host_sequence_empty(sd_host_call *c);
sard_status *sd_host_sequence_construct(sd_host_call *c);
sard_status *sd_host_sequence_insert(sd_host_call *c);
sard_status *sd_host_sequence_erase(sd_host_call *c);
sard_status *sd_host_sequence_at(sd_host_call *c);
sard_status *sd_host_sequence_length(sd_host_call *c);
sard_status *sd_host_split_to_sequence(sd_host_call *c);
sard_status *sd_host_concat_from_sequence(sd_host_call *c);
sard_status *sd_host_optional(sd_host_call *c);
sard_status *sd_host_optional_has(sd_host_call *c);
sard_status *sd_host_optional_get(sd_host_call *c);
sard_status *sd_host_box(sd_host_call *c);
sard_status *sd_host_unbox(sd_host_call *c);
sard_status *sd_host_box_rank(sd_host_call *c);
sard_status *sd_host_squeeze_any(sd_host_call *c);
// runtime/host_text.c, host_ngram.c
sard_status *sd_host_string_concat(sd_host_call *c);
sard_status *sd_host_string_split(sd_host_call *c);
sard_status *sd_host_string_normalizer(sd_host_call *c);
sard_status *sd_host_regex_match(sd_host_call *c);
sard_status *sd_host_cast_text(sd_host_call *c);
sard_status *sd_host_ngrams(sd_host_call *c);
// runtime/host_map.c
sard_status *sd_host_zip_map(sd_host_call *c);
sard_status *sd_host_dict_vectorizer(sd_host_call *c);
sard_status *sd_host_cast_map(sd_host_call *c);
// runtime/host_image.c
sard_status *sd_host_decode_image(sd_host_call *c);
// runtime/host_random.c
sard_status *sd_host_noise(sd_host_call *c);
// runtime/host_comm.c
sard_status *sd_host_all_reduce(sd_host_call *c);
sard_status *sd_host_all_gather(sd_host_call *c);
sard_status *sd_host_reduce_scatter(sd_host_call *c);
// runtime/host_sizes.c
sard_status *sd_host_sizes(sd_host_call *c);
