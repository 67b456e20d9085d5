/* Compares texts by the angle between their embeddings.   embed MODEL.gguf [TEXT TEXT...] */
#include "common.h"

#include <math.h>

int main(int argc, char **argv) {
  static const char *const plain[] = {"The cat sat on the mat.", "A cat was on a mat.", "They went to buy bread."};
  const char *const *texts = argc > 3 ? (const char *const *)argv + 2 : plain;
  int count = argc > 3 ? argc - 2 : 3;
  attar_token tokens[256];
  attar_model *model = open_model(argv[1]);
  attar_session *session = open_session(model, 256);
  size_t dim = 0, n = tokens_of(model, texts[0], 0, tokens, 256);
  if (attar_embed(session, tokens, n, ATTAR_POOL_MEAN, NULL, &dim) != ATTAR_E_SMALLBUF) return 1; /* asks for the size */
  float *all = malloc((size_t)count * dim * sizeof *all);
  if (all == NULL) return 1;
  for (int i = 0; i < count; ++i) {
    n = tokens_of(model, texts[i], 0, tokens, 256);
    must(attar_embed(session, tokens, n, ATTAR_POOL_MEAN, all + (size_t)i * dim, &dim), NULL, "embed");
  }
  for (int i = 1; i < count; ++i) {
    const float *a = all, *b = all + (size_t)i * dim;
    double ab = 0, aa = 0, bb = 0;
    for (size_t j = 0; j < dim; ++j) ab += a[j] * b[j], aa += a[j] * a[j], bb += b[j] * b[j];
    printf("%6.3f  %s | %s\n", ab / sqrt(aa * bb), texts[0], texts[i]);
  }
  free(all);
  attar_session_close(session);
  attar_model_close(model);
  return 0;
}
