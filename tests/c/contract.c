/* What the header promises of calls that are made as it says. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static const char PROMPT[] = "Once upon a time";

struct heard {
  char text[4096];
  size_t len, calls, raw_len;
  double logprobs;
  size_t stop_after;
  attar_session *session;
  attar_status nested;
};

static int32_t hear(void *user, attar_token id, const char *utf8, size_t utf8_len, const uint8_t *raw, size_t raw_len,
                    float logprob) {
  struct heard *heard = (struct heard *)user;
  (void)raw;
  if (heard->len + utf8_len < sizeof heard->text) {
    memcpy(heard->text + heard->len, utf8, utf8_len);
    heard->len += utf8_len;
    heard->text[heard->len] = 0;
  }
  heard->calls++;
  heard->raw_len += raw_len;
  if (id != ATTAR_TOKEN_NONE) heard->logprobs += (double)logprob;
  if (heard->session != NULL) {
    attar_token token = 1;
    heard->nested = attar_prefill(heard->session, &token, 1, NULL);
  }
  return heard->stop_after != 0 && heard->calls >= heard->stop_after;
}

static void versions(void) {
  uint32_t version = attar_abi_version(); /* a program that is kept meets later ones: scripts/keep-abi */
  CHECK(version >> 16 == ATTAR_ABI_MAJOR && version >= (ATTAR_ABI_MAJOR << 16 | ATTAR_ABI_MINOR));
  for (attar_status status = 3; status >= -20; --status) CHECK(strlen(attar_status_str(status)) > 1);
  CHECK(strcmp(attar_status_str(ATTAR_OK), attar_status_str(ATTAR_E_ARG)) != 0);
}

static void probing(const attar_source *source) {
  size_t len = 0;
  CHECK_IS(attar_probe(source, NULL, NULL, NULL, &len, NULL), ATTAR_E_SMALLBUF);
  char *json = (char *)malloc(len);
  size_t exact = len;
  CHECK_IS(attar_probe(source, NULL, NULL, json, &len, NULL), ATTAR_OK);
  CHECK(len == exact && strlen(json) + 1 == len);
  CHECK(strstr(json, "\"architecture\":\"llama\",\"architecture_known\":true") != NULL);
  len = exact - 1;
  CHECK_IS(attar_probe(source, NULL, NULL, json, &len, NULL), ATTAR_E_SMALLBUF);
  CHECK(len == exact);
  free(json);
}

static void limits(const attar_source *source) {
  attar_limits limits[] = {{sizeof limits[0], 3, 0, 0, 0, 0},
                           {sizeof limits[0], 0, 100, 0, 0, 0},
                           {sizeof limits[0], 0, 0, 1000, 0, 0},
                           {sizeof limits[0], 0, 0, 0, 10, 0},
                           {sizeof limits[0], 0, 0, 0, 0, 1}};
  for (size_t i = 0; i < sizeof limits / sizeof limits[0]; ++i) {
    attar_config config = config_of(64);
    attar_plan_info plan = {0};
    attar_model *model = NULL;
    attar_error error = {0};
    config.limits = &limits[i];
    plan.size = sizeof plan;
    error.size = sizeof error;
    CHECK_IS(attar_plan(source, &config, NULL, &plan, NULL), limits[i].max_ram ? ATTAR_OK : ATTAR_E_LIMIT);
    CHECK(plan.fits == 0);
    CHECK_IS(attar_model_open(source, &config, NULL, &model, NULL, NULL, &error), ATTAR_E_LIMIT);
    CHECK(model == NULL && error.code == ATTAR_E_LIMIT && strlen(error.msg) > 8);
  }
}

static int32_t count_progress(void *user, uint32_t permille) {
  uint32_t *last = (uint32_t *)user;
  CHECK(permille >= *last && permille <= 1000);
  *last = permille;
  return 0;
}

static int32_t stop_progress(void *user, uint32_t permille) { return permille >= *(uint32_t *)user; }

static void progress(const attar_source *source) {
  uint32_t last = 0;
  attar_model *model = NULL;
  CHECK_IS(attar_model_open(source, NULL, NULL, &model, count_progress, &last, NULL), ATTAR_OK);
  CHECK(last == 1000);
  attar_model_close(model);
  for (last = 0; last <= 1000; last += 50) {
    CHECK_IS(attar_model_open(source, NULL, NULL, &model, stop_progress, &last, NULL), ATTAR_E_CANCELLED);
    CHECK(model == NULL);
  }
}

