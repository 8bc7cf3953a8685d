// Kernels with faults that the model has to find: FAULT(name, part of the complaint). The first one has none.
struct sd_fault_args { float *out; unsigned *error; };

FAULT(right, "")
  SD_SHARED(float, s, 64);
  SD_ST(s, threadIdx.x, 1.0f);
  __syncthreads();
  SD_ST(A.out, threadIdx.x, SD_LD(s, 63 - threadIdx.x));
END

FAULT(no_barrier, "race")
  SD_SHARED(float, s, 64);
  SD_ST(s, threadIdx.x, 0.0f);
  __syncthreads();
  SD_ST(s, threadIdx.x, 1.0f);
  if (threadIdx.x >= 32) SD_ST(A.out, threadIdx.x, SD_LD(s, 63 - threadIdx.x));
END

FAULT(no_second_barrier, "race")
  SD_SHARED(float, s, 64);
  float sum = 0;
  for (int i = 0; i < 2; i++) {
    SD_ST(s, threadIdx.x, (float)i);
    __syncthreads();
    sum += SD_LD(s, 63 - threadIdx.x);
  }
  SD_ST(A.out, threadIdx.x, sum);
END

FAULT(two_writers, "race")
  SD_ST(A.out, threadIdx.x / 2, 1.0f);
END

FAULT(undefined_shared, "which nobody wrote")
  SD_SHARED(float, s, 64);
  if (threadIdx.x != 5) SD_ST(s, threadIdx.x, 1.0f);
  __syncthreads();
  SD_ST(A.out, threadIdx.x, SD_LD(s, 63 - threadIdx.x));
END

FAULT(undefined_output, "which nobody wrote")
  SD_ST(A.out, threadIdx.x, SD_LD(A.out, threadIdx.x) + 1);
END

FAULT(outside, "which has 64")
  SD_ST(A.out, threadIdx.x + 1, 1.0f);
END

FAULT(part_of_a_barrier, "a barrier that thread")
  if (threadIdx.x < 40) __syncthreads();
  SD_ST(A.out, threadIdx.x, 1.0f);
END

FAULT(two_barriers, "a barrier that thread")
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __syncthreads();
END

FAULT(part_of_a_shuffle, "a shuffle that thread")
  float x = 1;
  if (threadIdx.x % 32 < 31) x = sd_warp_reduce<sd_op_sum>(x);
  SD_ST(A.out, threadIdx.x, x);
END
