// Host functions by file; the table is in runtime/host_ops.c.
#pragma once
#include <stdbool.h>

#include "runtime/host.h"

// Bytes of an element; an error for types without whole bytes, and for strings.
sard_status *sd_host_element_size(const sd_host_tensor *t, size_t *out);
// runtime/host_select.c
sard_status *sd_host_nonzero(sd_host_call *c);
sard_status *sd_host_compress(sd_host_call *c);
sard_status *sd_host_reshape_dims(sd_host_call *c);
sard_status *sd_host_unique(sd_host_call *c); // runtime/host_unique.c
sard_status *sd_host_topk(sd_host_call *c);   // runtime/host_topk.c
sard_status *sd_host_nms(sd_host_call *c);    // runtime/host_nms.c
// runtime/host_image.c
sard_status *sd_host_decode_image(sd_host_call *c);
// runtime/host_sizes.c
sard_status *sd_host_sizes(sd_host_call *c);
