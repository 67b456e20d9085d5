/* attar.h - the C interface of Attar, an embedded language-model runtime. ABI 1.0.
 *
 * C99 or C++11, also freestanding: this header needs <stddef.h> and <stdint.h> alone.
 *
 * THE CONTRACT
 *
 * Failure. No call aborts, exits, throws, longjmps, prints, starts a thread or installs a signal handler. Every call
 *   that can fail returns an attar_status: 0, or a negative ATTAR_E_*. A call that fails changes nothing, unless its
 *   comment says "partial". A handle that met a defect of the library gives ATTAR_E_INTERNAL once and ATTAR_E_STATE from
 *   then on; it can still be closed. Where no operating system is, a defect cannot be caught: see the limits below.
 * Arguments. NULL handles, pointers that must not be NULL, wrong sizes, token ids out of range, lengths beyond any object
 *   and calls in the wrong order give a status. A pointer that does not point to what it should cannot be noticed.
 * Memory. All of it comes from the attar_mem given to attar_model_open and attar_session_open. attar_plan says how many
 *   bytes that will be, exactly, before anything is loaded. After attar_session_open has returned ATTAR_OK, prefill, step,
 *   generate, logits, score, embed, state_save, state_load, rewind and stats allocate nothing. An attar_mem pointer that is NULL,
 *   or has a NULL base, asks the library to claim the planned bytes in one piece from the system's heap; without an
 *   operating system that is ATTAR_E_NOMEM.
 * Structs. All but attar_mem begin with `size`, which the caller sets to its sizeof. All fields 0 is a valid default.
 *   Later versions add fields at the end only. A library that meets a larger struct than it knows accepts it if the
 *   part it does not know is zero, else ATTAR_E_VERSION. No struct has padding the fields do not show, on 32-bit and on
 *   64-bit targets; pointers and size_t have the target's size, everything else the same size everywhere.
 * Threads. A const handle may be used by many threads at once, any other by one at a time; a call into a session that is
 *   at work, from another thread or from its own callback, gives ATTAR_E_STATE. attar_cancel is the exception: any
 *   thread, signal handler or interrupt. The library calls back only from the calling thread, and through attar_exec.
 *   Without an operating system, attar_probe, attar_plan, attar_tokenize and the open and close calls must not overlap
 *   each other, whatever their handles.
 * Lifetimes. What a source maps must stay readable and unchanged until attar_model_close. A model must outlive its
 *   sessions, and memory lent must outlive the handle in it. Of structs passed in, nothing is kept but what the pointers
 *   ctx, read_at, map, unmap, now_ns, idle and parallel_for point to. Closing twice is an error that cannot be noticed.
 * Buffers. Where a call takes a buffer and `*len`, `*len` is the room there is, and becomes the room that is needed. If
 *   there was too little the call gives ATTAR_E_SMALLBUF and what the buffer holds is undefined; with a NULL buffer and
 *   *len = 0 it only says the size. Text buffers end with a zero byte, which counts.
 * Numbers. The same tokens give the same logits, bit for bit, on every processor, with any attar_exec, and however a
 *   prompt is divided among calls.
 *
 * HONEST LIMITS
 *   A file that is mapped (attar_source_fd with residency 0) and then shrinks or fails to read makes the system send
 *   SIGBUS: no library can turn that into a status. ATTAR_RESIDENCY_COPY closes the hole for the price of the memory.
 *   Callbacks must return: nothing may throw or longjmp through this library.
 *   Built without an operating system, a defect of this library cannot become ATTAR_E_INTERNAL: the core that met it
 *   executes an instruction no core knows (udf, unimp, ud2, unreachable), which reaches the fault handler or the debugger.
 *   On kinds of cores other than Arm, RISC-V, x86 and WebAssembly it loops in place: have a watchdog.
 *   ATTAR_DEVICE_GPU, in a library built with it, brings a driver, which is not ours. A driver claims memory from the heap,
 *   outside of any attar_mem, whenever it likes, starts threads, may print, and may end the process when its memory lacks.
 *   All that is the library's own stays as said above, but numbers: those of a GPU differ in the last digits from the
 *   CPU's and from another GPU's. Each session has the weights once more in the device's memory, and what the device has
 *   no room for, or cannot run, runs on the CPU; a plan holds as long as the device has as much room as it had then.
 */
