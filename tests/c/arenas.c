/* Memory: a plan is exact. Arenas of every smaller size give ATTAR_E_NOMEM and stay whole at their ends, one of the planned
   size is used to the last byte, wherever it lies. */
#include "check.h"

enum { GUARD = 64 };

/* An arena between guards. */
struct guarded {
  void *raw;
  unsigned char *base;
};

static struct guarded guarded_of(size_t most) {
  struct guarded memory;
  memory.base = (unsigned char *)aligned(most + 3 * GUARD, &memory.raw) + GUARD;
  return memory;
}

static attar_mem lend(const struct guarded *memory, size_t size) {
  attar_mem arena;
  memset(memory->base - GUARD, 0xa5, GUARD);
  memset(memory->base, 0xee, size); /* what lies there must not matter */
  memset(memory->base + size, 0xa5, GUARD);
  arena.base = memory->base;
  arena.size = size;
  return arena;
}

static int whole(const struct guarded *memory, size_t size) {
  for (size_t i = 0; i < GUARD; ++i)
    if (memory->base[-1 - (long)i] != 0xa5 || memory->base[size + i] != 0xa5) return 0;
  return 1;
}

/* All sizes up to `most`, but in the middle only some: near both ends each counts. */
static size_t next(size_t size, size_t most) {
  if (size < 512 || size + 512 >= most) return size + 1;
  size += most / 400 + 1;
  return size + 512 > most ? most - 512 : size;
}

static size_t used(const attar_session *session) {
  char json[1024];
  size_t len = sizeof json;
  CHECK_IS(attar_stats(session, json, &len), ATTAR_OK);
  const char *place = strstr(json, "\"arena_bytes\":");
  return place == NULL ? 0 : (size_t)strtoul(place + 14, NULL, 10);
}

