/* A session on a graphics device beside one on the CPU: the same text within what rounding does, states that go from one
   to the other, plans that are exact, and every call. Says so and ends where no device is. */
#include "check.h"

#include <math.h>
#include <pthread.h>

#define TOKENS 24

static attar_source source;
static attar_token prompt[64];
static size_t prompt_len = 64;

/* Norm of the difference by the norm of what is expected. */
static double departs(const float *found, const float *expected, size_t n) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < n; ++i) {
    double d = (double)found[i] - (double)expected[i];
    difference += d * d;
    norm += (double)expected[i] * (double)expected[i];
  }
  return sqrt(difference / norm);
}

/* Logits after each of the tokens. */
static float *logits_of(attar_session *session, size_t count) {
  float *all = (float *)malloc(prompt_len * count * sizeof *all);
  if (all == NULL) exit(2);
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  for (size_t i = 0; i < prompt_len; ++i) {
    size_t got = count;
    CHECK_IS(attar_prefill(session, prompt + i, 1, NULL), ATTAR_OK);
    CHECK_IS(attar_logits(session, all + i * count, &got), ATTAR_OK);
  }
  return all;
}

static void same_text(attar_session *gpu, attar_session *cpu) {
  size_t count = 0;
  CHECK_IS(attar_session_rewind(gpu, 0), ATTAR_OK);
  CHECK_IS(attar_logits(gpu, NULL, &count), ATTAR_E_SMALLBUF);
  float *found = logits_of(gpu, count), *expected = logits_of(cpu, count);
  double error = departs(found, expected, prompt_len * count);
  printf("gpu: logits depart by %.1e of their norm\n", error);
  CHECK(error > 0 && error < 0.05); /* the CPU rounds what it multiplies to 8 bits */
  /* A prompt at once gives what its tokens gave one by one. */
  size_t got = count;
  CHECK_IS(attar_session_rewind(gpu, 0), ATTAR_OK);
  CHECK_IS(attar_prefill(gpu, prompt, prompt_len, NULL), ATTAR_OK);
  CHECK_IS(attar_logits(gpu, expected, &got), ATTAR_OK);
  CHECK(departs(expected, found + (prompt_len - 1) * count, count) < 0.01);
  free(found);
  free(expected);
}

static int32_t count_it(void *user, attar_token id, const char *utf8, size_t utf8_len, const uint8_t *raw, size_t raw_len,
                        float logprob) {
  (void)id, (void)utf8, (void)utf8_len, (void)raw, (void)raw_len;
  CHECK(logprob <= 0);
  ++*(size_t *)user;
  return 0;
}

/* The same tokens again, from a state that was saved here or on the CPU. */
static void states(attar_session *gpu, attar_session *cpu) {
  attar_token first[TOKENS], again[TOKENS];
  static unsigned char state[1 << 22];
  attar_session *from[2];
  from[0] = gpu;
  from[1] = cpu;
  for (int i = 0; i < 2; ++i) {
    size_t n = sizeof state;
    CHECK_IS(attar_session_rewind(from[i], 0), ATTAR_OK);
    CHECK_IS(attar_prefill(from[i], prompt, prompt_len, NULL), ATTAR_OK);
    CHECK_IS(attar_state_save(from[i], state, &n), ATTAR_OK);
    for (int round = 0; round < 2; ++round) {
      CHECK_IS(attar_session_rewind(gpu, 0), ATTAR_OK);
      CHECK_IS(attar_state_load(gpu, state, n, NULL), ATTAR_OK);
      for (int t = 0; t < TOKENS; ++t) {
        CHECK_IS(attar_step(gpu, NULL, (round ? again : first) + t, NULL), ATTAR_OK);
      }
    }
    CHECK(memcmp(first, again, sizeof first) == 0);
  }
  size_t n = sizeof state;
  CHECK_IS(attar_state_save(gpu, state, &n), ATTAR_OK);
  CHECK_IS(attar_state_load(cpu, state, n, NULL), ATTAR_OK);
  CHECK_IS(attar_step(cpu, NULL, first, NULL), ATTAR_OK);
}

