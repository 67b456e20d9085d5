/* What the tests share: checks that name their line, a file in memory, a session over it. */
#ifndef CHECK_H
#define CHECK_H

#include "attar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long checks, failures;

#define CHECK(condition)                                                     \
  do {                                                                       \
    ++checks;                                                                \
    if (!(condition)) {                                                      \
      ++failures;                                                            \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                        \
  } while (0)

#define CHECK_IS(call, expected)                                                                  \
  do {                                                                                            \
    attar_status got_ = (call), want_ = (expected);                                               \
    ++checks;                                                                                     \
    if (got_ != want_) {                                                                          \
      ++failures;                                                                                 \
      fprintf(stderr, "%s:%d: %s is %s, expected %s\n", __FILE__, __LINE__, #call, attar_status_str(got_), \
              attar_status_str(want_));                                                           \
    }                                                                                             \
  } while (0)

/* The last line of every test. */
static inline int report(const char *name) {
  printf("%s: %lu checks, %lu failures\n", name, checks, failures);
  return failures == 0 ? 0 : 1;
}

/* A whole file, at an address aligned as asked by the library's users with the strictest needs. */
static inline unsigned char *read_file(const char *path, size_t *len) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = NULL;
  long end = -1;
  if (file != NULL && fseek(file, 0, SEEK_END) == 0) end = ftell(file);
  if (end > 0 && fseek(file, 0, SEEK_SET) == 0) bytes = (unsigned char *)malloc((size_t)end);
  if (bytes == NULL || fread(bytes, 1, (size_t)end, file) != (size_t)end) {
    fprintf(stderr, "cannot read %s\n", path);
    exit(2);
  }
  fclose(file);
  *len = (size_t)end;
  return bytes;
}

/* Room for an arena, aligned. `raw` is to be freed. */
static inline void *aligned(size_t size, void **raw) {
  *raw = malloc(size + ATTAR_ALIGN);
  if (*raw == NULL) exit(2);
  return (void *)(((uintptr_t)*raw + ATTAR_ALIGN - 1) / ATTAR_ALIGN * ATTAR_ALIGN);
}

static inline attar_config config_of(uint32_t n_ctx) {
  attar_config config = {0};
  config.size = sizeof config;
  config.n_ctx = n_ctx;
  config.n_prefill = 16;
  return config;
}

#endif
