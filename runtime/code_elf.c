// Relocator: takes the loaded sections of ELF objects, places them in one mapping, applies their relocations.
//
// A kernel's object has no undefined symbols and no writable data, so what remains are relocations between its own
// sections. Every offset in an object is checked; what the code itself does when it runs cannot be.
#include "runtime/code_elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/alloc.h"

#define BAD(o, ...) sd_status_context(SD_ERR(MODEL, __VA_ARGS__), "code of kernel '%s'", (o)->name)

enum { MAX_SECTIONS = 4096, MAX_ALIGN = 4096 };
#define MAX_CODE   (UINT64_C(1) << 30) // relative relocations reach 2 GiB
#define NOT_LOADED UINT64_MAX

// One object being loaded.
typedef struct object {
  const char *name;
  const uint8_t *data;
  uint64_t size;
  Elf64_Ehdr h;
  Elf64_Shdr *section; // aligned copy of the section table
  uint64_t *place;     // per section: offset in the mapping, or NOT_LOADED
  uint8_t *base;       // the mapping
} object;

static bool inside(const object *o, uint64_t at, uint64_t n) { return at <= o->size && n <= o->size - at; }

// Bytes of a section in the file; checked in read_sections.
static const uint8_t *bytes_of(const object *o, uint32_t i) { return o->data + o->section[i].sh_offset; }

static sard_status *read_header(object *o) {
  if (o->size < sizeof o->h) return BAD(o, "the object is cut off (%llu bytes)", (unsigned long long)o->size);
  memcpy(&o->h, o->data, sizeof o->h);
  const Elf64_Ehdr *h = &o->h;
  if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB)
    return BAD(o, "it is not a 64-bit little-endian ELF object");
  if (h->e_type != ET_REL) return BAD(o, "it is not a relocatable object (type %u)", h->e_type);
  if (h->e_machine != EM_X86_64 && h->e_machine != EM_AARCH64)
    return BAD(o, "it is for unknown machine %u", h->e_machine);
  if (h->e_shnum == 0 || h->e_shnum > MAX_SECTIONS || h->e_shentsize != sizeof(Elf64_Shdr) ||
      !inside(o, h->e_shoff, (uint64_t)h->e_shnum * sizeof(Elf64_Shdr)))
    return BAD(o, "its section table is bad (%u sections)", h->e_shnum);
  return NULL;
}

static sard_status *read_sections(object *o) {
  o->section = sd_calloc(o->h.e_shnum, sizeof *o->section);
  o->place = sd_calloc(o->h.e_shnum, sizeof *o->place);
  if (!o->section || !o->place) return SD_ERR(NOMEM, "out of memory while loading kernel '%s'", o->name);
  memcpy(o->section, o->data + o->h.e_shoff, o->h.e_shnum * sizeof *o->section);
  for (uint32_t i = 0; i < o->h.e_shnum; i++) {
    Elf64_Shdr *s = &o->section[i];
    if (s->sh_type != SHT_NOBITS && s->sh_type != SHT_NULL && !inside(o, s->sh_offset, s->sh_size))
      return BAD(o, "section %u lies outside of the object", i);
    if (s->sh_addralign == 0) s->sh_addralign = 1;
    if (s->sh_addralign & (s->sh_addralign - 1))
      return BAD(o, "section %u has alignment %llu", i, (unsigned long long)s->sh_addralign);
  }
  return NULL;
}

static bool named(const object *o, uint32_t i, const char *name) {
  uint32_t names = o->h.e_shstrndx;
  if (names >= o->h.e_shnum || o->section[names].sh_type != SHT_STRTAB) return false;
  uint64_t at = o->section[i].sh_name, n = o->section[names].sh_size, length = strlen(name) + 1;
  return at < n && length <= n - at && !memcmp(bytes_of(o, names) + at, name, length);
}

// Unwind tables are of no use without exceptions, and would need relocations of their own.
static bool unwanted(const object *o, uint32_t i) {
  const Elf64_Shdr *s = &o->section[i];
  return s->sh_type == SHT_NULL || !(s->sh_flags & SHF_ALLOC) || s->sh_size == 0 || named(o, i, ".eh_frame");
}

