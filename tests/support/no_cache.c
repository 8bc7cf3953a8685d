// Test programs compile: they neither use nor fill the user's cache.
#include <stdlib.h>

__attribute__((constructor)) static void no_cache(void) { setenv("SARD_CACHE", "off", 1); }
