/* Without an operating system: all memory is lent, time too, and the same tokens come. The library this is linked with has
   no heap, no files and no clock. Prints the tokens, to be compared with those of the hosted library. */
#include "check.h"

static uint64_t ticks;
static uint64_t now_ns(void *ctx) {
  (void)ctx;
  return ticks += 1000;
}

int main(int argc, char **argv) {
  size_t len, n = 64;
  unsigned char *file = read_file(argv[argc - 1], &len);
  attar_source source = {0};
  attar_config config = config_of(64);
  attar_plan_info plan = {0};
  attar_clock clock = {0};
  attar_request request = {0};
  attar_result result = {0};
  attar_model *model = NULL;
  attar_session *session = NULL;
  attar_token tokens[64], token;
  attar_mem scratch, for_model, for_session;
  void *raw[3];
  int hosted = 0;
  source.size = sizeof source;
  plan.size = sizeof plan;
  clock.size = sizeof clock;
  request.size = sizeof request;
  result.size = sizeof result;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  hosted = attar_plan(&source, &config, NULL, &plan, NULL) == ATTAR_OK;
  scratch.size = 1 << 17;
  scratch.base = aligned(scratch.size, &raw[0]);
  CHECK_IS(attar_plan(&source, &config, &scratch, &plan, NULL), ATTAR_OK);
  for_model.size = (size_t)plan.model_arena;
  for_model.base = aligned(for_model.size, &raw[1]);
  for_session.size = (size_t)plan.session_arena;
  for_session.base = aligned(for_session.size, &raw[2]);
  if (!hosted) {
    attar_source other = {0};
    other.size = sizeof other;
    CHECK_IS(attar_plan(&source, &config, NULL, &plan, NULL), ATTAR_E_NOMEM);
    CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_E_NOMEM);
    CHECK_IS(attar_source_fd(&other, 0, 0, 0), ATTAR_E_UNSUPPORTED);
  }
  CHECK_IS(attar_model_open(&source, &config, &for_model, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_tokenize(model, "Once upon a time", 16, 0, &scratch, tokens, &n), ATTAR_OK);
  CHECK_IS(attar_session_open(model, &config, &for_session, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_prefill(session, tokens, n, NULL), ATTAR_OK);
  for (int i = 0; i < 32; ++i) {
    CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_OK);
    printf("%d ", (int)token);
  }
  printf("\n");
  if (!hosted) {
    request.deadline_ns = 1;
    CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_E_UNSUPPORTED);
    request.deadline_ns = 0;
    request.duty_percent = 50;
    CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_E_UNSUPPORTED);
  }
  attar_session_close(session);
  clock.now_ns = now_ns;
  config.clock = &clock;
  CHECK_IS(attar_session_open(model, &config, &for_session, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_prefill(session, tokens, n, NULL), ATTAR_OK);
  memset(&request, 0, sizeof request);
  request.size = sizeof request;
  request.deadline_ns = 50000;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.stop_reason == ATTAR_STOP_DEADLINE && result.n_generated > 0);
  attar_session_close(session);
  attar_model_close(model);
  for (int i = 0; i < 3; ++i) free(raw[i]);
  free(file);
  return failures == 0 ? 0 : 1;
}
