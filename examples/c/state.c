/* Saves a session, as before a loss of power, and goes on in a new one.   state MODEL.gguf */
#include "common.h"

static void go_on(attar_session *session, const attar_model *model) {
  attar_sampling sampling = {.size = sizeof sampling, .temp = 0.8f, .top_k = 20};
  attar_request request = {.size = sizeof request, .sampling = &sampling};
  for (int i = 0; i < 20; ++i) {
    uint8_t text[64];
    size_t n = sizeof text;
    attar_token token;
    must(attar_step(session, &request, &token, NULL), NULL, "step");
    must(attar_detokenize(model, &token, 1, 0, text, &n), NULL, "detokenize");
    fwrite(text, 1, n, stdout);
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  attar_token tokens[64];
  attar_error error = {.size = sizeof error};
  attar_model *model = open_model(argv[argc - 1]);
  attar_session *session = open_session(model, 128);
  size_t n = tokens_of(model, "Once upon a time", 0, tokens, 64);
  must(attar_prefill(session, tokens, n, NULL), NULL, "prefill");

  size_t len = 0;
  attar_state_save(session, NULL, &len); /* says the size */
  void *state = malloc(len);
  if (state == NULL) return 1;
  must(attar_state_save(session, state, &len), NULL, "save");
  go_on(session, model);
  attar_session_close(session);

  session = open_session(model, 128);
  must(attar_state_load(session, state, len, &error), &error, "load");
  go_on(session, model); /* the same words */
  free(state);
  attar_session_close(session);
  attar_model_close(model);
  return 0;
}