// Gives each loaded section an offset behind *total.
static sard_status *place_sections(object *o, uint64_t *total) {
  for (uint32_t i = 0; i < o->h.e_shnum; i++) {
    const Elf64_Shdr *s = &o->section[i];
    o->place[i] = NOT_LOADED;
    if (unwanted(o, i)) continue;
    if (s->sh_flags & (SHF_WRITE | SHF_TLS)) return BAD(o, "it has writable data in section %u", i);
    if (s->sh_type == SHT_NOBITS) return BAD(o, "it has uninitialized data in section %u", i);
    if (s->sh_addralign > MAX_ALIGN)
      return BAD(o, "section %u wants alignment %llu", i, (unsigned long long)s->sh_addralign);
    o->place[i] = sd_align_up(*total, s->sh_addralign);
    if (s->sh_size > MAX_CODE || o->place[i] + s->sh_size > MAX_CODE) return BAD(o, "the code is larger than 1 GiB");
    *total = o->place[i] + s->sh_size;
  }
  return NULL;
}

// ---- relocations ----

typedef enum relkind {
  REL_ABS64,
  REL_PC32,
  REL_PC64,
  REL_ADR_PAGE,
  REL_LO12_ADD,
  REL_LO12_8,
  REL_LO12_16,
  REL_LO12_32,
  REL_LO12_64,
  REL_LO12_128,
  REL_BRANCH26
} relkind;
typedef struct relrow { uint16_t machine, type; relkind kind; } relrow;
static const relrow relrows[] = {
    {EM_X86_64, R_X86_64_64, REL_ABS64},
    {EM_X86_64, R_X86_64_PC32, REL_PC32},
    {EM_X86_64, R_X86_64_PLT32, REL_PC32},
    {EM_X86_64, R_X86_64_PC64, REL_PC64},
    {EM_AARCH64, R_AARCH64_ABS64, REL_ABS64},
    {EM_AARCH64, R_AARCH64_PREL32, REL_PC32},
    {EM_AARCH64, R_AARCH64_PREL64, REL_PC64},
    {EM_AARCH64, R_AARCH64_ADR_PREL_PG_HI21, REL_ADR_PAGE},
    {EM_AARCH64, R_AARCH64_ADD_ABS_LO12_NC, REL_LO12_ADD},
    {EM_AARCH64, R_AARCH64_LDST8_ABS_LO12_NC, REL_LO12_8},
    {EM_AARCH64, R_AARCH64_LDST16_ABS_LO12_NC, REL_LO12_16},
    {EM_AARCH64, R_AARCH64_LDST32_ABS_LO12_NC, REL_LO12_32},
    {EM_AARCH64, R_AARCH64_LDST64_ABS_LO12_NC, REL_LO12_64},
    {EM_AARCH64, R_AARCH64_LDST128_ABS_LO12_NC, REL_LO12_128},
    {EM_AARCH64, R_AARCH64_CALL26, REL_BRANCH26},
    {EM_AARCH64, R_AARCH64_JUMP26, REL_BRANCH26},
};

static const relrow *find_relocation(uint16_t machine, uint64_t type) {
  for (size_t i = 0; i < sizeof relrows / sizeof *relrows; i++)
    if (relrows[i].machine == machine && relrows[i].type == type) return &relrows[i];
  return NULL;
}

static void put32(uint8_t *at, uint32_t v) { memcpy(at, &v, 4); }
static void put64(uint8_t *at, uint64_t v) { memcpy(at, &v, 8); }
static uint32_t get32(const uint8_t *at) {
  uint32_t v;
  memcpy(&v, at, 4);
  return v;
}

// Puts the page-relative part of an address into the immediate (bits 10..21) of a load, store or add.
static bool put_lo12(uint8_t *at, uint64_t target, unsigned scale) {
  uint64_t low = target & 0xfff;
  if (low & ((1u << scale) - 1)) return false; // the instruction counts in units of its access size
  put32(at, (get32(at) & ~(0xfffu << 10)) | (uint32_t)(low >> scale) << 10);
  return true;
}

// Applies one relocation at `at`, where `target` = symbol + addend; false when the value does not fit.
static bool apply(relkind kind, uint8_t *at, uint64_t target) {
  uint64_t here = (uint64_t)(uintptr_t)at;
  int64_t rel = (int64_t)(target - here), page = (int64_t)((target & ~0xfffull) - (here & ~0xfffull)) >> 12;
  switch (kind) {
  case REL_ABS64: put64(at, target); return true;
  case REL_PC64: put64(at, (uint64_t)rel); return true;
  case REL_PC32:
    if (rel < INT32_MIN || rel > INT32_MAX) return false;
    put32(at, (uint32_t)rel);
    return true;
  case REL_ADR_PAGE: // immlo in bits 29..30, immhi in bits 5..23
    if (page < -(1 << 20) || page >= 1 << 20) return false;
    put32(at, (get32(at) & 0x9f00001fu) | ((uint32_t)page & 3) << 29 | ((uint32_t)page >> 2 & 0x7ffff) << 5);
    return true;
  case REL_BRANCH26:
    if ((rel & 3) || rel < -(1 << 27) || rel >= 1 << 27) return false;
    put32(at, (get32(at) & 0xfc000000u) | ((uint32_t)(rel >> 2) & 0x03ffffffu));
    return true;
  case REL_LO12_ADD:
  case REL_LO12_8: return put_lo12(at, target, 0);
  case REL_LO12_16: return put_lo12(at, target, 1);
  case REL_LO12_32: return put_lo12(at, target, 2);
  case REL_LO12_64: return put_lo12(at, target, 3);
  case REL_LO12_128: return put_lo12(at, target, 4);
  }
  return false;
}