#ifndef ATTAR_H
#define ATTAR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ATTAR_API
#define ATTAR_API
#endif

#define ATTAR_ABI_MAJOR 1u /* as in libattar.so.1; another only when old programs would break */
#define ATTAR_ABI_MINOR 0u /* counts functions and trailing fields added since */

typedef int32_t attar_status;
enum {
  ATTAR_OK = 0,
  ATTAR_E_ARG = -1,           /* an argument that makes no sense */
  ATTAR_E_NOMEM = -2,         /* the memory lent, or the heap, does not suffice */
  ATTAR_E_IO = -3,            /* the source could not be read */
  ATTAR_E_FORMAT = -4,        /* the file breaks its format, or lacks something a model needs */
  ATTAR_E_UNSUPPORTED = -5,   /* sound, but not in this build */
  ATTAR_E_LIMIT = -6,         /* beyond attar_limits, or a limit of the library */
  ATTAR_E_CANCELLED = -7,     /* attar_cancel, a callback, or a deadline */
  ATTAR_E_CONTEXT_FULL = -8,  /* n_ctx tokens are held */
  ATTAR_E_VERIFY = -9,        /* a saved state is damaged, or belongs to another model or configuration */
  ATTAR_E_VERSION = -10,      /* a struct or saved state of a version that is not known */
  ATTAR_E_STATE = -11,        /* the handle is at work, or met a defect before */
  ATTAR_E_DEVICE = -12,       /* a device failed */
  ATTAR_E_INTERNAL = -13,     /* a defect of the library */
  ATTAR_E_SMALLBUF = -14,     /* the buffer is too small; the size needed is given */
  ATTAR_E_CONSTRAINT = -15    /* a constraint cannot be met */
};

typedef int32_t attar_token; /* 0 to the number of tokens - 1 */
#define ATTAR_TOKEN_NONE (-1)

/* Memory is used from the first multiple of this on: lend memory aligned so, and the plan is exact; else lend up to
   ATTAR_ALIGN - 1 bytes more. */
#define ATTAR_ALIGN 64u

typedef struct attar_model attar_model;           /* weights and vocabulary; never changes, may be shared */
typedef struct attar_session attar_session;       /* one text: its tokens, keys and values, random numbers */
typedef struct attar_adapter attar_adapter;       /* a low-rank change of a model */
typedef struct attar_constraint attar_constraint; /* a compiled grammar */

/* What went wrong, where a call takes one; it may be NULL. Written on failure alone. */
typedef struct attar_error {
  uint32_t size;  /* sizeof(attar_error) */
  int32_t code;   /* the status */
  uint64_t where; /* ATTAR_E_FORMAT: byte of the file, where one is to blame; else 0 */
  char msg[160];  /* one sentence in UTF-8, ends with a zero byte, cut short if need be */
} attar_error;

/* Memory the caller lends. This struct never changes. */
typedef struct attar_mem {
  void *base;  /* NULL: the library claims what it needs from the heap, and gives it back when the handle is closed */
  size_t size; /* bytes */
} attar_mem;

/* Where the bytes of a file come from: memory, flash, a partition, a decrypting reader. The callbacks must not call this
   library. They are called during attar_probe, attar_plan and attar_model_open, and `unmap` during attar_model_close. */
typedef struct attar_source {
  uint32_t size;   /* sizeof(attar_source) */
  uint32_t flags;  /* 0; set by attar_source_memory and attar_source_fd alone */
  uint64_t length; /* bytes of the file */
  uint64_t start;  /* where the file begins in what `ctx` stands for: added to every `offset` below */
  void *ctx;
  /* Puts n bytes from `offset` on to dst; 0 if it did. Needed, unless all is mapped. */
  int32_t (*read_at)(void *ctx, uint64_t offset, void *dst, size_t n);
  /* Where n bytes from `offset` on lie, or NULL if they can only be read. Optional; asked for the whole file once. */
  const void *(*map)(void *ctx, uint64_t offset, size_t n);
  /* Takes back what map returned. Optional. */
  void (*unmap)(void *ctx, const void *address, size_t n);
} attar_source;

/* How work is spread over threads the caller lends. parallel_for must call fn(arg, i) for every i below n exactly once, on
   any threads at once, and return when all have returned. It is called many times a token: threads should spin briefly
   before they sleep. fn never blocks. */
