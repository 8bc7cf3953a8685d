// Which of the folders of cases are wanted: for scandir.
#pragma once
#include <dirent.h>
#include <string.h>

static char **prefixes; // of names, NULL at the end; none: all

static int is_wanted(const struct dirent *d) {
  if (d->d_name[0] == '.') return 0;
  if (!*prefixes) return 1;
  for (char **p = prefixes; *p; p++)
    if (!strncmp(d->d_name, *p, strlen(*p))) return 1;
  return 0;
}
