/* Stops a generation from another thread, and by a deadline.   cancel MODEL.gguf */
#include "common.h"

#include <pthread.h>

static void *press_button(void *session) {
  attar_cancel(session); /* from any thread, signal handler or interrupt */
  return NULL;
}

int main(int argc, char **argv) {
  attar_token tokens[64];
  attar_model *model = open_model(argv[argc - 1]);
  attar_session *session = open_session(model, 4096);
  attar_request request = {.size = sizeof request, .deadline_ns = 20 * 1000 * 1000}; /* 20 ms */
  attar_result result = {.size = sizeof result};
  pthread_t button;
  size_t n = tokens_of(model, "Once upon a time", 0, tokens, 64);
  must(attar_prefill(session, tokens, n, NULL), NULL, "prefill");

  must(attar_generate(session, &request, &result, NULL), NULL, "generate");
  printf("stopped by %s\n", result.stop_reason == ATTAR_STOP_DEADLINE ? "the deadline" : "something else");

  request.deadline_ns = 0;
  must(attar_session_rewind(session, (uint32_t)n), NULL, "rewind");
  if (pthread_create(&button, NULL, press_button, session) != 0) return 1;
  attar_status status;
  do {
    status = attar_generate(session, &request, &result, NULL);
    if (status != ATTAR_E_CANCELLED) must(attar_session_rewind(session, (uint32_t)n), NULL, "rewind");
  } while (status != ATTAR_E_CANCELLED);
  pthread_join(button, NULL);
  printf("stopped by %s\n", result.stop_reason == ATTAR_STOP_CANCELLED ? "the button" : "something else");

  /* What was generated is held, and the session goes on. */
  must(attar_step(session, NULL, tokens, NULL), NULL, "step");
  attar_session_close(session);
  attar_model_close(model);
  return 0;
}
