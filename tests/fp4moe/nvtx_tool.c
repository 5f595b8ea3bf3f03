/* An NVTX tool for tests: what nsys does at its end of the injection protocol, writing each event as a line to $NVTX_TOOL_LOG. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef const void *(*get_table_t)(uint32_t);
typedef struct { size_t size; int (*get)(int, void ****, unsigned *); } callbacks_t;
typedef struct { size_t size; uint32_t version, reserved; void (*set)(uint32_t); } version_t;
typedef struct {
    uint16_t version, size; uint32_t category; int32_t color_type; uint32_t color; int32_t payload_type, reserved;
    union { int64_t i; double d; } payload;
    int32_t message_type; const char *message;
} attributes_t;

static FILE *out;
static void tell(const char *what, const attributes_t *a) {
    fprintf(out, "%s %s size=%d type=%d", what, a->message, a->size, a->payload_type);
    if (a->payload_type == 2) fprintf(out, " %lld", (long long)a->payload.i);
    if (a->payload_type == 3) fprintf(out, " %g", a->payload.d);
    fputc('\n', out); fflush(out);
}
static int push(void *domain, const attributes_t *a) { (void)domain; tell("push", a); return 0; }
static int pop(void *domain) { (void)domain; fputs("pop\n", out); fflush(out); return 0; }
static uint64_t start(void *domain, const attributes_t *a) { (void)domain; tell("start", a); return 77; }
static void end(void *domain, uint64_t id) { (void)domain; fprintf(out, "end %llu\n", (unsigned long long)id); fflush(out); }
static void *create(const char *name) { fprintf(out, "domain %s\n", name); fflush(out); return (void *)0x5; }

int InitializeInjectionNvtx2(get_table_t table) {
    const callbacks_t *callbacks = table(1);
    const version_t *version = table(3);
    void ***slots; unsigned size = 0;
    out = fopen(getenv("NVTX_TOOL_LOG"), "w");
    if (!out || !callbacks || getenv("NVTX_TOOL_REFUSES")) return 0;
    if (version) version->set(3);
    if (!callbacks->get(5, &slots, &size) || size < 16 || slots[0]) return 0;
    *slots[2] = (void *)start; *slots[3] = (void *)end;
    *slots[4] = (void *)push; *slots[5] = (void *)pop; *slots[12] = (void *)create;
    return 1;
}
