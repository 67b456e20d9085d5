/* Sources that can only be read: the same model, and for every k the k-th read fails without harm. */
#include "check.h"

struct store {
  const unsigned char *bytes;
  size_t len, reads, fail_at, most, maps, unmaps;
};

static int32_t read_at(void *ctx, uint64_t offset, void *dst, size_t n) {
  struct store *store = (struct store *)ctx;
  if (n > store->most) store->most = n;
  if (offset < 16 || offset - 16 > store->len || n > store->len - (size_t)(offset - 16)) return 2;
  if (++store->reads == store->fail_at) return 1;
  memcpy(dst, store->bytes + (offset - 16), n);
  return 0;
}

static const void *map(void *ctx, uint64_t offset, size_t n) {
  struct store *store = (struct store *)ctx;
  store->maps++;
  return offset == 16 && n == store->len ? store->bytes : NULL;
}

static const void *map_nothing(void *ctx, uint64_t offset, size_t n) {
  (void)offset, (void)n;
  ((struct store *)ctx)->maps++;
  return NULL;
}

static void unmap(void *ctx, const void *address, size_t n) {
  struct store *store = (struct store *)ctx;
  CHECK(address == store->bytes && n == store->len);
  store->unmaps++;
}

/* The log probability of a few tokens, as a witness of the weights. */
static double witness(const attar_model *model) {
  static const attar_token tokens[] = {1, 5, 9, 13, 17};
  attar_config config = config_of(16);
  attar_session *session = NULL;
  double sum = 1;
  CHECK_IS(attar_session_open(model, &config, NULL, &session, NULL), ATTAR_OK);
  CHECK_IS(attar_score(session, tokens, 5, 1, NULL, &sum), ATTAR_OK);
  attar_session_close(session);
  return sum;
}

int main(int argc, char **argv) {
  struct store store = {0};
  attar_source source = {0}, memory = {0};
  attar_config config = config_of(16);
  attar_plan_info plan = {0}, in_place = {0};
  attar_model *model = NULL;
  attar_error error = {0};
  size_t len = 0;
  char json[2048];
  store.bytes = read_file(argv[argc - 1], &store.len);
  source.size = sizeof source;
  memory.size = sizeof memory;
  plan.size = sizeof plan;
  in_place.size = sizeof in_place;
  error.size = sizeof error;
  source.ctx = &store;
  source.length = store.len;
  source.start = 16;
  source.read_at = read_at;
  CHECK_IS(attar_source_memory(&memory, store.bytes, store.len), ATTAR_OK);
  CHECK_IS(attar_model_open(&memory, &config, NULL, &model, NULL, NULL, NULL), ATTAR_OK);
  double expected = witness(model);
  attar_model_close(model);

  CHECK_IS(attar_plan(&source, &config, NULL, &plan, NULL), ATTAR_OK);
  CHECK_IS(attar_plan(&memory, &config, NULL, &in_place, NULL), ATTAR_OK);
  CHECK(in_place.mapped_file == store.len && plan.mapped_file == 0);
  CHECK(plan.model_arena >= in_place.model_arena + store.len);
  CHECK(plan.model_arena < in_place.model_arena + store.len + 2 * ATTAR_ALIGN);
  CHECK(plan.session_arena == in_place.session_arena);
  void *raw;
  attar_mem arena;
  arena.size = (size_t)plan.model_arena;
  arena.base = aligned(arena.size, &raw);
  store.reads = 0;
  CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, &error), ATTAR_OK);
  size_t reads = store.reads, failed = 0;
  CHECK(witness(model) == expected && store.reads == reads);
  attar_model_close(model);
  for (size_t k = 1; k <= reads; ++k, ++failed) {
    store.reads = 0;
    store.fail_at = k;
    CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, &error), ATTAR_E_IO);
    CHECK(model == NULL && error.code == ATTAR_E_IO && store.reads == k);
    store.reads = 0;
    CHECK_IS(attar_plan(&source, &config, NULL, &plan, NULL), ATTAR_E_IO);
    store.reads = 0;
    len = sizeof json;
    CHECK_IS(attar_probe(&source, NULL, NULL, json, &len, NULL), ATTAR_E_IO);
  }
  store.fail_at = 0;

  /* A source that maps is not read, and gets its mapping back; one that cannot map today is read. */
  source.map = map;
  source.unmap = unmap;
  store.reads = store.maps = 0;
  CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK(witness(model) == expected && store.reads == 0 && store.maps == 1 && store.unmaps == 0);
  attar_model_close(model);
  CHECK(store.unmaps == 1);
  config.residency = ATTAR_RESIDENCY_COPY;
  CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK(witness(model) == expected && store.reads == reads && store.maps == 1);
  attar_model_close(model);
  config.residency = ATTAR_RESIDENCY_MAP;
  source.map = map_nothing;
  store.reads = 0;
  CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, NULL), ATTAR_OK);
  CHECK(witness(model) == expected && store.reads == reads && store.maps == 2 && store.unmaps == 1);
  attar_model_close(model);
  printf("reads: %lu reads of at most %lu bytes, each made to fail\n", (unsigned long)failed, (unsigned long)store.most);
  free(raw);
  free((void *)(uintptr_t)store.bytes);
  return report("reads");
}
