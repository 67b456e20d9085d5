/* The heap, counted by a malloc of our own: nothing that runs allocates, what fails is a status, and a thousand sessions
   leave the heap as it was. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static unsigned long calls, fail_at, live;
static int fail_on; /* after the first failure all fail */

static void *counted(void *piece) {
  if (piece != NULL) live += malloc_usable_size(piece);
  return piece;
}

static int fails(void) {
  ++calls;
  if (fail_at == 0 || calls < fail_at || (calls > fail_at && !fail_on)) return 0;
  errno = ENOMEM;
  return 1;
}

void *malloc(size_t size) { return fails() ? NULL : counted(__libc_malloc(size)); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : counted(__libc_calloc(n, size)); }
void *memalign(size_t align, size_t size) { return fails() ? NULL : counted(__libc_memalign(align, size)); }
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **out, size_t align, size_t size) {
  void *piece = memalign(align, size);
  if (piece == NULL) return ENOMEM;
  *out = piece;
  return 0;
}
void *realloc(void *piece, size_t size) {
  if (fails()) return NULL;
  if (piece != NULL) live -= malloc_usable_size(piece);
  void *moved = __libc_realloc(piece, size);
  return counted(moved != NULL ? moved : piece) == NULL ? NULL : moved;
}
void free(void *piece) {
  if (piece != NULL) live -= malloc_usable_size(piece);
  __libc_free(piece);
}

static attar_source source;
static attar_config config;
static const attar_token tokens[] = {1, 5, 9, 13, 17, 21};

/* Each of these opens something, or asks something of the heap, and closes it. */
static attar_status plan_it(attar_model *model) {
  attar_plan_info plan = {0};
  plan.size = sizeof plan;
  (void)model;
  return attar_plan(&source, &config, NULL, &plan, NULL);
}
static attar_status probe_it(attar_model *model) {
  char json[2048];
  size_t n = sizeof json;
  (void)model;
  return attar_probe(&source, NULL, NULL, json, &n, NULL);
}
static attar_status open_it(attar_model *model) {
  attar_status status = attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL);
  attar_model_close(model);
  return status;
}
static attar_status session_it(attar_model *model) {
  attar_session *session;
  attar_status status = attar_session_open(model, &config, NULL, &session, NULL);
  if (status == ATTAR_OK) status = attar_prefill(session, tokens, 6, NULL);
  attar_session_close(session);
  return status;
}
static attar_status tokenize_it(attar_model *model) {
  attar_token out[64];
  size_t n = 64;
  return attar_tokenize(model, "Once upon a time", 16, 0, NULL, out, &n);
}

static void failing(attar_model *model) {
  static const struct {
    const char *name;
    attar_status (*call)(attar_model *);
  } all[] = {{"plan", plan_it}, {"probe", probe_it}, {"model_open", open_it}, {"session_open", session_it}, {"tokenize", tokenize_it}};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    for (fail_on = 0; fail_on < 2; ++fail_on) {
      unsigned long before = live, points = 0;
      attar_status status = ATTAR_E_NOMEM;
      while (status == ATTAR_E_NOMEM && points < 100000) {
        calls = 0;
        fail_at = ++points;
        status = all[i].call(model);
        fail_at = 0;
        CHECK(live == before);
      }
      CHECK_IS(status, ATTAR_OK);
      CHECK(points > 1);
      if (fail_on) printf("heap: %s, each of %lu allocations made to fail\n", all[i].name, points - 1);
    }
  }
}

static int32_t listen(void *user, attar_token id, const char *utf8, size_t utf8_len, const uint8_t *raw, size_t raw_len,
                      float logprob) {
  (void)id, (void)utf8, (void)raw, (void)raw_len, (void)logprob;
  *(size_t *)user += utf8_len;
  return 0;
}