static void texts(const attar_model *model, attar_token *tokens, size_t *n) {
  char meta[64];
  size_t len = sizeof meta, all = *n;
  CHECK_IS(attar_model_meta(model, "general.architecture", meta, &len), ATTAR_OK);
  CHECK(strcmp(meta, "llama") == 0 && len == 6);
  len = sizeof meta;
  CHECK_IS(attar_model_meta(model, "llama.block_count", meta, &len), ATTAR_OK);
  CHECK(atoi(meta) > 0);
  CHECK_IS(attar_model_meta(model, "tokenizer.ggml.tokens", meta, &len), ATTAR_E_UNSUPPORTED);
  CHECK_IS(attar_model_meta(model, "no.such.key", meta, &len), ATTAR_E_ARG);
  CHECK_IS(attar_tokenize(model, PROMPT, sizeof PROMPT - 1, 0, NULL, tokens, n), ATTAR_OK);
  len = 0;
  CHECK_IS(attar_tokenize(model, PROMPT, sizeof PROMPT - 1, 0, NULL, NULL, &len), ATTAR_E_SMALLBUF);
  CHECK(len == *n && *n > 2 && *n < all);
  size_t plain = all;
  attar_token *other = (attar_token *)malloc(all * sizeof *other);
  CHECK_IS(attar_tokenize(model, PROMPT, sizeof PROMPT - 1, ATTAR_TOKENIZE_PLAIN, NULL, other, &plain), ATTAR_OK);
  CHECK(plain + 1 == *n && memcmp(other, tokens + 1, plain * sizeof *other) == 0);
  uint8_t text[64];
  len = sizeof text;
  CHECK_IS(attar_detokenize(model, tokens, *n, 0, text, &len), ATTAR_OK);
  CHECK(len >= sizeof PROMPT - 1 && memcmp(text + len - (sizeof PROMPT - 1), PROMPT, sizeof PROMPT - 1) == 0);
  len = sizeof text;
  CHECK_IS(attar_detokenize(model, NULL, 0, 0, text, &len), ATTAR_OK);
  CHECK(len == 0);
  free(other);
}

/* Greedy text is the same by step and by generate, and whatever the prompt's division. */
static void generating(attar_session *session, const attar_model *model, const attar_token *prompt, size_t n) {
  attar_request request = {0};
  attar_result result = {0};
  struct heard heard = {0};
  attar_token stepped[24];
  float logprob, sum = 0;
  size_t done = 0;
  request.size = sizeof request;
  result.size = sizeof result;
  CHECK_IS(attar_step(session, NULL, stepped, NULL), ATTAR_E_STATE);
  CHECK_IS(attar_generate(session, NULL, NULL, NULL), ATTAR_E_STATE);
  CHECK_IS(attar_prefill(session, prompt, n, &done), ATTAR_OK);
  CHECK(done == n);
  for (size_t i = 0; i < 24; ++i) {
    CHECK_IS(attar_step(session, &request, &stepped[i], &logprob), ATTAR_OK);
    CHECK(logprob <= 0 && logprob > -20);
    sum += logprob;
  }
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  for (size_t i = 0; i < n; ++i) CHECK_IS(attar_prefill(session, prompt + i, 1, NULL), ATTAR_OK);
  request.max_tokens = 24;
  request.on_token = hear;
  request.user = &heard;
  heard.session = session;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.n_prompt == n && result.n_generated == 24 && result.stop_reason == ATTAR_STOP_LENGTH);
  CHECK(heard.nested == ATTAR_E_STATE);
  CHECK(fabs(result.logprob_sum - (double)sum) < 1e-3 && fabs(heard.logprobs - result.logprob_sum) < 1e-6);
  uint8_t text[512];
  size_t len = sizeof text;
  CHECK_IS(attar_detokenize(model, stepped, 24, 0, text, &len), ATTAR_OK);
  CHECK(heard.len == len && memcmp(heard.text, text, len) == 0 && heard.raw_len == len);

  /* The callback stops; what follows is where it stopped. */
  CHECK_IS(attar_session_rewind(session, (uint32_t)n), ATTAR_OK);
  memset(&heard, 0, sizeof heard);
  heard.stop_after = 5;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.stop_reason == ATTAR_STOP_CALLBACK && result.n_generated == 5);
  heard.stop_after = 0;
  request.max_tokens = 19;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.n_prompt == n + 5 && heard.len == len && memcmp(heard.text, text, len) == 0);

  /* A stop string is not handed out, nor is any part of it. */
  char stop[16];
  const char *stops[2];
  memcpy(stop, text + len / 2, 7);
  stop[7] = 0;
  stops[0] = "@@@@";
  stops[1] = stop;
  const char *place = strstr(heard.text, stop);
  size_t before = (size_t)(place - heard.text);
  CHECK_IS(attar_session_rewind(session, (uint32_t)n), ATTAR_OK);
  memset(&heard, 0, sizeof heard);
  request.max_tokens = 24;
  request.stop = stops;
  request.n_stop = 2;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.stop_reason == ATTAR_STOP_STRING && heard.len == before && memcmp(heard.text, text, before) == 0);

  /* A deadline that is over at once, and one with time. */
  request.n_stop = 0;
  request.deadline_ns = 1;
  CHECK_IS(attar_session_rewind(session, (uint32_t)n), ATTAR_OK);
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.stop_reason == ATTAR_STOP_DEADLINE && result.n_generated <= 1);
  request.deadline_ns = UINT64_MAX;
  CHECK_IS(attar_generate(session, &request, &result, NULL), ATTAR_OK);
  CHECK(result.stop_reason == ATTAR_STOP_LENGTH);
}

