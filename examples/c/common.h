/* What the examples share: a model from a file, and the end of the program when something fails. */
#ifndef COMMON_H
#define COMMON_H

#include <attar.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void must(attar_status status, const attar_error *error, const char *what) {
  if (status == ATTAR_OK) return;
  fprintf(stderr, "%s: %s%s%s\n", what, attar_status_str(status), error ? ": " : "", error ? error->msg : "");
  exit(1);
}

/* Maps a file; the descriptor is not needed afterwards. */
static inline attar_model *open_model(const char *path) {
  attar_source source = {.size = sizeof source};
  attar_error error = {.size = sizeof error};
  attar_model *model;
  int fd = open(path, O_RDONLY);
  must(attar_source_fd(&source, fd, 0, 0), NULL, path);
  must(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), &error, path);
  close(fd);
  return model;
}

static inline attar_session *open_session(const attar_model *model, uint32_t n_ctx) {
  attar_config config = {.size = sizeof config, .n_ctx = n_ctx, .n_prefill = 64};
  attar_error error = {.size = sizeof error};
  attar_session *session;
  must(attar_session_open(model, &config, NULL, &session, &error), &error, "session");
  return session;
}

/* Tokens of a text; returns how many. */
static inline size_t tokens_of(const attar_model *model, const char *text, uint32_t flags, attar_token *out, size_t room) {
  must(attar_tokenize(model, text, strlen(text), flags, NULL, out, &room), NULL, "tokenize");
  return room;
}

#endif
