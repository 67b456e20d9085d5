/* Threads: eight sessions over one model at once say what each says alone, lent threads change no bit, and a
   cancellation from another thread arrives. */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <pthread.h>
#include <time.h>

enum { SESSIONS = 8, TOKENS = 40, WORKERS = 3 };

static const attar_token prompt[] = {1, 5, 9, 13, 17, 21, 25};
static attar_model *model;

struct told {
  attar_token tokens[TOKENS];
  float logprobs[TOKENS + 6];
  uint64_t seed;
};

static void *tell(void *arg) {
  struct told *told = (struct told *)arg;
  attar_config config = config_of(64);
  attar_sampling choice = {0};
  attar_request request = {0};
  attar_session *session = NULL;
  attar_status worst = ATTAR_OK, status;
  config.seed = told->seed;
  choice.size = sizeof choice;
  choice.temp = 1.0f;
  request.size = sizeof request;
  request.sampling = &choice;
  status = attar_session_open(model, &config, NULL, &session, NULL);
  worst = status < worst ? status : worst;
  status = attar_score(session, prompt, 7, 1, told->logprobs, NULL);
  worst = status < worst ? status : worst;
  status = attar_prefill(session, prompt, 7, NULL);
  worst = status < worst ? status : worst;
  for (int i = 0; i < TOKENS; ++i) {
    status = attar_step(session, &request, &told->tokens[i], &told->logprobs[6 + i]);
    worst = status < worst ? status : worst;
  }
  attar_session_close(session);
  return (void *)(intptr_t)worst;
}

static void together(void) {
  static struct told alone[SESSIONS], beside[SESSIONS];
  pthread_t threads[SESSIONS];
  for (int i = 0; i < SESSIONS; ++i) {
    alone[i].seed = beside[i].seed = (uint64_t)i + 1;
    CHECK(tell(&alone[i]) == NULL);
  }
  CHECK(memcmp(alone[0].tokens, alone[1].tokens, sizeof alone[0].tokens) != 0);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < SESSIONS; ++i) CHECK(pthread_create(&threads[i], NULL, tell, &beside[i]) == 0);
    for (int i = 0; i < SESSIONS; ++i) {
      void *worst;
      pthread_join(threads[i], &worst);
      CHECK(worst == NULL && memcmp(&alone[i], &beside[i], sizeof alone[i]) == 0);
    }
  }
}

/* An executor that starts a thread a share, which is slow, and in an odd order. */
struct share {
  void (*fn)(void *, uint32_t);
  void *arg;
  uint32_t i;
};

static unsigned long jobs, most;

static void *do_share(void *arg) {
  struct share *share = (struct share *)arg;
  share->fn(share->arg, share->i);
  return NULL;
}

static void with_threads(void *ctx, uint32_t n, void (*fn)(void *, uint32_t), void *arg) {
  struct share shares[WORKERS];
  pthread_t threads[WORKERS];
  ++jobs;
  CHECK(ctx == &jobs && n <= WORKERS);
  if (n > most) most = n;
  for (uint32_t i = 0; i < n; ++i) {
    shares[i].fn = fn;
    shares[i].arg = arg;
    shares[i].i = n - 1 - i;
    pthread_create(&threads[i], NULL, do_share, &shares[i]);
  }
  for (uint32_t i = 0; i < n; ++i) pthread_join(threads[i], NULL);
}

static void in_order(void *ctx, uint32_t n, void (*fn)(void *, uint32_t), void *arg) {
  (void)ctx;
  for (uint32_t i = n; i-- > 0;) fn(arg, i);
}

static int broken;
static void unreliable(void *ctx, uint32_t n, void (*fn)(void *, uint32_t), void *arg) {
  (void)ctx;
  for (uint32_t i = broken ? 1 : 0; i < n; ++i) fn(arg, i);
}