static void sampling(attar_session *session, const attar_token *prompt, size_t n) {
  attar_sampling choice = {0};
  attar_request request = {0};
  struct heard first = {0}, second = {0};
  choice.size = sizeof choice;
  choice.temp = 0.9f;
  choice.top_k = 50;
  choice.top_p = 0.95f;
  choice.repeat_penalty = 1.1f;
  choice.seed = 7;
  request.size = sizeof request;
  request.max_tokens = 32;
  request.sampling = &choice;
  request.on_token = hear;
  struct heard *heard[2];
  heard[0] = &first;
  heard[1] = &second;
  for (int i = 0; i < 2; ++i) {
    request.user = heard[i];
    CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
    CHECK_IS(attar_prefill(session, prompt, n, NULL), ATTAR_OK);
    CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_OK);
  }
  CHECK(first.len > 10 && strcmp(first.text, second.text) == 0);
  choice.seed = 8;
  memset(&second, 0, sizeof second);
  CHECK_IS(attar_session_rewind(session, (uint32_t)n), ATTAR_OK);
  CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_OK);
  CHECK(strcmp(first.text, second.text) != 0);
  attar_error error = {0};
  error.size = sizeof error;
  choice.temp = -1;
  CHECK_IS(attar_generate(session, &request, NULL, &error), ATTAR_E_ARG);
  CHECK(strstr(error.msg, "temperature") != NULL && strstr(error.msg, "-1") != NULL);
  choice.temp = 0;
  choice.repeat_last_n = 257;
  CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_E_ARG);
}

/* ln P(AB) = ln P(A) + ln P(B | A), bit for bit a token; and what is scored leaves no trace. */
static void scoring(attar_session *session, const attar_token *prompt, size_t n) {
  float whole[64], parts[64];
  double sum = 0;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  CHECK_IS(attar_score(session, prompt, n, 0, whole, &sum), ATTAR_E_ARG);
  CHECK_IS(attar_score(session, prompt, n, n + 1, whole, &sum), ATTAR_E_ARG);
  CHECK_IS(attar_score(session, prompt, n, 1, whole, &sum), ATTAR_OK);
  double total = 0;
  for (size_t i = 0; i < n - 1; ++i) total += (double)whole[i];
  CHECK(fabs(sum - total) < 1e-5 && sum < 0);
  for (size_t cut = 1; cut < n; ++cut) {
    CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
    CHECK_IS(attar_prefill(session, prompt, cut, NULL), ATTAR_OK);
    CHECK_IS(attar_score(session, prompt + cut, n - cut, 0, parts, NULL), ATTAR_OK);
    CHECK(memcmp(parts, whole + cut - 1, (n - cut) * sizeof *parts) == 0);
  }
  attar_token before, after;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  CHECK_IS(attar_prefill(session, prompt, n, NULL), ATTAR_OK);
  CHECK_IS(attar_step(session, NULL, &before, NULL), ATTAR_OK);
  CHECK_IS(attar_session_rewind(session, (uint32_t)n), ATTAR_OK);
  CHECK_IS(attar_score(session, prompt, n, 0, NULL, &sum), ATTAR_OK);
  CHECK_IS(attar_step(session, NULL, &after, NULL), ATTAR_OK);
  CHECK(before == after);
}

