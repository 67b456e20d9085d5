/* Says which of several endings a model finds likelier.   score MODEL.gguf [START ENDING ENDING...] */
#include "common.h"

int main(int argc, char **argv) {
  static const char *const plain[] = {"Once upon a", " time", " table"};
  const char *const *texts = argc > 3 ? (const char *const *)argv + 2 : plain;
  int count = argc > 3 ? argc - 2 : 3;
  attar_token tokens[256];
  attar_model *model = open_model(argv[1]);
  attar_session *session = open_session(model, 256);
  /* The start is held; each ending is tried after it and forgotten. It is cut into tokens together with the start, as that
     decides where a word begins. */
  size_t start = tokens_of(model, texts[0], 0, tokens, 256);
  must(attar_prefill(session, tokens, start, NULL), NULL, "prefill");
  for (int i = 1; i < count; ++i) {
    char text[1024];
    double sum;
    snprintf(text, sizeof text, "%s%s", texts[0], texts[i]);
    size_t n = tokens_of(model, text, 0, tokens, 256);
    if (n <= start) continue;
    must(attar_score(session, tokens + start, n - start, 0, NULL, &sum), NULL, "score");
    printf("%8.3f  %s\n", sum, text);
  }
  attar_session_close(session);
  attar_model_close(model);
  return 0;
}
