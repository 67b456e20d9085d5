/* The little this program wants from a board. */
#ifndef BOARD_H
#define BOARD_H
#include <stddef.h>
#include <stdint.h>

void board_print(const char *text);
_Noreturn void board_exit(int status);

/* Starts the counter of instructions; board_instructions says how many were executed since. */
void board_count(void);
uint32_t board_instructions(void);

/* Paints the unused part of the stack; stack_used says how many bytes were ever in use since. */
void stack_paint(void);
size_t stack_used(void);
#endif