typedef struct attar_exec {
  uint32_t size;      /* sizeof(attar_exec) */
  uint32_t n_workers; /* threads that work at once, the caller's included, 1 to 256; n is never larger */
  void *ctx;
  void (*parallel_for)(void *ctx, uint32_t n, void (*fn)(void *arg, uint32_t i), void *arg);
} attar_exec;

/* Time, for deadlines and pauses. NULL where an operating system is means its own. */
typedef struct attar_clock {
  uint32_t size; /* sizeof(attar_clock) */
  uint32_t flags; /* 0 */
  void *ctx;
  uint64_t (*now_ns)(void *ctx);           /* nanoseconds since any fixed moment; never goes back */
  void (*idle)(void *ctx, uint64_t ns);    /* waits about so long, at most 5 ms at a time; NULL: no pauses */
} attar_clock;

/* What a file may ask for, so that one that is not trusted fails early. 0: the library's own bound. */
typedef struct attar_limits {
  uint32_t size;           /* sizeof(attar_limits) */
  uint32_t max_tensors;    /* tensors, and metadata keys */
  uint64_t max_meta_bytes; /* bytes before the weights */
  uint64_t max_ram;        /* bytes of model arena plus session arena */
  uint32_t max_vocab;      /* tokens */
  uint32_t max_layers;
} attar_limits;

/* Default: F16. Q8_0 needs heads of a multiple of 32 numbers, else ATTAR_E_UNSUPPORTED. */
enum { ATTAR_KV_DEFAULT = 0, ATTAR_KV_F32 = 1, ATTAR_KV_F16 = 2, ATTAR_KV_Q8_0 = 3 };
enum { ATTAR_NUMERIC_FAST = 0, ATTAR_NUMERIC_PORTABLE = 1 };                            /* today the same */
enum { ATTAR_DEVICE_CPU = 0, ATTAR_DEVICE_GPU = 1 };                                    /* GPU: by WebGPU */
enum { ATTAR_RESIDENCY_MAP = 0, ATTAR_RESIDENCY_COPY = 1, ATTAR_RESIDENCY_STREAM = 2 }; /* stream: unsupported */

/* How to open. Give the same to attar_plan, attar_model_open and attar_session_open. NULL: all defaults. */
typedef struct attar_config {
  uint32_t size;         /* sizeof(attar_config) */
  uint32_t n_ctx;        /* tokens a session holds; 0: as many as the model knows, at most 4096 */
  uint32_t n_prefill;    /* tokens of a prompt worked on together; 0: 512. More is faster and takes more memory */
  uint32_t kv_type_k;    /* ATTAR_KV_*: encoding of keys */
  uint32_t kv_type_v;    /* ATTAR_KV_*: encoding of values; today the same as keys */
  uint32_t numeric_mode; /* ATTAR_NUMERIC_*; on the CPU both give the same bits everywhere today */
  uint32_t device;       /* ATTAR_DEVICE_*. GPU: ATTAR_E_UNSUPPORTED in a library built without or with
                            ATTAR_NUMERIC_PORTABLE, ATTAR_E_DEVICE where there is none; see the limits above */
  uint32_t residency;    /* ATTAR_RESIDENCY_*: weights in place where the source can map, or copied to the model arena */
  uint64_t window_bytes; /* for ATTAR_RESIDENCY_STREAM; 0 */
  uint64_t seed;         /* of the session's random numbers */
  const attar_exec *exec;     /* NULL: all work is done on the calling thread */
  const attar_limits *limits; /* NULL: the library's own bounds */
  const attar_clock *clock;   /* NULL: the system's, where there is one */
  const uint8_t *trust_key;   /* NULL; a key asks to refuse altered weights, which is ATTAR_E_UNSUPPORTED today */
  uint32_t trust_key_len;     /* bytes */
  uint32_t flags;             /* 0 */
} attar_config;

