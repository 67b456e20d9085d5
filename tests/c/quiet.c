/* The least a program does: a model in memory, a session, a text. What attar_generate asks of the system lies between two
   calls of close that fail, for strace to find.   quiet MODEL.gguf [loud | late | calm] */
#include "check.h"

#include <unistd.h>

static int32_t hear(void *user, attar_token id, const char *utf8, size_t utf8_len, const uint8_t *raw, size_t raw_len,
                    float logprob) {
  (void)user, (void)id, (void)raw, (void)raw_len, (void)logprob;
  return strcmp((const char *)user, "loud") == 0 && write(STDERR_FILENO, utf8, utf8_len) < 0;
}

int main(int argc, char **argv) {
  size_t len, n = 16;
  attar_token prompt[16];
  attar_source source = {0};
  attar_config config = config_of(64);
  attar_sampling sampling = {0};
  attar_request request = {0};
  attar_result result = {0};
  attar_model *model = NULL;
  attar_session *session = NULL;
  unsigned char *file = read_file(argv[1], &len);
  char *how = argc > 2 ? argv[2] : "";
  source.size = sizeof source;
  sampling.size = sizeof sampling;
  sampling.temp = 0.7f;
  request.size = sizeof request;
  request.max_tokens = 32;
  request.sampling = &sampling;
  request.on_token = hear;
  request.user = how;
  if (strcmp(how, "late") == 0 || strcmp(how, "calm") == 0) request.deadline_ns = (uint64_t)3600 * 1000000000;
  if (strcmp(how, "calm") == 0) request.duty_percent = 50;
  result.size = sizeof result;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_tokenize(model, "Once upon a time", 16, 0, NULL, prompt, &n), ATTAR_OK);
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_prefill(session, prompt, n, NULL), ATTAR_OK);
  close(-77);
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  close(-78);
  CHECK(result.n_generated == 32);
  attar_session_close(session);
  attar_model_close(model);
  free(file);
  return report("quiet");
}
