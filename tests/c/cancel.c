/* After a cancellation or a deadline at most the rest of one layer, or of one reading of logits, is done. No time is
   measured: the library works with an executor that counts, and one run after the other each piece of its work raises
   the alarm.   cancel MODEL.gguf... */
#include "check.h"

enum { BATCH = 16, TEXT = 3 * BATCH, GIVEN = 4, VOCAB_MAX = 65536 };

/* What the library is lent. */
static struct {
  unsigned long jobs, alarm; /* done so far; the one that raises it, 0 for none */
  attar_session *session;    /* to be cancelled; NULL: it is the clock that runs out */
  uint64_t now;
} board;

static void parallel_for(void *ctx, uint32_t n, void (*fn)(void *, uint32_t), void *arg) {
  (void)ctx;
  if (++board.jobs == board.alarm) {
    if (board.session != NULL) attar_cancel(board.session);
    else board.now = 1000;
  }
  for (uint32_t i = 0; i < n; ++i) fn(arg, i);
}

static uint64_t now_ns(void *ctx) {
  (void)ctx;
  return board.now;
}

static attar_token text[TEXT + 1];
static float numbers[VOCAB_MAX];

/* Calls: each says whether it was stopped. */
static int stopped(attar_status status) {
  CHECK(status == ATTAR_OK || status == ATTAR_E_CANCELLED);
  return status == ATTAR_E_CANCELLED;
}

static int prefill_one(attar_session *session) {
  return stopped(attar_prefill(session, text, 1, NULL));
}

static int prefill(attar_session *session) {
  return stopped(attar_prefill(session, text, TEXT, NULL));
}

static int score(attar_session *session) {
  return stopped(attar_score(session, text, TEXT + 1, 1, numbers, NULL));
}

static int embed(attar_session *session) {
  size_t dim = VOCAB_MAX;
  return stopped(attar_embed(session, text, TEXT, ATTAR_POOL_MEAN, numbers, &dim));
}

static int generate(attar_session *session) {
  attar_request request = {0};
  attar_result result = {0};
  attar_status status;
  request.size = sizeof request;
  request.max_tokens = GIVEN;
  request.deadline_ns = 1000;
  result.size = sizeof result;
  status = attar_generate(session, &request, &result, NULL);
  CHECK((status == ATTAR_E_CANCELLED) == (result.stop_reason == ATTAR_STOP_CANCELLED));
  if (result.stop_reason == ATTAR_STOP_LENGTH) return 0;
  CHECK(result.stop_reason == (board.session != NULL ? ATTAR_STOP_CANCELLED : ATTAR_STOP_DEADLINE));
  CHECK(result.n_generated < GIVEN);
  return 1;
}

static const struct {
  int (*run)(attar_session *);
  size_t held;    /* tokens before */
  size_t batches; /* passes through all layers */
  int timed;      /* whether the call has a deadline */
} calls[] = {
    {prefill_one, 0, 1, 0}, {prefill, 0, 3, 0}, {score, 0, 3, 0}, {embed, 0, 3, 0}, {generate, GIVEN, GIVEN - 1, 1},
};

/* Runs a call from the start; the number of jobs it did. */
static unsigned long jobs_of(attar_session *session, size_t call, unsigned long alarm, int *was_stopped) {
  board.alarm = board.now = 0;
  CHECK_IS(attar_session_rewind(session, 0), ATTAR_OK);
  if (calls[call].held > 0) CHECK_IS(attar_prefill(session, text, calls[call].held, NULL), ATTAR_OK);
  board.jobs = 0;
  board.alarm = alarm;
  *was_stopped = calls[call].run(session);
  return board.jobs;
}

static void raise_everywhere(attar_session *session, size_t call, unsigned long layers) {
  unsigned long pieces = 0, end = 0, longest = 0;
  int was_stopped;
  const unsigned long all = jobs_of(session, call, 0, &was_stopped);
  CHECK(!was_stopped && all > layers);
  for (unsigned long alarm = 1; alarm <= all; ++alarm) {
    const unsigned long done = jobs_of(session, call, alarm, &was_stopped);
    CHECK(done >= alarm && (was_stopped || done == all));
    if (!was_stopped && board.session != NULL) { /* too late: it is the next call's */
      board.alarm = 0;
      CHECK(prefill_one(session));
    }
    if (done == end) continue; /* the alarm came in the same piece as the one before */
    CHECK(end + 1 == alarm);   /* the piece before ended where this one begins */
    if (done - end > longest) longest = done - end;
    end = done;
    ++pieces;
  }
  /* Layers are alike, and there is more than them: none of the pieces is longer than a layer. */
  CHECK(end == all && pieces > layers * calls[call].batches);
  CHECK(longest * layers * calls[call].batches <= all);
  CHECK(jobs_of(session, call, 0, &was_stopped) == all && !was_stopped);
}

int main(int argc, char **argv) {
  attar_config config = config_of(64);
  attar_exec exec = {0};
  attar_clock clock = {0};
  exec.size = sizeof exec;
  exec.n_workers = 2;
  exec.parallel_for = parallel_for;
  clock.size = sizeof clock;
  clock.now_ns = now_ns;
  config.n_prefill = BATCH;
  config.exec = &exec;
  config.clock = &clock;
  for (int i = 1; i < argc; ++i) {
    size_t len, room = 16, start = TEXT;
    char layers[16];
    attar_source source = {0};
    attar_model *model = NULL;
    attar_session *session = NULL;
    unsigned char *file = read_file(argv[i], &len);
    source.size = sizeof source;
    CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
    CHECK_IS(attar_model_open(&source, &config, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
    for (int t = 0; t <= TEXT; ++t) text[t] = 1 + t * 7 % 60;
    /* Where there are words, a beginning that does not end at once; otherwise nothing is written. */
    if (attar_tokenize(model, "Once upon a time", 16, 0, NULL, text, &start) == ATTAR_OK) CHECK(start >= GIVEN);
    CHECK_IS(attar_model_meta(model, "llama.block_count", layers, &room), ATTAR_OK);
    CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
    for (size_t call = 0; call < sizeof calls / sizeof calls[0]; ++call) {
      board.session = session;
      raise_everywhere(session, call, strtoul(layers, NULL, 10));
      board.session = NULL;
      if (calls[call].timed) raise_everywhere(session, call, strtoul(layers, NULL, 10));
    }
    attar_session_close(session);
    attar_model_close(model);
    free(file);
  }
  return report("cancel");
}
