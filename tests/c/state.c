/* Saved states: they go on as if nothing had happened, and any damage is found before the session changes. */
#include "check.h"

static const attar_token prompt[] = {1, 5, 9, 13, 17, 21, 25};

enum { MORE = 12 };

static void go_on(attar_session *session, attar_token *out) {
  attar_sampling choice = {0};
  attar_request request = {0};
  choice.size = sizeof choice;
  choice.temp = 1.0f;
  choice.repeat_penalty = 1.2f;
  request.size = sizeof request;
  request.sampling = &choice;
  for (int i = 0; i < MORE; ++i) CHECK_IS(attar_step(session, &request, &out[i], NULL), ATTAR_OK);
}

static unsigned char *save(attar_session *session, size_t *n) {
  *n = 0;
  CHECK_IS(attar_state_save(session, NULL, n), ATTAR_E_SMALLBUF);
  unsigned char *state = (unsigned char *)malloc(*n);
  size_t exact = *n;
  CHECK_IS(attar_state_save(session, state, n), ATTAR_OK);
  CHECK(*n == exact);
  --*n;
  CHECK_IS(attar_state_save(session, state, n), ATTAR_E_SMALLBUF);
  CHECK(*n == exact);
  return state;
}

int main(int argc, char **argv) {
  size_t len, other_len, n, m;
  unsigned char *file = read_file(argv[argc - 2], &len), *other = read_file(argv[argc - 1], &other_len);
  attar_source source = {0};
  attar_config config = config_of(64);
  attar_model *model, *stranger;
  attar_session *session, *fresh, *short_one, *foreign, *exact;
  attar_token expected[MORE], got[MORE];
  attar_error error = {0};
  source.size = sizeof source;
  error.size = sizeof error;
  attar_source_memory(&source, file, len);
  CHECK_IS(attar_model_open(&source, NULL, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  attar_source_memory(&source, other, other_len);
  CHECK_IS(attar_model_open(&source, NULL, NULL, &stranger, NULL, NULL, NULL), ATTAR_OK);
  config.seed = 42;
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_session_open(stranger, &config, NULL, &foreign, NULL), ATTAR_OK);
  config.seed = 43;
  config.n_ctx = 40;
  CHECK_IS(attar_session_open(model, &config, NULL, &fresh, NULL), ATTAR_OK);
  config.n_ctx = 16;
  CHECK_IS(attar_session_open(model, &config, NULL, &short_one, NULL), ATTAR_OK);
  config.n_ctx = 64;
  config.kv_type_k = config.kv_type_v = ATTAR_KV_F32;
  CHECK_IS(attar_session_open(model, &config, NULL, &exact, NULL), ATTAR_OK);

  /* At once after opening, after a prompt, after tokens: in the same session and in another with another context. */
  unsigned char *empty = save(session, &n);
  CHECK_IS(attar_state_load(session, empty, n, &error), ATTAR_OK);
  free(empty);
  CHECK_IS(attar_prefill(session, prompt, 7, NULL), ATTAR_OK);
  for (int round = 0; round < 2; ++round) {
    unsigned char *state = save(session, &n);
    go_on(session, expected);
    CHECK_IS(attar_state_load(session, state, n, &error), ATTAR_OK);
    go_on(session, got);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    CHECK_IS(attar_state_load(fresh, state, n, &error), ATTAR_OK);
    go_on(fresh, got);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    if (round == 1) {
      CHECK_IS(attar_state_load(short_one, state, n, &error), ATTAR_E_CONTEXT_FULL);
      CHECK_IS(attar_state_load(foreign, state, n, &error), ATTAR_E_VERIFY);
      CHECK(strstr(error.msg, "another model") != NULL);
      CHECK_IS(attar_state_load(exact, state, n, &error), ATTAR_E_VERIFY);
      CHECK(strstr(error.msg, "encodes") != NULL);
    }
    /* Cut short or damaged at any byte: refused, and the session goes on from where it is. */
    unsigned char *mark = save(session, &m);
    go_on(session, expected);
    CHECK_IS(attar_state_load(session, mark, m, &error), ATTAR_OK);
    size_t tried = 0, step = n < 30000 ? 1 : n / 30000;
    for (size_t cut = 0; cut < n; cut += cut < 200 ? 1 : step * 16, ++tried)
      CHECK_IS(attar_state_load(session, state, cut, &error), ATTAR_E_VERIFY);
    for (size_t at = 0; at < n; at += at < 200 ? 1 : step * 16, ++tried) {
      state[at] ^= (unsigned char)(1u << at % 8);
      attar_status status = attar_state_load(session, state, n, &error);
      CHECK(status == (at >= 8 && at < 12 ? ATTAR_E_VERSION : ATTAR_E_VERIFY));
      state[at] ^= (unsigned char)(1u << at % 8);
    }
    printf("state: %lu bytes, %lu damages\n", (unsigned long)n, (unsigned long)tried);
    go_on(session, got);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    CHECK_IS(attar_state_load(session, mark, m, &error), ATTAR_OK);
    free(mark);
    free(state);
  }
  config.kv_type_k = config.kv_type_v = ATTAR_KV_Q8_0;
  attar_session *blocks = NULL;
  CHECK_IS(attar_session_open(model, &config, NULL, &blocks, NULL), ATTAR_E_UNSUPPORTED); /* heads of 8 */
  CHECK_IS(attar_session_open(stranger, &config, NULL, &blocks, NULL), ATTAR_OK);
  CHECK_IS(attar_prefill(blocks, prompt, 7, NULL), ATTAR_OK);
  unsigned char *state = save(blocks, &n);
  go_on(blocks, expected);
  CHECK_IS(attar_state_load(blocks, state, n, &error), ATTAR_OK);
  go_on(blocks, got);
  CHECK(memcmp(expected, got, sizeof got) == 0);
  CHECK_IS(attar_state_load(foreign, state, n, &error), ATTAR_E_VERIFY);
  CHECK(strstr(error.msg, "encodes") != NULL);
  free(state);
  attar_session_close(blocks);
  attar_session_close(session);
  attar_session_close(fresh);
  attar_session_close(short_one);
  attar_session_close(foreign);
  attar_session_close(exact);
  attar_model_close(model);
  attar_model_close(stranger);
  free(file);
  free(other);
  return report("state");
}
