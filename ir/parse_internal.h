// The parser of module text: state and the lexical functions.
#pragma once
#include "ir/text.h"

typedef struct fixup { sd_value *v; uint32_t id, n_window; } fixup; // storage of v is the value with that id
typedef SD_VEC(sd_value *) operands;

typedef struct parser {
  const char *text, *p, *end, *file;
  sd_module *m;
  sd_value **table; // values by id, open addressing
  uint32_t cap, n_ids, next_id;
  uint32_t above, inserted; // above all ids of the text; next id of values that inference adds
  SD_VEC(fixup) fixups;
} parser;

sard_status *sd_parse_fail(parser *s, const char *what); // file:line:column: what at "..."
void sd_parse_skip(parser *s);
bool sd_parse_eat(parser *s, const char *token); // words only whole
sard_status *sd_parse_need(parser *s, const char *token);
sard_status *sd_parse_word(parser *s, const char **out);
sard_status *sd_parse_quoted(parser *s, const char **out);
int sd_parse_hex(char c); // -1 when it is no hex digit
sard_status *sd_parse_int(parser *s, int64_t *out);
sard_status *sd_parse_float(parser *s, double *out);

// dense<...>, hex<...> or hash<...> for a constant whose type is set. hash<> gives zeros that carry the hash.
sard_status *sd_parse_content(parser *s, sd_const *c);
sard_status *sd_parse_attr_value(parser *s, sd_attr_kind kind, sd_attr *a);