/* The likeliest token is the one step takes, and its probability follows from all of them; looking leaves no trace. */
static void looking(attar_session *session, const attar_token *prompt, size_t n) {
  size_t count = 0, got;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  CHECK_IS(attar_logits(session, NULL, &count), ATTAR_E_SMALLBUF);
  float *logits = (float *)malloc(count * sizeof *logits), *again = (float *)malloc(count * sizeof *again);
  got = count;
  CHECK_IS(attar_logits(session, logits, &got), ATTAR_E_STATE);
  CHECK_IS(attar_prefill(session, prompt, n, NULL), ATTAR_OK);
  for (int i = 0; i < 4; ++i) {
    attar_token token;
    float logprob;
    size_t best = 0;
    double sum = 0;
    CHECK_IS(attar_logits(session, logits, &got), ATTAR_OK);
    CHECK_IS(attar_logits(session, again, &got), ATTAR_OK);
    CHECK(got == count && memcmp(logits, again, count * sizeof *logits) == 0);
    for (size_t j = 0; j < count; ++j) {
      if (logits[j] > logits[best]) best = j;
      sum += exp((double)logits[j]);
    }
    CHECK_IS(attar_step(session, NULL, &token, &logprob), ATTAR_OK);
    CHECK(token == (attar_token)best && fabs((double)logits[best] - log(sum) - (double)logprob) < 1e-5);
  }
  free(logits);
  free(again);
}

static void embedding(attar_session *session, const attar_token *prompt, size_t n) {
  size_t dim = 0, got;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  CHECK_IS(attar_embed(session, prompt, n, ATTAR_POOL_LAST, NULL, &dim), ATTAR_E_SMALLBUF);
  float *mean = (float *)malloc(dim * sizeof *mean), *last = (float *)malloc(dim * sizeof *last);
  float *sum = (float *)calloc(dim, sizeof *sum);
  got = dim;
  CHECK_IS(attar_embed(session, prompt, n, ATTAR_POOL_MEAN, mean, &got), ATTAR_OK);
  for (size_t i = 1; i <= n; ++i) {
    got = dim;
    CHECK_IS(attar_embed(session, prompt, i, ATTAR_POOL_LAST, last, &got), ATTAR_OK);
    for (size_t j = 0; j < dim; ++j) sum[j] += last[j];
  }
  float worst = 0, largest = 0;
  for (size_t j = 0; j < dim; ++j) {
    worst = fmaxf(worst, fabsf(sum[j] / (float)n - mean[j]));
    largest = fmaxf(largest, fabsf(mean[j]));
  }
  CHECK(got == dim && largest > 0.01f && worst == 0);
  CHECK_IS(attar_embed(session, prompt, n, 2, mean, &got), ATTAR_E_ARG);
  free(mean);
  free(last);
  free(sum);
}

static attar_session *signalled;
static void on_alarm(int number) {
  (void)number;
  attar_cancel(signalled);
}

static void cancelling(attar_session *session, const attar_token *prompt, size_t n) {
  size_t done = 99;
  attar_token token;
  attar_request request = {0};
  attar_result result = {0};
  request.size = sizeof request;
  result.size = sizeof result;
  attar_cancel(NULL);
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  attar_cancel(session);
  CHECK_IS(attar_prefill(session, prompt, n, &done), ATTAR_E_CANCELLED);
  CHECK(done == 0);
  CHECK_IS(attar_prefill(session, prompt, n, &done), ATTAR_OK);
  CHECK(done == n);
  attar_cancel(session);
  attar_cancel(session);
  CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_OK); /* the next token was known already: no layer ran */
  CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_E_CANCELLED);
  CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_OK);
  /* From a signal handler, while it runs: more tokens are asked for than a tenth of a second gives. */
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, NULL);
  signalled = session;
  for (int round = 0; round < 3; ++round) {
    attar_status status = ATTAR_OK;
    CHECK_IS(attar_session_rewind(session, 4), ATTAR_OK);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    while (status == ATTAR_OK) {
      request.max_tokens = 8;
      status = attar_generate(session, &request, &result, NULL);
      if (status == ATTAR_OK) CHECK_IS(attar_session_rewind(session, 4), ATTAR_OK);
    }
    CHECK(status == ATTAR_E_CANCELLED && result.stop_reason == ATTAR_STOP_CANCELLED);
  }
}

