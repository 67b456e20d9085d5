/* What happens before main: the vector table, the FPU, .data, .bss, and paint on the stack. */
#include "board.h"

#include <stdint.h>

int main(void);

extern uint32_t stack_bottom[], stack_top[];
extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[];

#define PAINT 0xa5a5a5a5u
#define CPACR (*(volatile uint32_t *)0xe000ed88u)

void reset(void)
{
    CPACR |= 0xfu << 20; /* coprocessors 10 and 11 are the FPU; off after reset */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; ++to) *to = *from++;
    for (uint32_t *to = bss_start; to < bss_end; ++to) *to = 0;
    stack_paint();
    board_exit(main());
}

/* Volatile, lest the compiler make this loop a call and paint over that call's frame. */
void stack_paint(void)
{
    volatile uint32_t *here = __builtin_frame_address(0);
    for (volatile uint32_t *to = stack_bottom; to < here - 16; ++to) *to = PAINT;
}

size_t stack_used(void)
{
    const uint32_t *low = stack_bottom;
    while (low < stack_top && *low == PAINT) low++;
    return (size_t)((char *)stack_top - (char *)low);
}

static void fault(void)
{
    board_print("fault: the stack overflowed, or a bug\n");
    board_exit(1);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
