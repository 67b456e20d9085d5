/* Compiled, not run: each row of the table is an array whose size is negative if the row is wrong. */
#include "attar.h"

#define HERE(wide, narrow) (sizeof(void *) == 8 ? (wide) : (narrow))
#define SIZE(type, wide, narrow) typedef char type##_has_size[sizeof(type) == HERE(wide, narrow) ? 1 : -1];
#define FIELD(type, name, wide, narrow) \
  typedef char type##_##name##_is_there[offsetof(type, name) == HERE(wide, narrow) ? 1 : -1];
#include "layout.h"

int main(void) { return 0; }
