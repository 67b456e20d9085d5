/* Calls no program should make: each gives a status, and what was open still works. */
#include "check.h"

#include <limits.h>

static int32_t failing_read(void *ctx, uint64_t offset, void *dst, size_t n) {
  (void)ctx, (void)offset, (void)dst, (void)n;
  return 1;
}

/* Everything that takes a pointer, given none. */
static void nothing(const attar_model *model, attar_session *session, const attar_source *source) {
  attar_model *m;
  attar_session *s;
  attar_adapter *a;
  attar_constraint *c;
  attar_token t = 1;
  size_t n = 0;
  char text[8];
  CHECK_IS(attar_source_memory(NULL, "x", 1), ATTAR_E_ARG);
  CHECK_IS(attar_source_fd(NULL, 0, 0, 0), ATTAR_E_ARG);
  CHECK_IS(attar_probe(NULL, NULL, NULL, text, &n, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_probe(source, NULL, NULL, text, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_plan(NULL, NULL, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_plan(source, NULL, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_model_open(NULL, NULL, NULL, &m, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK(m == NULL);
  CHECK_IS(attar_model_open(source, NULL, NULL, NULL, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_model_meta(NULL, "k", text, &n), ATTAR_E_ARG);
  CHECK_IS(attar_model_meta(model, NULL, text, &n), ATTAR_E_ARG);
  CHECK_IS(attar_model_meta(model, "general.architecture", text, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_tokenize(NULL, "x", 1, 0, NULL, &t, &n), ATTAR_E_ARG);
  CHECK_IS(attar_tokenize(model, NULL, 1, 0, NULL, &t, &n), ATTAR_E_ARG);
  CHECK_IS(attar_tokenize(model, "x", 1, 0, NULL, &t, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_detokenize(NULL, &t, 1, 0, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_detokenize(model, NULL, 1, 0, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_detokenize(model, &t, 1, 0, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_chat_format(NULL, "[]", 2, text, &n, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_session_open(NULL, NULL, NULL, &s, NULL), ATTAR_E_ARG);
  CHECK(s == NULL);
  CHECK_IS(attar_session_open(model, NULL, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_session_rewind(NULL, 0), ATTAR_E_ARG);
  CHECK_IS(attar_prefill(NULL, &t, 1, &n), ATTAR_E_ARG);
  CHECK_IS(attar_prefill(session, NULL, 1, &n), ATTAR_E_ARG);
  CHECK_IS(attar_step(NULL, NULL, &t, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_step(session, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_generate(NULL, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_score(NULL, &t, 1, 0, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_score(session, NULL, 1, 0, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_logits(NULL, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_logits(session, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_embed(NULL, &t, 1, 0, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_embed(session, &t, 1, 0, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_state_save(NULL, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_state_save(session, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_state_load(NULL, text, 8, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_state_load(session, NULL, 8, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_stats(NULL, text, &n), ATTAR_E_ARG);
  CHECK_IS(attar_stats(session, text, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_adapter_open(NULL, source, NULL, &a, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_adapter_open(model, source, NULL, NULL, NULL), ATTAR_E_ARG);
  CHECK_IS(attar_constraint_open(model, 0, NULL, 1, NULL, &c, NULL), ATTAR_E_ARG);
  attar_model_close(NULL);
  attar_session_close(NULL);
  attar_adapter_close(NULL);
  attar_constraint_close(NULL);
  attar_cancel(NULL);
}

static void not_built(const attar_model *model, attar_session *session, const attar_source *source) {
  attar_adapter *a = (attar_adapter *)(uintptr_t)8;
  attar_constraint *c = (attar_constraint *)(uintptr_t)8;
  attar_request request = {0};
  char text[8];
  size_t n = sizeof text;
  request.size = sizeof request;
  CHECK_IS(attar_adapter_open(model, source, NULL, &a, NULL), ATTAR_E_UNSUPPORTED);
  CHECK_IS(attar_constraint_open(model, 0, "root ::= \"a\"", 12, NULL, &c, NULL), ATTAR_E_UNSUPPORTED);
  CHECK(a == NULL && c == NULL);
  CHECK_IS(attar_chat_format(model, "[]", 2, text, &n, NULL), ATTAR_E_UNSUPPORTED);
  request.draft_ngram = 3;
  CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_E_UNSUPPORTED);
}

/* Sizes: not set, too small, absurd, and larger with and without something in the part that is not known. */
static void sizes(const attar_source *source, attar_session *session) {
  struct {
    attar_config known;
    char later[64];
  } config;
  struct {
    attar_error known;
    char later[64];
  } error;
  attar_plan_info plan = {0};
  static const uint32_t wrong[] = {0, 4, sizeof(attar_config) - 8, 100000, UINT32_MAX};
  static const uint32_t wrong_source[] = {0, 4, sizeof(attar_source) - 8, 100000, UINT32_MAX};
  memset(&config, 0, sizeof config);
  memset(&error, 0x55, sizeof error);
  plan.size = sizeof plan;
  config.known = config_of(32);
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
    config.known.size = wrong[i];
    CHECK_IS(attar_plan(source, &config.known, NULL, &plan, NULL), ATTAR_E_VERSION);
    attar_source other = *source;
    other.size = wrong_source[i];
    CHECK_IS(attar_plan(&other, NULL, NULL, &plan, NULL), ATTAR_E_VERSION);
  }
  config.known.size = sizeof config;
  CHECK_IS(attar_plan(source, &config.known, NULL, &plan, NULL), ATTAR_OK);
  config.later[63] = 1;
  error.known.size = sizeof error;
  CHECK_IS(attar_plan(source, &config.known, NULL, &plan, &error.known), ATTAR_E_VERSION);
  CHECK(error.known.code == ATTAR_E_VERSION && error.known.size == sizeof error && error.later[0] == 0x55);
  plan.size = 8;
  CHECK_IS(attar_plan(source, NULL, NULL, &plan, NULL), ATTAR_E_VERSION);
  error.known.size = 0;
  CHECK_IS(attar_generate(session, NULL, NULL, &error.known), ATTAR_E_VERSION);
  attar_request request = {0};
  CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_E_VERSION);
  attar_result result = {0};
  request.size = sizeof request;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_E_VERSION);
}

static void configurations(const attar_source *source) {
  attar_config config;
  attar_plan_info plan = {0};
  attar_exec exec = {0};
  attar_clock clock = {0};
  uint8_t key[32] = {0};
  plan.size = sizeof plan;
  exec.size = sizeof exec;
  clock.size = sizeof clock;
#define REFUSED(change, status)                                       \
  config = config_of(32);                                             \
  change;                                                             \
  CHECK_IS(attar_plan(source, &config, NULL, &plan, NULL), status)
  REFUSED(config.kv_type_k = 1, ATTAR_E_UNSUPPORTED);
  REFUSED(config.kv_type_k = config.kv_type_v = 4, ATTAR_E_ARG);
  REFUSED(config.numeric_mode = 2, ATTAR_E_ARG);
  REFUSED(config.device = 1, ATTAR_E_UNSUPPORTED);
  REFUSED(config.device = 2, ATTAR_E_ARG);
  REFUSED(config.residency = 2, ATTAR_E_UNSUPPORTED);
  REFUSED(config.residency = 3, ATTAR_E_ARG);
  REFUSED(config.window_bytes = 1, ATTAR_E_ARG);
  REFUSED(config.trust_key = key, ATTAR_E_UNSUPPORTED);
  REFUSED(config.trust_key_len = 32, ATTAR_E_UNSUPPORTED);
  REFUSED(config.flags = 1, ATTAR_E_VERSION);
  REFUSED(config.exec = &exec, ATTAR_E_ARG);
  REFUSED(config.clock = &clock, ATTAR_E_ARG);
  REFUSED(config.n_ctx = UINT32_MAX, ATTAR_E_LIMIT);
  REFUSED(config.n_ctx = 1 << 20, ATTAR_OK); /* a plan of more than there is is a plan */
  CHECK(plan.session_arena > (uint64_t)1 << 30);
}

static void absurd(const attar_model *model, attar_session *session) {
  attar_token token = 1, bad[] = {-1, INT32_MIN, INT32_MAX, 1 << 24};
  size_t n = 0, huge[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4 + 1};
  char text[4];
  uint8_t odd[64];
  for (size_t i = 0; i < 3; ++i) {
    CHECK_IS(attar_prefill(session, &token, huge[i], &n), ATTAR_E_ARG);
    CHECK_IS(attar_score(session, &token, huge[i], 0, NULL, NULL), ATTAR_E_ARG);
    n = huge[i];
    CHECK_IS(attar_detokenize(model, &token, huge[i], 0, odd, &n), ATTAR_E_ARG);
  }
  CHECK_IS(attar_tokenize(model, text, SIZE_MAX, 0, NULL, &token, &n), ATTAR_E_ARG);
  CHECK_IS(attar_state_load(session, odd, SIZE_MAX, NULL), ATTAR_E_ARG);
  for (size_t i = 0; i < 4; ++i) {
    CHECK_IS(attar_prefill(session, &bad[i], 1, &n), ATTAR_E_ARG);
    CHECK(n == 0);
    CHECK_IS(attar_score(session, &bad[i], 1, 1, NULL, NULL), ATTAR_E_ARG);
    n = 0;
    CHECK_IS(attar_embed(session, &bad[i], 1, 0, NULL, &n), ATTAR_E_SMALLBUF);
    n = 64;
    CHECK_IS(attar_detokenize(model, &bad[i], 1, 0, odd, &n), ATTAR_E_ARG);
  }
  CHECK_IS(attar_prefill(session, &token, 0, &n), ATTAR_E_ARG);
  CHECK_IS(attar_prefill(session, (attar_token *)(void *)(odd + 1), 1, &n), ATTAR_E_ARG);
  CHECK_IS(attar_tokenize(model, "x", 1, 4, NULL, &token, &n), ATTAR_E_ARG);
  n = 0;
  CHECK_IS(attar_detokenize(model, &token, 1, 2, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_model_meta(model, "\xff", text, &n), ATTAR_E_ARG);
}

static void requests(attar_session *session) {
  attar_token token = 1;
  attar_sampling choice;
  attar_request request = {0};
  const char *stops[17];
  char longest[66];
  memset(longest, 'x', sizeof longest);
  longest[65] = 0;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  CHECK_IS(attar_prefill(session, &token, 1, NULL), ATTAR_OK);
  for (size_t i = 0; i < 17; ++i) stops[i] = "stop";
#define BAD(change, status)                                       \
  memset(&request, 0, sizeof request);                            \
  request.size = sizeof request;                                  \
  request.max_tokens = 1;                                         \
  memset(&choice, 0, sizeof choice);                              \
  choice.size = sizeof choice;                                    \
  request.sampling = &choice;                                     \
  request.stop = stops;                                           \
  change;                                                         \
  CHECK_IS(attar_generate(session, &request, NULL, NULL), status)
  BAD(request.duty_percent = 101, ATTAR_E_ARG);
  BAD(request.n_stop = 17, ATTAR_E_LIMIT);
  BAD(request.n_stop = UINT32_MAX, ATTAR_E_LIMIT);
  BAD(request.n_stop = 1; stops[0] = "", ATTAR_E_ARG);
  BAD(request.n_stop = 1; stops[0] = NULL, ATTAR_E_ARG);
  BAD(request.n_stop = 1; stops[0] = "\xc3", ATTAR_E_ARG);
  BAD(request.n_stop = 1; stops[0] = longest, ATTAR_E_ARG);
  BAD(request.n_stop = 1; request.stop = NULL, ATTAR_E_ARG);
  BAD(choice.temp = 101, ATTAR_E_ARG);
  BAD(choice.top_p = 1.5f, ATTAR_E_ARG);
  BAD(choice.min_p = -0.1f, ATTAR_E_ARG);
  BAD(choice.repeat_penalty = -1, ATTAR_E_ARG);
  BAD(choice.top_k = -1, ATTAR_E_ARG);
  BAD(choice.flags = 1, ATTAR_E_VERSION);
  BAD(request.max_tokens = 1, ATTAR_OK);
}

/* Handles of another kind, closed ones, and memory that is none. */
static void handles(const attar_source *source) {
  attar_config config = config_of(32);
  attar_plan_info plan = {0};
  void *raw, *raw2;
  attar_mem arena, arena2;
  attar_model *model;
  attar_session *session;
  size_t n = 0;
  plan.size = sizeof plan;
  CHECK_IS(attar_plan(source, &config, NULL, &plan, NULL), ATTAR_OK);
  arena.size = (size_t)plan.model_arena;
  arena.base = aligned(arena.size, &raw);
  arena2.size = (size_t)plan.session_arena;
  arena2.base = aligned(arena2.size, &raw2);
  memset(arena2.base, 0xa5, arena2.size);
  CHECK_IS(attar_session_rewind((attar_session *)arena2.base, 0), ATTAR_E_ARG);
  CHECK_IS(attar_session_rewind((attar_session *)((char *)arena2.base + 1), 0), ATTAR_E_ARG);
  CHECK_IS(attar_model_open(source, &config, &arena, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_session_open(model, &config, &arena2, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_stats((attar_session *)model, NULL, &n), ATTAR_E_ARG);
  CHECK_IS(attar_model_meta((attar_model *)session, "k", NULL, &n), ATTAR_E_ARG);
  attar_session_close((attar_session *)model);
  attar_model_close((attar_model *)session);
  attar_session_close(session);
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_E_ARG);
  attar_session_close(session);
  attar_model_close(model);
  CHECK_IS(attar_session_open(model, &config, &arena2, &session, NULL), ATTAR_E_ARG);
  free(raw);
  free(raw2);
}

static void sources(const unsigned char *file, size_t len) {
  attar_source source = {0};
  attar_model *model;
  attar_error error = {0};
  unsigned char *copy = (unsigned char *)malloc(len);
  source.size = sizeof source;
  error.size = sizeof error;
  CHECK_IS(attar_source_memory(&source, file, SIZE_MAX), ATTAR_E_ARG);
  CHECK_IS(attar_source_memory(&source, NULL, 1), ATTAR_E_ARG);
  CHECK_IS(attar_source_memory(&source, NULL, 0), ATTAR_OK);
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_FORMAT);
  memset(&source, 0, sizeof source);
  source.size = sizeof source;
  source.length = 1000;
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_ARG);
  source.read_at = failing_read;
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_IO);
  source.flags = 2;
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_VERSION);
  source.flags = 0;
  source.length = UINT64_MAX;
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_LIMIT);
  source.length = (uint64_t)PTRDIFF_MAX;
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_NOMEM);
  source.length = 1000;
  source.start = UINT64_MAX;
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error), ATTAR_E_ARG);
  /* Files cut short, and with a damaged byte: never more than a status. Where is named. */
  size_t ok = 0, tried = 0;
  for (size_t cut = 0; cut < len; cut += cut < 4096 ? 61 : len / 50) {
    memcpy(copy, file, cut);
    attar_source_memory(&source, copy, cut);
    attar_status status = attar_model_open(&source, NULL, NULL, &model, NULL, NULL, &error);
    CHECK(status == ATTAR_E_FORMAT && error.code == status && error.where <= cut && strlen(error.msg) > 8);
  }
  for (size_t at = 0; at < 20000 && at < len; at += 37, ++tried) {
    attar_config config = config_of(16);
    attar_session *session = NULL;
    memcpy(copy, file, len);
    copy[at] ^= (unsigned char)(1 + at % 255);
    attar_source_memory(&source, copy, len);
    if (attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL) == ATTAR_OK) {
      if (attar_session_open(model, &config, NULL, &session, NULL) == ATTAR_OK) ++ok;
      attar_session_close(session);
      attar_model_close(model);
    }
  }
  printf("misuse: %lu files with a damaged byte, %lu of them still models\n", (unsigned long)tried, (unsigned long)ok);
  free(copy);
}

int main(int argc, char **argv) {
  size_t len;
  unsigned char *file = read_file(argv[argc - 1], &len);
  attar_source source = {0};
  attar_config config = config_of(32);
  attar_model *model;
  attar_session *session;
  attar_token token = 1;
  CHECK(attar_abi_version() == (ATTAR_ABI_MAJOR << 16 | ATTAR_ABI_MINOR));
  source.size = sizeof source;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_prefill(session, &token, 1, NULL), ATTAR_OK);
  nothing(model, session, &source);
  not_built(model, session, &source);
  sizes(&source, session);
  configurations(&source);
  absurd(model, session);
  requests(session);
  handles(&source);
  sources(file, len);
  CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_OK);
  attar_session_close(session);
  attar_model_close(model);
  free(file);
  return report("misuse");
}
