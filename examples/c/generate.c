/* Goes on with a text, writing it as it comes.   generate MODEL.gguf [PROMPT] */
#include "common.h"

static int32_t print(void *user, attar_token id, const char *utf8, size_t utf8_len, const uint8_t *raw, size_t raw_len,
                     float logprob) {
  (void)user, (void)id, (void)raw, (void)raw_len, (void)logprob;
  fwrite(utf8, 1, utf8_len, stdout);
  fflush(stdout);
  return 0;
}

int main(int argc, char **argv) {
  const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
  attar_token tokens[256];
  attar_model *model = open_model(argv[1]);
  attar_session *session = open_session(model, 256);
  size_t n = tokens_of(model, prompt, 0, tokens, 256);
  must(attar_prefill(session, tokens, n, NULL), NULL, "prefill");

  attar_sampling sampling = {.size = sizeof sampling, .temp = 0.7f, .top_k = 40, .top_p = 0.95f, .seed = 1};
  attar_request request = {.size = sizeof request, .max_tokens = 100, .sampling = &sampling, .on_token = print};
  attar_result result = {.size = sizeof result};
  attar_error error = {.size = sizeof error};
  fputs(prompt, stdout);
  must(attar_generate(session, &request, &result, &error), &error, "generate");
  printf("\n%u tokens, ln P = %.2f\n", result.n_generated, result.logprob_sum);
  attar_session_close(session);
  attar_model_close(model);
  return 0;
}