/* Memory, known before anything is loaded: exact bytes, for the machine that is asked. */
typedef struct attar_plan_info {
  uint32_t size;          /* sizeof(attar_plan_info) */
  uint32_t fits;          /* whether both arenas together are within limits->max_ram; 1 without a limit */
  uint64_t model_arena;   /* what attar_model_open needs */
  uint64_t session_arena; /* what attar_session_open needs */
  uint64_t mapped_file;   /* used in place: 0 if the file is copied, which counts in model_arena */
  uint64_t device_bytes;  /* of the device's own memory, weights included; 0 on the CPU */
  uint64_t kv_bytes;      /* keys and values, in session_arena; on a GPU in device_bytes or session_arena */
  uint64_t scratch_bytes; /* the rest of session_arena; on a GPU all of it */
} attar_plan_info;

/* How a token is chosen. All 0, or NULL, takes the likeliest always. The order: penalty, top_k, top_p, min_p, temp. */
typedef struct attar_sampling {
  uint32_t size;          /* sizeof(attar_sampling) */
  float temp;             /* 0 to 100; 0: the likeliest */
  float top_p;            /* among the likeliest that together have this probability, up to 1; 0: all */
  float min_p;            /* not those less likely than this share of the likeliest, up to 1; 0: all */
  float repeat_penalty;   /* divides the logits of recent tokens, 0.01 to 100; 0: off */
  int32_t top_k;          /* among this many of the likeliest; 0: all */
  uint32_t repeat_last_n; /* how many tokens are recent, at most 256; 0: 64 */
  uint32_t flags;         /* 0 */
  uint64_t seed;          /* generate: not 0 starts the random numbers anew. Ignored by step */
} attar_sampling;

/* Called by attar_generate for each token but one that ends the text; not 0 stops. `utf8` is whole characters alone, maybe
   none: a character waits for its last byte, and text that may become a stop string waits until it has not. What waits
   when generation ends comes in a last call with ATTAR_TOKEN_NONE and no raw bytes. `raw` is the token's own bytes. Neither
   ends with a zero, both are lent for the call. `logprob` is the natural logarithm of the probability the model gave the
   token before penalty, temperature and choice. */
typedef int32_t (*attar_on_token)(void *user, attar_token id, const char *utf8, size_t utf8_len, const uint8_t *raw,
                                  size_t raw_len, float logprob);

/* What to generate. NULL: all defaults. */
typedef struct attar_request {
  uint32_t size;        /* sizeof(attar_request) */
  uint32_t max_tokens;  /* 0: until the text ends or the context is full */
  uint64_t deadline_ns; /* nanoseconds from the start of the call; 0: none */
  uint32_t duty_percent; /* share of time to work, 1 to 100: pauses between tokens keep heat and power down. 0: 100 */
  uint32_t draft_ngram; /* 0 */
  uint32_t n_stop;      /* stop strings, at most 16 */
  float adapter_scale;  /* of the adapter */
  const attar_sampling *sampling; /* NULL: the likeliest */
  const attar_adapter *adapter;   /* NULL */
  attar_constraint *constraint;   /* NULL */
  const char *const *stop;        /* texts in UTF-8, 1 to 64 bytes, that end generation and are not handed out */
  attar_on_token on_token;        /* NULL: nobody is told */
  void *user;                     /* for on_token */
} attar_request;

/* Why attar_generate ended. */
enum {
  ATTAR_STOP_NONE = 0,
  ATTAR_STOP_END = 1,         /* the model ended the text; its token is held and counted */
  ATTAR_STOP_LENGTH = 2,      /* max_tokens */
  ATTAR_STOP_STRING = 3,      /* a stop string; its tokens are held and counted */
  ATTAR_STOP_CALLBACK = 4,    /* on_token */
  ATTAR_STOP_DEADLINE = 5,    /* deadline_ns */
  ATTAR_STOP_CANCELLED = 6,   /* attar_cancel */
  ATTAR_STOP_CONTEXT_FULL = 7 /* n_ctx */
};

typedef struct attar_result {
  uint32_t size;        /* sizeof(attar_result) */
  uint32_t n_prompt;    /* tokens held when the call began */
  uint32_t n_generated; /* tokens appended since */
  int32_t stop_reason;  /* ATTAR_STOP_* */
  double logprob_sum;   /* of the tokens appended */
} attar_result;

/* -- versions -- */

/* ATTAR_ABI_MAJOR << 16 | ATTAR_ABI_MINOR of the library in use: compare the major with the header's. Any thread. */
ATTAR_API uint32_t attar_abi_version(void);

/* A few words in English, never NULL, for ever valid. Any thread. */
ATTAR_API const char *attar_status_str(attar_status status);

