// Host functions by file; the table is in runtime/host_ops.c.
#pragma once
#include <stdbool.h>

#include "runtime/host.h"

int64_t sd_host_key(sd_dtype t, const void *data, uint64_t i); // order of values as integers
// runtime/host_select.c
sard_status *sd_host_nonzero(sd_host_call *c);
sard_status *sd_host_compress(sd_host_call *c);
sard_status *sd_host_unique(sd_host_call *c);
sard_status *sd_host_reshape_dims(sd_host_call *c);
// runtime/host_rank.c
sard_status *sd_host_topk(sd_host_call *c);
sard_status *sd_host_nms(sd_host_call *c);
// runtime/host_image.c
sard_status *sd_host_decode_image(sd_host_call *c);
