// What the CPU of this machine can run.
#pragma once
#include <stdbool.h>

const char *sd_cpu_arch(void); // "x86_64", "aarch64", "?" for others
const char *sd_cpu_name(void); // model text, "" when not known; static memory
// Whether this CPU (and operating system) runs code of an instruction set row: "baseline", "avx2", "avxvnni", "avx512",
// "avx512vnni", "avx512bf16", "amx", "neon". The first question for "amx" asks the operating system to let this process use it.
// Otherwise false and *out_missing says what lacks ("avx512bw", or "a known name"); out_missing may be NULL.
bool sd_cpu_has_isa(const char *isa, const char **out_missing);
// Model and features of the CPU as a text of digits, equal where code may be shared; writes it into out and returns that.
enum { SD_CPU_ID = 96 };
const char *sd_cpu_id(char out[SD_CPU_ID]);