/* -- sources -- */

/* n bytes that stay where they are: memory, flash. Nothing is copied (unless ATTAR_RESIDENCY_COPY). */
ATTAR_API attar_status attar_source_memory(attar_source *out, const void *data, size_t n);

/* `length` bytes from `start` on of an open file; length 0: to its end. The file is mapped, or read where residency asks
   for a copy. The descriptor must stay open until attar_model_open has returned. Without an operating system:
   ATTAR_E_UNSUPPORTED. */
ATTAR_API attar_status attar_source_fd(attar_source *out, int fd, uint64_t start, uint64_t length);

/* -- models -- */

/* Says what a file is, as JSON, without loading it. `scratch` is used for the length of the call: a few times the bytes
   before the weights, and the whole file too if the source cannot map. */
ATTAR_API attar_status attar_probe(const attar_source *source, const attar_limits *limits, const attar_mem *scratch,
                                   char *json, size_t *json_len, attar_error *error);

/* Says how much memory a model and a session take. `scratch` is used for the length of the call: about a model arena, and a
   kilobyte a layer; ATTAR_E_NOMEM if it is too small. ATTAR_E_LIMIT where a limit other than max_ram is exceeded. */
ATTAR_API attar_status attar_plan(const attar_source *source, const attar_config *config, const attar_mem *scratch,
                                  attar_plan_info *out, attar_error *error);

/* Opens a model. `progress`, if not NULL, is told from 0 to 1000 how far it is; not 0 cancels with ATTAR_E_CANCELLED.
   On failure *out is NULL and the memory is the caller's again. */
ATTAR_API attar_status attar_model_open(const attar_source *source, const attar_config *config, const attar_mem *arena,
                                        attar_model **out, int32_t (*progress)(void *user, uint32_t permille),
                                        void *user, attar_error *error);

/* Closes a model whose sessions are closed. NULL is fine. */
ATTAR_API void attar_model_close(attar_model *model);

/* A metadata value of the file as text: a string as it is, a number in decimals, a flag as true or false. ATTAR_E_ARG if
   the file does not have the key, ATTAR_E_UNSUPPORTED for an array. */
ATTAR_API attar_status attar_model_meta(const attar_model *model, const char *key, char *text, size_t *len);

/* -- text -- */

enum {
  ATTAR_TOKENIZE_PLAIN = 1,  /* without the tokens the model wants first and last */
  ATTAR_TOKENIZE_CONTROL = 2 /* a control token's spelling becomes that token: for text one trusts alone */
};
enum { ATTAR_DETOKENIZE_CONTROL = 1 }; /* spell control tokens out instead of leaving them away */

/* Tokens of a text of any n bytes. `flags`: ATTAR_TOKENIZE_*, or 0 for the start of a text. `scratch` is used for the
   length of the call: 512 bytes and 128 more a byte of text suffice. *n_out counts tokens. ATTAR_E_UNSUPPORTED for a vocabulary without text,
   ATTAR_E_ARG for text it cannot spell. */
ATTAR_API attar_status attar_tokenize(const attar_model *model, const char *utf8, size_t n, uint32_t flags,
                                      const attar_mem *scratch, attar_token *out, size_t *n_out);

/* Bytes of tokens, one after another; a token may hold part of a character. `flags`: ATTAR_DETOKENIZE_*. *n_out counts
   bytes; no zero is added. Allocates nothing. */
ATTAR_API attar_status attar_detokenize(const attar_model *model, const attar_token *tokens, size_t n, uint32_t flags,
                                        uint8_t *out, size_t *n_out);

/* A conversation as the model was taught to read it. Today ATTAR_E_UNSUPPORTED. */
ATTAR_API attar_status attar_chat_format(const attar_model *model, const char *messages_json, size_t n, char *out,
                                         size_t *n_out, attar_error *error);

/* -- sessions -- */

/* Opens a session, empty. On failure *out is NULL and the memory is the caller's again. */
ATTAR_API attar_status attar_session_open(const attar_model *model, const attar_config *config, const attar_mem *arena,
                                          attar_session **out, attar_error *error);

/* Closes a session. NULL is fine. */
ATTAR_API void attar_session_close(attar_session *session);

/* Keeps the first n_keep tokens; 0 also starts the random numbers anew. ATTAR_E_ARG if fewer are held. */
ATTAR_API attar_status attar_session_rewind(attar_session *session, uint32_t n_keep);

