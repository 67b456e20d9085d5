/* A story told by a microcontroller: the model lies in flash, memory is two static arrays. */
#include "attar.h"
#include "board.h"

enum { CONTEXT = 160, TOKENS = 128 };

extern const uint8_t model_start[], model_end[];

/* attar_plan says how much is needed; what is lent too much here, a product would not have. */
static _Alignas(ATTAR_ALIGN) uint8_t model_memory[256 * 1024];
static _Alignas(ATTAR_ALIGN) uint8_t session_memory[512 * 1024];
static float logits[2048]; /* only for the hash */

static void number(const char *before, uint64_t value, const char *after)
{
    char text[24], *digit = text + sizeof text - 1;
    *digit = 0;
    do *--digit = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    board_print(before);
    board_print(digit);
    board_print(after);
}

static void check(attar_status status, const attar_error *error)
{
    if (status == ATTAR_OK) return;
    board_print(error != NULL && error->code == status ? error->msg : attar_status_str(status));
    board_print("\n");
    board_exit(1);
}

/* FNV-1a: what models/attar-1m.tokens has for the other machines. */
static uint64_t hash(uint64_t hash, const void *data, size_t n)
{
    for (const uint8_t *byte = data; n != 0; --n) hash = (hash ^ *byte++) * 0x100000001b3u;
    return hash;
}

/* Opens the model and reads the prompt; says what memory that took. */
static attar_session *open(attar_model **model)
{
    attar_error error = {.size = sizeof error};
    attar_source source;
    attar_config config = {.size = sizeof config, .n_ctx = CONTEXT, .n_prefill = 1};
    attar_plan_info plan = {.size = sizeof plan};
    attar_mem for_model = {model_memory, sizeof model_memory};
    attar_mem for_session = {session_memory, sizeof session_memory}; /* until it is open, room for other work */
    attar_session *session;
    attar_token prompt[16];
    size_t n = sizeof prompt / sizeof *prompt;

    source.size = sizeof source;
    check(attar_source_memory(&source, model_start, (size_t)(model_end - model_start)), NULL);
    check(attar_plan(&source, &config, &for_session, &plan, &error), &error);
    number("model arena     ", plan.model_arena, " bytes\n");
    number("session arena   ", plan.session_arena, " bytes, of these ");
    number("", plan.kv_bytes, " keys and values\n");
    for_model.size = plan.model_arena < sizeof model_memory ? plan.model_arena : sizeof model_memory;
    check(attar_model_open(&source, &config, &for_model, model, NULL, NULL, &error), &error);
    check(attar_tokenize(*model, "Once upon a time", 16, 0, &for_session, prompt, &n), NULL);
    for_session.size = plan.session_arena < sizeof session_memory ? plan.session_arena : sizeof session_memory;
    check(attar_session_open(*model, &config, &for_session, &session, &error), &error);
    check(attar_prefill(session, prompt, n, NULL), NULL);
    return session;
}

int main(void)
{
    attar_model *model;
    attar_session *session;
    uint32_t fewest = UINT32_MAX, most = 0;
    uint64_t all = 0, seen = 0xcbf29ce484222325u;

    board_count();
    session = open(&model);
    number("to open         ", board_instructions(), " instructions\n");
    number("stack to open   ", stack_used(), " bytes\n\nOnce upon a time");
    stack_paint();
    for (int i = 0; i < TOKENS; ++i) {
        attar_token token;
        char text[64];
        size_t n = sizeof logits / sizeof *logits, len = sizeof text - 1;
        uint32_t spent;

        board_count();
        check(attar_logits(session, logits, &n), NULL);
        check(attar_step(session, NULL, &token, NULL), NULL);
        spent = board_instructions();
        all += i > 0 ? spent : 0; /* the first one follows the prompt, whose work is done */
        fewest = i > 0 && spent < fewest ? spent : fewest;
        most = spent > most ? spent : most;
        seen = hash(hash(seen, logits, n * sizeof *logits), &token, sizeof token);
        check(attar_detokenize(model, &token, 1, 0, (uint8_t *)text, &len), NULL);
        text[len] = 0;
        board_print(text);
    }
    number("\n\nstack a token   ", stack_used(), " bytes\n");
    number("a token         ", all / (TOKENS - 1), " instructions, from ");
    number("", fewest, " to ");
    number("", most, " as the text grows\n");
    number("tokens          ", TOKENS, "\nhash            ");
    for (int shift = 60; shift >= 0; shift -= 4) board_print((char[]){"0123456789abcdef"[seen >> shift & 15], 0});
    board_print("\n");
    attar_session_close(session);
    attar_model_close(model);
    return 0;
}
