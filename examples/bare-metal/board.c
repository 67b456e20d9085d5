/* Output, exit and counting on an emulated board.
 *
 * Output and exit are semihosting: a breakpoint that the emulator, or a debugger, answers.
 *
 * Counting: under `qemu -icount shift=0` each instruction takes one nanosecond of the board's time.
 * SysTick runs at the core's 25 MHz, so one tick is 40 instructions; it has 24 bits and lasts for
 * 671 million. On a real board the same code counts cycles if INSTRUCTIONS_PER_TICK is 1. */
#include "board.h"

enum { WRITE0 = 0x04, EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026, INSTRUCTIONS_PER_TICK = 40 };

#define SYST_CSR (*(volatile uint32_t *)0xe000e010u)
#define SYST_RVR (*(volatile uint32_t *)0xe000e014u)
#define SYST_CVR (*(volatile uint32_t *)0xe000e018u)

static int semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void board_print(const char *text)
{
    semihost(WRITE0, text);
}

_Noreturn void board_exit(int status)
{
    const uint32_t argument[2] = {APPLICATION_EXIT, (uint32_t)status};
    semihost(EXIT_EXTENDED, argument);
    for (;;) {}
}

void board_count(void)
{
    SYST_RVR = 0xffffff;
    SYST_CVR = 0; /* any write clears it; it reloads on the next tick */
    SYST_CSR = 5; /* on, from the core's clock, without an interrupt */
}

uint32_t board_instructions(void)
{
    return (0xffffff - SYST_CVR) * INSTRUCTIONS_PER_TICK;
}
