// Clock, and the number of processors that the affinity mask and the cgroup quota leave to this process.
#include "runtime/base/thread.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t sd_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Processors in the affinity mask. The kernel refuses a mask that is too small for its processor numbers.
static int affinity_count(void) {
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
    size_t bytes = CPU_ALLOC_SIZE(cpus);
    cpu_set_t *set = CPU_ALLOC(cpus);
    if (!set) break;
    CPU_ZERO_S(bytes, set);
    int n = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (n > 0) return n;
  }
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (int)n : 1;
}

// First line of a small file; false when it cannot be read.
static bool read_line(const char *path, char *out, int size) {
  FILE *f = fopen(path, "re");
  if (!f) return false;
  bool ok = fgets(out, size, f) != NULL;
  fclose(f);
  return ok;
}

static int quota_to_cpus(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  double n = quota / period;
  return n >= 1 << 20 ? 0 : (int)n + (n > (int)n);
}

// Quota of one cgroup folder, 0 = none. Version 2 has "quota period" in one file, version 1 has two files.
static int folder_quota(const char *folder, bool v2) {
  char path[4200], line[64];
  if (v2) {
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    double quota, period;
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lf %lf", &quota, &period) != 2) return 0; // "max ..."
    return quota_to_cpus(quota, period);
  }
  snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
  if (!read_line(path, line, sizeof line)) return 0;
  double quota = atof(line);
  snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
  return read_line(path, line, sizeof line) ? quota_to_cpus(quota, atof(line)) : 0;
}

// The least quota of the group and its parents up to the mount point. In a container the path of /proc/self/cgroup may
// not exist below the mount point; the walk then still ends at the root, which is the container's own group.
static int tree_quota(const char *mount, const char *group, bool v2) {
  char folder[4096];
  int best = 0, n = snprintf(folder, sizeof folder, "%s%s", mount, group);
  if (n < 0 || (size_t)n >= sizeof folder) snprintf(folder, sizeof folder, "%s", mount);
  for (;;) {
    int q = folder_quota(folder, v2);
    if (q > 0 && (best == 0 || q < best)) best = q;
    char *slash = strrchr(folder, '/');
    if (!slash || (size_t)(slash - folder) < strlen(mount)) return best;
    *slash = 0;
  }
}

static int cgroup_quota(void) {
  FILE *f = fopen("/proc/self/cgroup", "re");
  if (!f) return 0;
  char line[4096];
  int best = 0;
  while (fgets(line, sizeof line, f)) { // "id:controllers:path"
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) continue;
    *group++ = 0;
    controllers++;
    group[strcspn(group, "\n")] = 0;
    if (!strcmp(group, "/")) group[0] = 0;
    int q = 0;
    if (!*controllers) {
      q = tree_quota("/sys/fs/cgroup", group, true);
      if (!q) q = tree_quota("/sys/fs/cgroup/unified", group, true);
    } else if (!strcmp(controllers, "cpu") || !strcmp(controllers, "cpu,cpuacct") ||
               !strcmp(controllers, "cpuacct,cpu")) {
      char mount[64];
      snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", controllers);
      q = tree_quota(mount, group, false);
      if (!q) q = tree_quota("/sys/fs/cgroup/cpu", group, false);
    }
    if (q > 0 && (best == 0 || q < best)) best = q;
  }
  fclose(f);
  return best;
}

int sd_cpu_count(void) {
  int n = affinity_count(), q = cgroup_quota();
  if (q > 0 && q < n) n = q;
  return n > 0 ? n : 1;
}