int main(int argc, char **argv) {
  size_t len, tried = 0, scratch = 0;
  unsigned char *file = read_file(argv[argc - 1], &len);
  attar_source source = {0};
  attar_config config = config_of(24);
  attar_plan_info plan = {0}, again = {0};
  attar_model *model = NULL;
  attar_session *session = NULL;
  attar_error error = {0};
  attar_mem arena;
  source.size = sizeof source;
  plan.size = again.size = sizeof plan;
  error.size = sizeof error;
  config.n_prefill = 4;
  CHECK_IS(attar_source_memory(&source, file, len), ATTAR_OK);
  CHECK_IS(attar_plan(&source, &config, NULL, &plan, &error), ATTAR_OK);
  CHECK(plan.fits == 1 && plan.kv_bytes + plan.scratch_bytes == plan.session_arena && plan.device_bytes == 0);
  printf("arenas: model %lu bytes, session %lu bytes, of these %lu keys and values\n", (unsigned long)plan.model_arena,
         (unsigned long)plan.session_arena, (unsigned long)plan.kv_bytes);
  size_t for_model = (size_t)plan.model_arena, for_session = (size_t)plan.session_arena;

  struct guarded memory = guarded_of(for_model);
  for (size_t size = 0; size < for_model; size = next(size, for_model), ++tried) {
    arena = lend(&memory, size);
    model = (attar_model *)(uintptr_t)8;
    CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, &error), ATTAR_E_NOMEM);
    CHECK(model == NULL && whole(&memory, size));
  }
  arena = lend(&memory, for_model);
  CHECK_IS(attar_model_open(&source, &config, &arena, &model, NULL, NULL, &error), ATTAR_OK);

  struct guarded room = guarded_of(for_session);
  for (size_t size = 0; size < for_session; size = next(size, for_session), ++tried) {
    arena = lend(&room, size);
    session = (attar_session *)(uintptr_t)8;
    CHECK_IS(attar_session_open(model, &config, &arena, &session, &error), ATTAR_E_NOMEM);
    CHECK(session == NULL && whole(&room, size));
  }
  arena = lend(&room, for_session);
  CHECK_IS(attar_session_open(model, &config, &arena, &session, &error), ATTAR_OK);
  CHECK(used(session) == for_session);

  /* Nothing that runs takes more. */
  static const attar_token tokens[] = {1, 5, 9, 13, 17, 21};
  attar_request request = {0};
  static unsigned char state[1 << 20];
  size_t n = sizeof state;
  request.size = sizeof request;
  request.max_tokens = 12;
  CHECK_IS(attar_prefill(session, tokens, 6, NULL), ATTAR_OK);
  CHECK_IS(attar_generate(session, &request, NULL, NULL), ATTAR_OK);
  CHECK_IS(attar_state_save(session, state, &n), ATTAR_OK);
  CHECK_IS(attar_state_load(session, state, n, NULL), ATTAR_OK);
  CHECK(used(session) == for_session && whole(&room, for_session) && whole(&memory, for_model));
  attar_session_close(session);

  /* Lent at an odd address, the arena begins at the next multiple of ATTAR_ALIGN. */
  arena = lend(&room, for_session);
  arena.base = room.base + 1;
  arena.size = for_session - 1;
  CHECK_IS(attar_session_open(model, &config, &arena, &session, &error), ATTAR_E_NOMEM);
  arena.base = room.base - 1;
  arena.size = for_session + 1;
  CHECK_IS(attar_session_open(model, &config, &arena, &session, &error), ATTAR_OK);
  CHECK_IS(attar_prefill(session, tokens, 6, NULL), ATTAR_OK);
  attar_session_close(session);

  /* Scratch for a plan, for a probe and for tokens: too little is a status, enough gives the same answer. */
  size_t largest = for_model + (1 << 20);
  struct guarded spare = guarded_of(largest);
  attar_status status = ATTAR_E_NOMEM;
  for (size_t size = 0; status != ATTAR_OK && size <= largest; size += 4096, ++tried) {
    arena = lend(&spare, size);
    status = attar_plan(&source, &config, &arena, &again, &error);
    CHECK((status == ATTAR_OK || status == ATTAR_E_NOMEM) && whole(&spare, size));
    scratch = size;
  }
  CHECK(status == ATTAR_OK && memcmp(&plan, &again, sizeof plan) == 0);
  printf("arenas: a plan needs at most %lu bytes of scratch\n", (unsigned long)scratch);
  CHECK(scratch < 2 * for_model + 65536);
  char json[2048], *text;
  status = ATTAR_E_NOMEM;
  for (size_t size = 0; status != ATTAR_OK && size <= largest; size += 4096, ++tried) {
    arena = lend(&spare, size);
    n = sizeof json;
    status = attar_probe(&source, NULL, &arena, json, &n, &error);
    CHECK((status == ATTAR_OK || status == ATTAR_E_NOMEM) && whole(&spare, size));
  }
  CHECK_IS(status, ATTAR_OK);
  size_t longest = 600;
  text = (char *)malloc(longest);
  attar_token *ids = (attar_token *)malloc(longest * 4 * sizeof *ids);
  /* Some models know no text. */
  n = 0;
  int knows = attar_tokenize(model, "", 0, ATTAR_TOKENIZE_PLAIN, NULL, NULL, &n) == ATTAR_OK;
  for (int kind = 0; knows && kind < 4; ++kind) {
    for (size_t i = 0; i < longest; ++i)
      text[i] = (char)(kind == 0 ? (i % 7 == 0 ? ' ' : 'a' + i % 26) : kind == 1 ? ' ' : kind == 2 ? 'e' : 128 + i % 100);
    for (size_t letters = 0; letters <= longest; letters += 13) {
      size_t enough = 512 + 128 * letters; /* as the header says */
      for (size_t size = 0; size < enough; size += 16 + size / 8, ++tried) {
        arena = lend(&spare, size);
        n = longest * 4;
        status = attar_tokenize(model, text, letters, 0, &arena, ids, &n);
        CHECK((status == ATTAR_OK || status == ATTAR_E_NOMEM) && whole(&spare, size));
      }
      arena = lend(&spare, enough);
      n = longest * 4;
      CHECK_IS(attar_tokenize(model, text, letters, 0, &arena, ids, &n), ATTAR_OK);
    }
  }
  printf("arenas: %lu sizes tried\n", (unsigned long)tried);
  attar_model_close(model);
  free(memory.raw);
  free(room.raw);
  free(spare.raw);
  free(text);
  free(ids);
  free(file);
  return report("arenas");
}
