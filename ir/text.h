// Pieces of the text form that printer and parser share.
#pragma once
#include "ir/op.h"

#define SD_TEXT_INLINE 16 // constants of at most that many elements are printed inline

// "text" in double quotes: \" \\ \n \t and \xHH for other control characters; other bytes as they are.
void sd_text_quote(sd_str *out, const char *s);