static void every_call(attar_session *gpu) {
  attar_request request = {0};
  attar_result result = {0};
  attar_sampling choice = {0};
  attar_token token;
  size_t heard = 0, dim = 0, n = 1024, done = 9;
  double sum = 0;
  char json[1024];
  request.size = sizeof request;
  result.size = sizeof result;
  choice.size = sizeof choice;
  choice.temp = 0.8f;
  choice.top_k = 20;
  request.sampling = &choice;
  request.max_tokens = 12;
  request.on_token = count_it;
  request.user = &heard;
  CHECK_IS(attar_session_rewind(gpu, 0), ATTAR_OK);
  CHECK_IS(attar_prefill(gpu, prompt, prompt_len, NULL), ATTAR_OK);
  CHECK_IS(attar_generate(gpu, &request, &result, NULL), ATTAR_OK);
  CHECK(heard > 0 && result.n_generated > 0 && result.n_prompt == prompt_len);
  CHECK_IS(attar_session_rewind(gpu, (uint32_t)prompt_len), ATTAR_OK);
  CHECK_IS(attar_score(gpu, prompt, prompt_len, 0, NULL, &sum), ATTAR_OK);
  CHECK(sum < 0);
  CHECK_IS(attar_embed(gpu, prompt, prompt_len, ATTAR_POOL_MEAN, NULL, &dim), ATTAR_E_SMALLBUF);
  float *mean = (float *)calloc(dim, sizeof *mean);
  CHECK_IS(attar_embed(gpu, prompt, prompt_len, ATTAR_POOL_MEAN, mean, &dim), ATTAR_OK);
  CHECK(fabsf(mean[0]) + fabsf(mean[dim - 1]) > 0);
  free(mean);
  attar_cancel(gpu);
  CHECK_IS(attar_prefill(gpu, prompt, prompt_len, &done), ATTAR_E_CANCELLED);
  CHECK(done == 0);
  CHECK_IS(attar_prefill(gpu, prompt, prompt_len, &done), ATTAR_OK);
  CHECK_IS(attar_step(gpu, NULL, &token, NULL), ATTAR_OK);
  request.deadline_ns = 1;
  CHECK_IS(attar_generate(gpu, &request, &result, NULL), ATTAR_OK);
  CHECK(result.stop_reason == ATTAR_STOP_DEADLINE);
  CHECK_IS(attar_stats(gpu, json, &n), ATTAR_OK);
  printf("gpu: %s\n", json);
}

/* Exactly the memory planned is enough and is not outgrown, and less is a status. */
static void exact(const attar_model *model, const attar_config *config, const attar_plan_info *plan) {
  void *raw;
  attar_session *session = NULL;
  attar_mem room;
  room.base = aligned(plan->session_arena, &raw);
  room.size = plan->session_arena;
  CHECK_IS(attar_session_open(model, config, &room, &session, NULL), ATTAR_OK);
  every_call(session);
  attar_session_close(session);
  for (size_t less = 64; less < plan->session_arena; less *= 4) {
    room.size = plan->session_arena - less;
    CHECK_IS(attar_session_open(model, config, &room, &session, NULL), ATTAR_E_NOMEM);
  }
  free(raw);
}

static void *elsewhere(void *session) {
  every_call((attar_session *)session);
  attar_session_close((attar_session *)session);
  return NULL;
}

static void refusals(const attar_config *good) {
  attar_config config = *good;
  attar_limits limits = {0};
  attar_model *model = NULL;
  config.numeric_mode = ATTAR_NUMERIC_PORTABLE;
  CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_E_UNSUPPORTED);
  config = *good;
  limits.size = sizeof limits;
  limits.max_ram = 1000;
  config.limits = &limits;
  CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_E_LIMIT);
}

int main(int argc, char **argv) {
  size_t len;
  unsigned char *file = read_file(argv[argc - 1], &len);
  attar_config on_cpu = config_of(64), on_gpu = config_of(64);
  attar_plan_info plan = {0};
  attar_model *model = NULL;
  attar_session *gpu = NULL, *cpu = NULL;
  attar_error error = {0};
  pthread_t thread;
  source.size = sizeof source;
  plan.size = sizeof plan;
  error.size = sizeof error;
  on_gpu.device = ATTAR_DEVICE_GPU;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  attar_status planned = attar_plan(&source, &on_gpu, NULL, &plan, &error);
  if (planned == ATTAR_E_DEVICE && strstr(error.msg, "no graphics device") != NULL) {
    printf("skipped: %s\n", error.msg);
    return report("gpu");
  }
  CHECK_IS(planned, ATTAR_OK);
  CHECK(plan.fits && plan.device_bytes > plan.kv_bytes && plan.kv_bytes > 0);
  CHECK(plan.scratch_bytes == plan.session_arena && plan.session_arena < plan.device_bytes);
  CHECK_IS(attar_model_open(&source, &on_gpu, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_tokenize(model, "Once upon a time, there was a little dog.", 41, 0, NULL, prompt, &prompt_len), ATTAR_OK);
  CHECK_IS(attar_session_open(model, &on_gpu, NULL, &gpu, NULL), ATTAR_OK);
  CHECK_IS(attar_session_open(model, &on_cpu, NULL, &cpu, NULL), ATTAR_OK);
  same_text(gpu, cpu);
  states(gpu, cpu);
  every_call(gpu);
  exact(model, &on_gpu, &plan);
  refusals(&on_gpu);
  CHECK(pthread_create(&thread, NULL, elsewhere, gpu) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  attar_session_close(cpu);
  attar_model_close(model);
  free(file);
  return report("gpu");
}