static size_t width_of(relkind kind) { return kind == REL_ABS64 || kind == REL_PC64 ? 8 : 4; }

// Symbol `index` of symbol table section `table`; false when there is none.
static bool read_symbol(const object *o, uint32_t table, uint64_t index, Elf64_Sym *out) {
  if (table >= o->h.e_shnum || o->section[table].sh_type != SHT_SYMTAB) return false;
  if (index >= o->section[table].sh_size / sizeof *out) return false;
  memcpy(out, bytes_of(o, table) + index * sizeof *out, sizeof *out);
  return true;
}

// Address of a symbol in the mapping; false unless it is defined in a loaded section.
static bool symbol_address(const object *o, const Elf64_Sym *s, uint64_t *out) {
  if (s->st_shndx == SHN_UNDEF || s->st_shndx >= o->h.e_shnum || o->place[s->st_shndx] == NOT_LOADED) return false;
  if (s->st_value > o->section[s->st_shndx].sh_size) return false;
  *out = (uint64_t)(uintptr_t)o->base + o->place[s->st_shndx] + s->st_value;
  return true;
}

// Name of a symbol for messages and comparison; "" when it is bad.
static const char *symbol_name(const object *o, uint32_t table, const Elf64_Sym *s) {
  uint32_t names = o->section[table].sh_link;
  if (names >= o->h.e_shnum || o->section[names].sh_type != SHT_STRTAB) return "";
  uint64_t n = o->section[names].sh_size;
  const char *p = (const char *)bytes_of(o, names);
  if (s->st_name >= n || !memchr(p + s->st_name, 0, n - s->st_name)) return "";
  return p + s->st_name;
}

static sard_status *relocate_one(const object *o, uint32_t table, uint32_t target, const Elf64_Rela *r) {
  uint64_t type = ELF64_R_TYPE(r->r_info), address;
  const relrow *row = find_relocation(o->h.e_machine, type);
  Elf64_Sym s;
  if (type == 0) return NULL; // R_*_NONE
  if (!row) return BAD(o, "unknown relocation type %llu", (unsigned long long)type);
  if (!read_symbol(o, table, ELF64_R_SYM(r->r_info), &s)) return BAD(o, "a relocation has a bad symbol");
  if (!symbol_address(o, &s, &address))
    return BAD(o, "symbol '%s' is not defined in the object", symbol_name(o, table, &s));
  uint64_t size = o->section[target].sh_size, width = width_of(row->kind);
  if (size < width || r->r_offset > size - width) return BAD(o, "a relocation lies outside of its section");
  if (!apply(row->kind, o->base + o->place[target] + r->r_offset, address + (uint64_t)r->r_addend))
    return BAD(o, "relocation type %llu does not reach '%s'", (unsigned long long)type, symbol_name(o, table, &s));
  return NULL;
}

static sard_status *relocate(const object *o) {
  for (uint32_t i = 0; i < o->h.e_shnum; i++) {
    const Elf64_Shdr *s = &o->section[i];
    if (s->sh_type != SHT_RELA && s->sh_type != SHT_REL) continue;
    if (s->sh_info >= o->h.e_shnum) return BAD(o, "relocation section %u is for no section", i);
    if (o->place[s->sh_info] == NOT_LOADED) continue;
    if (s->sh_type == SHT_REL) return BAD(o, "relocations without addends are not known");
    for (uint64_t k = 0; k < s->sh_size / sizeof(Elf64_Rela); k++) {
      Elf64_Rela r;
      memcpy(&r, bytes_of(o, i) + k * sizeof r, sizeof r);
      SD_TRY(relocate_one(o, s->sh_link, s->sh_info, &r));
    }
  }
  return NULL;
}