/* -- running -- */

/* Appends tokens. Partial on ATTAR_E_CANCELLED: *n_done (may be NULL) of them were appended, whole groups of n_prefill, all
   even if the call was about to look for what follows them; go on with the rest. ATTAR_E_CONTEXT_FULL if they do not all fit, ATTAR_E_ARG for n = 0 or an id out of range: none was. */
ATTAR_API attar_status attar_prefill(attar_session *session, const attar_token *tokens, size_t n, size_t *n_done);

/* Chooses a token, appends it, and says which. Of `request` only sampling and deadline_ns count (ATTAR_E_CANCELLED when it
   passes). `logprob` as for attar_on_token; may be NULL. ATTAR_E_STATE if no token is held. */
ATTAR_API attar_status attar_step(attar_session *session, const attar_request *request, attar_token *out, float *logprob);

/* Goes on with the text until something stops it. `out` (may be NULL) is written also with ATTAR_E_CANCELLED and
   ATTAR_E_CONTEXT_FULL. Partial: tokens handed out are held by the session. ATTAR_E_STATE if no token is held. */
ATTAR_API attar_status attar_generate(attar_session *session, const attar_request *request, attar_result *out,
                                      attar_error *error);

/* Makes the running call, or the next, of prefill, step, generate, logits, score and embed return ATTAR_E_CANCELLED within one
   layer's work, or that of one reading of logits; that call uses the cancellation up. One store: any thread, signal handler or interrupt. */
ATTAR_API void attar_cancel(attar_session *session);

/* -- reading out -- */

/* Natural logarithms of the probabilities of tokens after those held, each after the ones before it. The first n_given
   count as context: `logprobs` (may be NULL) has room for n - n_given, `sum` (may be NULL) adds them. The session is left as
   it was. If it is empty n_given must be at least 1. */
ATTAR_API attar_status attar_score(attar_session *session, const attar_token *tokens, size_t n, size_t n_given,
                                   float *logprobs, double *sum);

/* What the model gives each token as the next after those held, before penalty, temperature and softmax: one float a token
   of the vocabulary. *n counts floats. ATTAR_E_STATE if no token is held, ATTAR_E_CANCELLED as prefill. */
ATTAR_API attar_status attar_logits(attar_session *session, float *out, size_t *n);

enum { ATTAR_POOL_MEAN = 0, ATTAR_POOL_LAST = 1 };

/* The last layer's normalised output for tokens after those held: their mean, or that of the last. *dim counts floats. The
   session is left as it was. */
ATTAR_API attar_status attar_embed(attar_session *session, const attar_token *tokens, size_t n, uint32_t pooling,
                                   float *out, size_t *dim);

/* -- saving -- */

/* Tokens, keys, values and random numbers as bytes, which load in every session of the same model and encoding of keys
   and values that has room. The same model: the same bytes before the weights, and the same first and last 64 of each
   tensor. */
ATTAR_API attar_status attar_state_save(const attar_session *session, void *buffer, size_t *n);

/* Takes a saved state on. It is checked as a whole, by a checksum too, before the session is touched; the checksum finds
   accidents, not forgeries. ATTAR_E_VERIFY, ATTAR_E_VERSION, or ATTAR_E_CONTEXT_FULL if it holds more than n_ctx. */
ATTAR_API attar_status attar_state_load(attar_session *session, const void *buffer, size_t n, attar_error *error);

/* -- adapters and constraints: not built yet, always ATTAR_E_UNSUPPORTED -- */

ATTAR_API attar_status attar_adapter_open(const attar_model *model, const attar_source *source, const attar_mem *arena,
                                          attar_adapter **out, attar_error *error);
ATTAR_API void attar_adapter_close(attar_adapter *adapter);
ATTAR_API attar_status attar_constraint_open(const attar_model *model, uint32_t kind, const char *text, size_t n,
                                             const attar_mem *arena, attar_constraint **out, attar_error *error);
ATTAR_API void attar_constraint_close(attar_constraint *constraint);

/* -- looking -- */

/* What the session holds, took and did, as JSON. */
ATTAR_API attar_status attar_stats(const attar_session *session, char *json, size_t *len);

#ifdef __cplusplus
}
#endif
#endif