/* Everything a session does, its errors too. */
static void run(attar_session *session, const attar_model *model, unsigned char *state, size_t room) {
  attar_sampling choice = {0};
  attar_request request = {0};
  attar_result result = {0};
  attar_error error = {0};
  attar_token token, beyond = 1 << 24;
  char json[1024];
  uint8_t text[64];
  float logprobs[6], *embedding = (float *)(void *)state;
  size_t heard = 0, n;
  double sum;
  const char *stops[] = {"no such text", "nor this"};
  choice.size = sizeof choice;
  request.size = sizeof request;
  result.size = sizeof result;
  error.size = sizeof error;
  choice.temp = 0.9f;
  choice.top_k = 40;
  choice.top_p = 0.9f;
  choice.min_p = 0.01f;
  choice.repeat_penalty = 1.2f;
  request.sampling = &choice;
  request.max_tokens = 20;
  request.deadline_ns = (uint64_t)60 * 1000 * 1000 * 1000;
  request.duty_percent = 90;
  request.stop = stops;
  request.n_stop = 2;
  request.on_token = listen;
  request.user = &heard;
  CHECK_IS(attar_prefill(session, tokens, 6, &n), ATTAR_OK);
  CHECK_IS(attar_step(session, &request, &token, logprobs), ATTAR_OK);
  CHECK_IS(attar_generate(session, &request, &result, &error), ATTAR_OK);
  CHECK_IS(attar_score(session, tokens, 6, 0, logprobs, &sum), ATTAR_OK);
  n = room / sizeof *embedding;
  CHECK_IS(attar_embed(session, tokens, 6, ATTAR_POOL_MEAN, embedding, &n), ATTAR_OK);
  n = room;
  CHECK_IS(attar_state_save(session, state, &n), ATTAR_OK);
  CHECK_IS(attar_session_rewind(session, 2), ATTAR_OK);
  CHECK_IS(attar_state_load(session, state, n, &error), ATTAR_OK);
  state[n / 2] ^= 1;
  CHECK_IS(attar_state_load(session, state, n, &error), ATTAR_E_VERIFY);
  n = sizeof json;
  CHECK_IS(attar_stats(session, json, &n), ATTAR_OK);
  n = sizeof text;
  CHECK_IS(attar_detokenize(model, tokens, 6, 0, text, &n), ATTAR_OK);
  n = sizeof json;
  CHECK_IS(attar_model_meta(model, "general.architecture", json, &n), ATTAR_OK);
  CHECK_IS(attar_prefill(session, &beyond, 1, NULL), ATTAR_E_ARG);
  choice.temp = -5;
  CHECK_IS(attar_generate(session, &request, &result, &error), ATTAR_E_ARG);
  choice.temp = 0;
  attar_cancel(session);
  CHECK_IS(attar_prefill(session, tokens, 6, NULL), ATTAR_E_CANCELLED);
  request.max_tokens = 0;
  request.duty_percent = 0;
  choice.temp = 3;
  do {
    n = (size_t)attar_generate(session, &request, &result, &error);
  } while (n == ATTAR_OK);
  CHECK_IS((attar_status)n, ATTAR_E_CONTEXT_FULL);
  CHECK_IS(attar_prefill(session, tokens, 6, NULL), ATTAR_E_CONTEXT_FULL);
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
}

int main(int argc, char **argv) {
  size_t len;
  unsigned char *file = read_file(argv[argc - 1], &len), *state = (unsigned char *)malloc(1 << 20);
  attar_model *model;
  attar_session *session;
  setvbuf(stdout, NULL, _IONBF, 0);
  source.size = sizeof source;
  config = config_of(64);
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  calls = 0;
  unsigned long before = live;
  CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  failing(model);
  unsigned long one_model = live;
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  run(session, model, state, 1 << 20);
  calls = 0;
  unsigned long held = live;
  for (int i = 0; i < 20; ++i) run(session, model, state, 1 << 20);
  CHECK(calls == 0 && live == held);
  printf("heap: %lu allocations in twenty rounds of everything a session does\n", calls);
  attar_session_close(session);
  CHECK(live == one_model);
  for (int i = 0; i < 1000; ++i) {
    CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
    if (i % 100 == 0) CHECK_IS(attar_prefill(session, tokens, 6, NULL), ATTAR_OK);
    attar_session_close(session);
  }
  CHECK(live == one_model);
  attar_model_close(model);
  CHECK(live == before);
  /* A mapping is given back too: more of them than there are descriptors, or addresses on a small machine. */
  int fd = open(argv[argc - 1], O_RDONLY);
  CHECK_IS(attar_source_fd(&source, fd, 0, 0), ATTAR_OK);
  for (int i = 0; i < 500; ++i) CHECK_IS(open_it(NULL), ATTAR_OK);
  close(fd);
  CHECK(live == before);
  free(file);
  free(state);
  return report("heap");
}