static sard_status *find_entry(const object *o, void **out) {
  for (uint32_t t = 0; t < o->h.e_shnum; t++) {
    if (o->section[t].sh_type != SHT_SYMTAB) continue;
    Elf64_Sym s;
    for (uint64_t k = 1; read_symbol(o, t, k, &s); k++) {
      uint64_t address;
      if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || ELF64_ST_BIND(s.st_info) != STB_GLOBAL) continue;
      if (!symbol_address(o, &s, &address) || !(o->section[s.st_shndx].sh_flags & SHF_EXECINSTR) ||
          s.st_value >= o->section[s.st_shndx].sh_size)
        return BAD(o, "its function is not in a code section");
      *out = (void *)(uintptr_t)address;
      return NULL;
    }
  }
  return BAD(o, "the object has no global function");
}

static void copy_sections(const object *o) {
  for (uint32_t i = 0; i < o->h.e_shnum; i++)
    if (o->place[i] != NOT_LOADED) memcpy(o->base + o->place[i], bytes_of(o, i), o->section[i].sh_size);
}

static void drop_object(object *o) {
  sd_free(o->section);
  sd_free(o->place);
  *o = (object){0};
}

static sard_status *open_object(object *o, const void *data, uint64_t size, const char *name, uint64_t *total) {
  *o = (object){.name = name, .data = data, .size = size};
  SD_TRY(read_header(o));
  SD_TRY(read_sections(o));
  return place_sections(o, total);
}

static sard_status *finish_object(object *o, uint8_t *base, void **entry) {
  o->base = base;
  copy_sections(o);
  SD_TRY(relocate(o));
  return find_entry(o, entry);
}

// ---- entries ----

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#else
enum { MACHINE = EM_NONE };
#endif

// Objects are laid out first (the size of the mapping must be known), then opened again one by one to be filled in:
// thousands of section tables are not held at the same time.
static sard_status *measure(const sd_code_object *objects, size_t n, uint64_t *start, uint64_t *out_total) {
  uint64_t total = 0;
  for (size_t i = 0; i < n; i++) {
    object o;
    total = start[i] = sd_align_up(total, 64);
    sard_status *st = open_object(&o, objects[i].data, objects[i].size, objects[i].name, &total);
    if (!st && o.h.e_machine != MACHINE)
      st = SD_ERR(DEVICE, "kernel '%s' is code for another machine (ELF %u)", objects[i].name, o.h.e_machine);
    drop_object(&o);
    SD_TRY(st);
  }
  *out_total = total;
  return NULL;
}

static sard_status *fill(sd_code_object *objects, size_t n, uint64_t *start, uint8_t *base) {
  for (size_t i = 0; i < n; i++) {
    object o;
    sard_status *st = open_object(&o, objects[i].data, objects[i].size, objects[i].name, &start[i]);
    if (!st) st = finish_object(&o, base, &objects[i].entry);
    drop_object(&o);
    SD_TRY(st);
  }
  return NULL;
}

static sard_status *map_and_fill(sd_code_object *objects, size_t n, uint64_t *start, sd_code *out) {
  uint64_t total;
  SD_TRY(measure(objects, n, start, &total));
  if (total == 0) return n ? SD_ERR(MODEL, "kernel '%s' has no code", objects[0].name) : NULL;
  size_t room = sd_align_up(total, (uint64_t)sysconf(_SC_PAGESIZE));
  void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return SD_ERR(NOMEM, "out of memory for %zu bytes of code", room);
  *out = (sd_code){p, room};
  SD_TRY(fill(objects, n, start, p));
  if (mprotect(p, room, PROT_READ | PROT_EXEC))
    return SD_ERR(DEVICE, "this system does not allow to run generated code: %s", strerror(errno));
  __builtin___clear_cache((char *)p, (char *)p + room);
  return NULL;
}

sard_status *sd_code_load(sd_code_object *objects, size_t n, sd_code *out) {
  *out = (sd_code){0};
  uint64_t *start = sd_calloc(n, sizeof *start);
  if (!start) return SD_ERR(NOMEM, "out of memory while loading %zu kernels", n);
  sard_status *st = map_and_fill(objects, n, start, out);
  if (st) sd_code_unload(out);
  sd_free(start);
  return st;
}

void sd_code_unload(sd_code *c) {
  if (c->base) munmap(c->base, c->size);
  *c = (sd_code){0};
}

sard_status *sd_code_check(const void *data, size_t size, const char *name) {
  object o;
  uint64_t total = 0;
  void *entry;
  uint8_t *room = NULL;
  sard_status *st = open_object(&o, data, size, name, &total);
  if (!st && !(room = sd_malloc(total + MAX_ALIGN)))
    st = SD_ERR(NOMEM, "out of memory while checking kernel '%s'", name);
  // Relocations by page count on the alignment that a mapping has.
  if (!st) st = finish_object(&o, (uint8_t *)sd_align_up((uintptr_t)room, MAX_ALIGN), &entry);
  sd_free(room);
  drop_object(&o);
  return st;
}