static void filling(attar_session *session, const attar_token *prompt, size_t n) {
  attar_request request = {0};
  attar_result result = {0};
  attar_token token;
  size_t done = 7;
  request.size = sizeof request;
  result.size = sizeof result;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  CHECK_IS(attar_prefill(session, prompt, n, NULL), ATTAR_OK);
  attar_sampling choice = {0};
  choice.size = sizeof choice;
  choice.temp = 2.0f;
  request.sampling = &choice;
  attar_status status;
  do {
    status = attar_generate(session, &request, &result, NULL);
  } while (status == ATTAR_OK && result.stop_reason == ATTAR_STOP_END);
  CHECK_IS(status, ATTAR_E_CONTEXT_FULL);
  CHECK(result.stop_reason == ATTAR_STOP_CONTEXT_FULL && result.n_prompt + result.n_generated == 64);
  CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_E_CONTEXT_FULL);
  CHECK_IS(attar_prefill(session, prompt, 1, &done), ATTAR_E_CONTEXT_FULL);
  CHECK(done == 0);
  CHECK_IS(attar_score(session, prompt, 1, 0, NULL, NULL), ATTAR_E_CONTEXT_FULL);
  CHECK_IS(attar_session_rewind(session, 65), ATTAR_E_ARG);
  CHECK_IS(attar_session_rewind(session, 63), ATTAR_OK);
  CHECK_IS(attar_step(session, NULL, &token, NULL), ATTAR_OK);
}

int main(int argc, char **argv) {
  size_t len, n = 64;
  attar_token prompt[64];
  unsigned char *file = read_file(argv[argc - 1], &len);
  attar_source source = {0}, of_fd = {0};
  attar_config config = config_of(64);
  attar_model *model = NULL, *mapped = NULL;
  attar_session *session = NULL;
  attar_error error = {0};
  source.size = sizeof source;
  of_fd.size = sizeof of_fd;
  error.size = sizeof error;
  versions();
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  probing(&source);
  limits(&source);
  progress(&source);
  CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, &error), ATTAR_OK);
  texts(model, prompt, &n);
  CHECK_IS(attar_session_open(model, &config, NULL, &session, &error), ATTAR_OK);
  generating(session, model, prompt, n);
  sampling(session, prompt, n);
  scoring(session, prompt, n);
  looking(session, prompt, n);
  embedding(session, prompt, n);
  cancelling(session, prompt, n);
  filling(session, prompt, n);
  char json[1024];
  size_t json_len = sizeof json;
  CHECK_IS(attar_stats(session, json, &json_len), ATTAR_OK);
  CHECK(strstr(json, "\"n_ctx\":64,\"n_held\":64") != NULL);
  attar_session_close(session);

  /* The same file by its descriptor, mapped and copied; from its middle on there is no model. */
  int fd = open(argv[argc - 1], O_RDONLY);
  CHECK_IS(attar_source_fd(&of_fd, fd, 0, 0), ATTAR_OK);
  CHECK(of_fd.length == len);
  for (config.residency = 0; config.residency < 2; ++config.residency) {
    CHECK_IS(attar_model_open(&of_fd, &config, NULL, &mapped, NULL, NULL, &error), ATTAR_OK);
    attar_token again[64];
    size_t m = 64;
    CHECK_IS(attar_tokenize(mapped, PROMPT, sizeof PROMPT - 1, 0, NULL, again, &m), ATTAR_OK);
    CHECK(m == n && memcmp(again, prompt, n * sizeof *again) == 0);
    attar_model_close(mapped);
  }
  CHECK_IS(attar_source_fd(&of_fd, fd, 100, 1000), ATTAR_OK);
  CHECK_IS(attar_model_open(&of_fd, NULL, NULL, &mapped, NULL, NULL, &error), ATTAR_E_FORMAT);
  CHECK_IS(attar_source_fd(&of_fd, fd, 0, len + 1), ATTAR_E_ARG);
  close(fd);
  CHECK_IS(attar_source_fd(&of_fd, fd, 0, 0), ATTAR_E_IO);
  CHECK_IS(attar_source_fd(&of_fd, -1, 0, 0), ATTAR_E_ARG);
  attar_model_close(model);
  free(file);
  return report("contract");
}