static void executors(void) {
  float expected[6], got[6];
  attar_config config = config_of(64);
  attar_session *session;
  attar_exec exec = {0};
  attar_plan_info plan = {0};
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_score(session, prompt, 7, 1, expected, NULL), ATTAR_OK);
  attar_session_close(session);
  exec.size = sizeof exec;
  exec.n_workers = WORKERS;
  exec.ctx = &jobs;
  plan.size = sizeof plan;
  config.exec = &exec;
  void (*const all[])(void *, uint32_t, void (*)(void *, uint32_t), void *) = {with_threads, in_order, unreliable};
  for (size_t i = 0; i < 3; ++i) {
    exec.parallel_for = all[i];
    CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
    CHECK_IS(attar_score(session, prompt, 7, 1, got, NULL), ATTAR_OK);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    if (i < 2) attar_session_close(session);
  }
  CHECK(jobs > 10 && most == WORKERS);
  /* One that leaves work undone is found out; the session is given up, the program goes on. */
  broken = 1;
  CHECK_IS(attar_score(session, prompt, 7, 1, got, NULL), ATTAR_E_INTERNAL);
  CHECK_IS(attar_score(session, prompt, 7, 1, got, NULL), ATTAR_E_STATE);
  attar_session_close(session);
}

struct running {
  attar_session *session;
  attar_status status;
  int begun;
};

static void *run_until_cancelled(void *arg) {
  struct running *running = (struct running *)arg;
  attar_request request = {0};
  request.size = sizeof request;
  request.max_tokens = 8;
  do {
    attar_session_rewind(running->session, 3);
    running->status = attar_generate(running->session, &request, NULL, NULL);
    __atomic_store_n(&running->begun, 1, __ATOMIC_RELEASE);
  } while (running->status == ATTAR_OK);
  return NULL;
}

static void cancelling(void) {
  struct running running = {NULL, ATTAR_OK, 0};
  attar_config config = config_of(64);
  attar_token token = 1;
  CHECK_IS(attar_session_open(model, &config, NULL, &running.session, NULL), ATTAR_OK);
  CHECK_IS(attar_prefill(running.session, prompt, 7, NULL), ATTAR_OK);
  for (int round = 0; round < 20; ++round) {
    pthread_t thread;
    running.begun = 0;
    CHECK(pthread_create(&thread, NULL, run_until_cancelled, &running) == 0);
    while (!__atomic_load_n(&running.begun, __ATOMIC_ACQUIRE)) sched_yield();
    /* Meanwhile other calls are turned away, or come between two of the thread's. */
    for (int i = 0; i < 200; ++i) {
      size_t n = 0;
      attar_status status = attar_state_save(running.session, NULL, &n);
      CHECK(status == ATTAR_E_STATE || status == ATTAR_E_SMALLBUF);
    }
    attar_cancel(running.session);
    pthread_join(thread, NULL);
    CHECK(running.status == ATTAR_E_CANCELLED || running.status == ATTAR_E_STATE);
    if (running.status == ATTAR_E_STATE) CHECK_IS(attar_prefill(running.session, &token, 1, NULL), ATTAR_E_CANCELLED);
  }
  attar_session_close(running.session);
}

static uint64_t now_ns(void *ctx) {
  struct timespec now;
  (void)ctx;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t idled;
static void idle(void *ctx, uint64_t ns) {
  struct timespec pause;
  uint64_t start = now_ns(ctx);
  CHECK(ns <= 5000000);
  pause.tv_sec = 0;
  pause.tv_nsec = (long)ns;
  nanosleep(&pause, NULL);
  idled += now_ns(ctx) - start;
}

/* A clock that is lent: at a duty of a quarter, three quarters of the time are pauses. */
static void resting(void) {
  attar_config config = config_of(64);
  attar_clock clock = {0};
  attar_request request = {0};
  attar_session *session;
  clock.size = sizeof clock;
  clock.now_ns = now_ns;
  clock.idle = idle;
  config.clock = &clock;
  request.size = sizeof request;
  request.duty_percent = 25;
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  uint64_t start = now_ns(NULL), took;
  do {
    CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
    CHECK_IS(attar_prefill(session, prompt, 1, NULL), ATTAR_OK);
    request.max_tokens = 50;
    CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_OK);
    took = now_ns(NULL) - start;
  } while (took < 300000000);
  printf("threads: at a duty of 25 %% the processor rested %.0f %% of the time\n", 100.0 * (double)idled / (double)took);
  CHECK(idled * 100 > took * 60);
  attar_session_close(session);
}

int main(int argc, char **argv) {
  size_t len;
  unsigned char *file = read_file(argv[argc - 1], &len);
  attar_source source = {0};
  source.size = sizeof source;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  together();
  executors();
  cancelling();
  resting();
  attar_model_close(model);
  free(file);
  return report("threads");
}
