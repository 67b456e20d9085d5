/* As firmware does it: the model lies in memory, all other memory is lent, and the plan says how much.
   load_from_memory MODEL.gguf */
#include "common.h"

/* Stands for flash: the file, read once. */
static unsigned char *flash(const char *path, size_t *len) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = NULL;
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit(1);
  *len = (size_t)ftell(file);
  rewind(file);
  bytes = malloc(*len);
  if (bytes == NULL || fread(bytes, 1, *len, file) != *len) exit(1);
  fclose(file);
  return bytes;
}

/* Stands for static arrays whose sizes were looked up in a plan. */
static attar_mem lend(uint64_t size) {
  size_t whole = (size_t)(size + ATTAR_ALIGN - 1) / ATTAR_ALIGN * ATTAR_ALIGN;
  attar_mem mem = {.base = aligned_alloc(ATTAR_ALIGN, whole), .size = (size_t)size};
  if (mem.base == NULL) exit(1);
  return mem;
}

int main(int argc, char **argv) {
  size_t len;
  unsigned char *bytes = flash(argv[argc - 1], &len);
  attar_source source = {.size = sizeof source};
  attar_config config = {.size = sizeof config, .n_ctx = 64, .n_prefill = 8};
  attar_plan_info plan = {.size = sizeof plan};
  attar_error error = {.size = sizeof error};
  attar_model *model;
  attar_session *session;
  must(attar_source_memory(&source, bytes, len), NULL, "source");
  must(attar_plan(&source, &config, NULL, &plan, &error), &error, "plan");
  printf("in place %llu bytes, model %llu, session %llu\n", (unsigned long long)plan.mapped_file,
         (unsigned long long)plan.model_arena, (unsigned long long)plan.session_arena);
  attar_mem model_arena = lend(plan.model_arena), session_arena = lend(plan.session_arena);
  must(attar_model_open(&source, &config, &model_arena, &model, NULL, NULL, &error), &error, "model");
  must(attar_session_open(model, &config, &session_arena, &session, &error), &error, "session");

  attar_token tokens[64];
  size_t n = tokens_of(model, "Once upon a time", 0, tokens, 64);
  must(attar_prefill(session, tokens, n, NULL), NULL, "prefill");
  for (int i = 0; i < 16; ++i) {
    uint8_t text[64];
    attar_token token;
    n = sizeof text;
    must(attar_step(session, NULL, &token, NULL), NULL, "step");
    must(attar_detokenize(model, &token, 1, 0, text, &n), NULL, "detokenize");
    fwrite(text, 1, n, stdout);
  }
  putchar('\n');
  attar_session_close(session);
  attar_model_close(model);
  free(model_arena.base);
  free(session_arena.base);
  free(bytes);
  return 0;
}
