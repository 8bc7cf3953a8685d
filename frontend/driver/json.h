// JSON texts that users give (plans, configurations) as trees. They are untrusted.
#pragma once
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

typedef enum sd_json_kind {
  SD_JSON_NULL,
  SD_JSON_BOOL,
  SD_JSON_NUMBER,
  SD_JSON_TEXT,
  SD_JSON_LIST,
  SD_JSON_OBJECT
} sd_json_kind;
typedef struct sd_json {
  sd_json_kind kind;
  const char *key; // in an object
  int line;        // where it begins
  double number;   // of numbers; 1 for true
  const char *text;
  struct sd_json *first, *next; // of lists and objects; the next one of the parent
} sd_json;

// Reads all of `text`; SARD_E_MODEL names `file`, the line and what is wrong.
sard_status *sd_json_parse(sd_arena *a, const char *text, const char *file, sd_json **out);
const sd_json *sd_json_get(const sd_json *object, const char *key); // NULL: no object, or none of that key
const char *sd_json_text(const sd_json *object, const char *key);   // NULL: absent, or no text
