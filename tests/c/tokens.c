/* The bundled model's greedy tokens and all its logits as one hash, which is the same on every machine:
   tokens attar-1m.gguf attar-1m.tokens */
#include "check.h"

/* FNV-1a. */
static uint64_t hash(uint64_t seen, const void *data, size_t n) {
  const unsigned char *byte = (const unsigned char *)data;
  for (; n > 0; --n, ++byte) seen = (seen ^ *byte) * UINT64_C(0x100000001b3);
  return seen;
}

/* What the model goes on with: for each token the bits of the logits it was chosen from, then its id. */
static uint64_t tell(attar_session *session, unsigned count) {
  uint64_t seen = UINT64_C(0xcbf29ce484222325);
  size_t n = 0;
  CHECK_IS(attar_logits(session, NULL, &n), ATTAR_E_SMALLBUF);
  float *logits = (float *)malloc(n * sizeof *logits);
  while (logits != NULL && count-- > 0) {
    attar_token token = ATTAR_TOKEN_NONE;
    CHECK_IS(attar_logits(session, logits, &n), ATTAR_OK);
    CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_OK);
    seen = hash(hash(seen, logits, n * sizeof *logits), &token, sizeof token);
  }
  free(logits);
  return seen;
}

/* The count and the hash are on the last line. */
static unsigned known(const char *path, char hash[17]) {
  char line[256];
  unsigned count = 0;
  FILE *file = fopen(path, "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) sscanf(line, "%u %16s", &count, hash);
  if (file != NULL) fclose(file);
  return count;
}

int main(int argc, char **argv) {
  char expected[17] = "", found[17];
  unsigned count = argc == 3 ? known(argv[2], expected) : 0;
  if (count == 0) {
    fprintf(stderr, "usage: %s MODEL TOKENS\n", argv[0]);
    return 2;
  }
  size_t len, n = 16;
  unsigned char *file = read_file(argv[1], &len);
  attar_source source;
  attar_model *model;
  attar_session *session;
  attar_token prompt[16];
  source.size = sizeof source;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_session_open(model, NULL, NULL, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_tokenize(model, "Once upon a time", 16, 0, NULL, prompt, &n), ATTAR_OK);
  CHECK_IS(attar_prefill(session, prompt, n, NULL), ATTAR_OK);
  snprintf(found, sizeof found, "%016llx", (unsigned long long)tell(session, count));
  printf("%u tokens with the hash %s\n", count, found);
  CHECK(strcmp(found, expected) == 0);
  attar_session_close(session);
  attar_model_close(model);
  free(file);
  return report("tokens");
}
